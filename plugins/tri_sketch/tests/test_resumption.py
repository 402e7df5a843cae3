"""An adaptive run that is resumed from its state dict goes on as if undisturbed."""

import io

import pytest
import torch
from sketchbench_tri_sketch import EmaBasis, TriSketch
from torch import Generator, nn
from torch.nn import functional as F


def rng(seed=0):
    return Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


class Training:
    """A small model in training, an epoch at a time."""

    def __init__(self, recipe):
        model = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 3))
        with torch.no_grad():
            for number, parameter in enumerate(model.parameters()):
                parameter.copy_(normal(*parameter.shape, seed=number) * 0.3)
        self.sketched = recipe.build(model, 32, rng(1))

    def steps(self, seeds):
        for seed in seeds:
            targets = torch.randint(3, (32,), generator=rng(seed))
            self.sketched.accumulate(normal(32, 20, seed=seed).float(), targets, F.cross_entropy)

    def epoch(self, loss, seeds=range(3)):
        self.steps(seeds)
        return list(self.sketched.end_epoch(loss))


ADAPTIVE = [
    EmaBasis(rank=2, rank_max=8, patience_up=3, adapt="loss-patience"),
    EmaBasis(rank=2, rank_up=1, error_high=0.2, adapt="error"),
    TriSketch(rank=2, rank_up=1, beta=0.5, adapt="error"),
]


@pytest.mark.parametrize("recipe", ADAPTIVE, ids=lambda recipe: recipe.label())
def test_a_resumed_run_adapts_as_an_undisturbed_one(recipe):
    losses = [1.0, 1.1, 1.1, 1.1, 0.5, 0.6, 0.6, 0.6]
    undisturbed, first, resumed = (Training(recipe) for _ in range(3))
    expected = [undisturbed.epoch(loss) for loss in losses]
    assert any(expected[:5])
    assert any(expected[5:])
    found = [first.epoch(loss) for loss in losses[:5]]
    first.steps([0])
    file = io.BytesIO()
    torch.save(first.sketched.model.state_dict(), file)
    file.seek(0)
    resumed.sketched.model.load_state_dict(torch.load(file, weights_only=True))
    found += [resumed.epoch(losses[5], [1, 2]), *(resumed.epoch(loss) for loss in losses[6:])]
    assert found == expected


def test_the_rule_is_in_the_state_dict_and_no_parameter_is_added():
    model = Training(ADAPTIVE[0]).sketched.model
    assert model.state_dict()["0.controller._extra_state"]["rank"] == 2
    assert len(list(model.parameters())) == 4
