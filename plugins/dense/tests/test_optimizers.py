"""Optimizer recipes are torch's optimizers, defaults included."""

import copy
import inspect
import pickle

import pytest
import sketchbench_dense as dense
import torch
from pydantic import ValidationError
from torch import Generator, nn

SAME = {
    dense.SGD: torch.optim.SGD,
    dense.Adam: torch.optim.Adam,
    dense.AdamW: torch.optim.AdamW,
    dense.Adagrad: torch.optim.Adagrad,
    dense.Adafactor: torch.optim.Adafactor,
}
needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")


def parameters():
    rng = Generator().manual_seed(0)
    shapes = ((5, 3), (5,), (3, 5), (2, 3, 2, 2), ())
    return [nn.Parameter(torch.randn(shape, generator=rng)) for shape in shapes]


def step(optimizer, params, seed):
    rng = Generator().manual_seed(seed)
    for p in params:
        p.grad = torch.randn(p.shape, generator=rng)
    optimizer.step()


def same(params, others):
    return all(torch.equal(p, q) for p, q in zip(params, others, strict=True))


@pytest.mark.parametrize(("recipe", "theirs"), SAME.items(), ids=lambda v: v.__name__)
def test_defaults_are_torchs(recipe, theirs):
    signature = inspect.signature(theirs).parameters
    for name, info in recipe.model_fields.items():
        assert info.default == signature[name].default, name


@pytest.mark.parametrize(("recipe", "theirs"), SAME.items(), ids=lambda v: v.__name__)
def test_built_is_torchs(recipe, theirs):
    assert type(recipe(lr=0.5).build(parameters())) is theirs
    assert recipe(lr=0.5).build(parameters()).param_groups[0]["lr"] == 0.5


def test_nesterov_needs_momentum():
    with pytest.raises(ValidationError, match="nesterov needs a momentum above 0"):
        dense.SGD(nesterov=True)


def test_muon_is_registered_where_torch_has_it():
    assert (dense.Muon in dense.register_optimizers()) == hasattr(torch.optim, "Muon")


@needs_muon
def test_muon_defaults_are_torchs():
    signature = inspect.signature(torch.optim.Muon).parameters
    for name in ("lr", "momentum", "nesterov", "weight_decay", "ns_steps"):
        assert dense.Muon.model_fields[name].default == signature[name].default, name


@needs_muon
def test_muon_steps_matrices_and_adamw_the_rest():
    params, others = parameters(), parameters()
    ours = dense.Muon(lr=0.02, adamw_lr=0.01).build(params)
    muon = torch.optim.Muon([p for p in others if p.ndim == 2], lr=0.02)
    adamw = torch.optim.AdamW([p for p in others if p.ndim != 2], lr=0.01)
    for seed in range(3):
        step(ours, params, seed)
        step(muon, others, seed)
        adamw.step()
    assert same(params, others)


@needs_muon
def test_muon_presents_one_optimizer_to_schedules():
    params = parameters()
    optimizer = dense.Muon(lr=0.02, adamw_lr=0.01).build(params)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    step(optimizer, params, 0)
    schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.01, 0.005]
    assert set(optimizer.state) == set(params)


@needs_muon
@pytest.mark.parametrize("shapes", [((2, 3),), ((3,),)])
def test_muon_takes_parameters_of_one_sort(shapes):
    params = [nn.Parameter(torch.ones(shape)) for shape in shapes]
    optimizer = dense.Muon().build(params)
    step(optimizer, params, 0)
    assert len(optimizer.param_groups) == 1


@needs_muon
def test_muon_returns_the_closures_loss():
    params = parameters()

    def closure():
        loss = params[0].square().sum()
        loss.backward()
        return loss

    before = params[0].detach().clone()
    assert dense.Muon().build(params).step(closure).item() == before.square().sum().item()
    assert not torch.equal(params[0], before)


@needs_muon
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_a_copy_of_muon_steps_as_the_original_does(copied):
    params = parameters()
    optimizer = dense.Muon(lr=0.02, adamw_lr=0.01).build(params)
    step(optimizer, params, 0)
    again = copied(optimizer)
    others = [p for group in again.param_groups for p in group["params"]]
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for seed in (1, 2):
        step(optimizer, params, seed)
        step(again, others, seed)
    assert same(params, others)


@needs_muon
def test_a_group_without_a_known_rule_is_refused():
    optimizer = dense.Muon().build(parameters())
    with pytest.raises(ValueError, match="'rule' must be one of muon, adamw; got None"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})
