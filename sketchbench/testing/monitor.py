"""Laws of a monitor: it watches exact training, and leaves no trace in it."""

from __future__ import annotations

import gc
from collections.abc import Mapping

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from sketchbench import Monitor, Skip, Watcher
from sketchbench.autodiff import seeded
from sketchbench.measure.storages import size, storage

BATCH, STEPS = 8, 4
LAYERS = ("1", "3.0", "4")


def leaves_training_as_it_is(subject: Monitor) -> None:
    """After a few steps of Adam, parameters and gradients are those of the training alone."""
    alone, watched = _model(), _model()
    _train(alone, None)
    _train(watched, _built(subject, watched))
    for (name, p), q in zip(alone.named_parameters(), watched.parameters(), strict=True):
        for left, right, what in ((p, q, "values"), (_grad(p), _grad(q), "gradients")):
            assert torch.equal(left, right), (
                f"expected the {what} of '{name}' to be those of training without a monitor; "
                f"off by {(left - right).abs().max():.3g}"
            )


def leaves_the_global_generator(subject: Monitor) -> None:
    """Building, watching and reading draw from the generator handed to build."""
    model, before = _model(), torch.get_rng_state()
    _train(model, _built(subject, model))
    assert torch.equal(before, torch.get_rng_state()), (
        "expected torch's global generator to be untouched; draw from the rng handed to build"
    )


def names_its_layers(subject: Monitor) -> None:
    """`layers` names linear layers of the model, each once and in its order."""
    model = _model()
    layers = _built(subject, model).layers
    known = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    assert layers, "expected at least one layer"
    assert list(layers) == [name for name in known if name in layers], (
        f"expected layers among {', '.join(known)}, in this order; got {', '.join(layers)}"
    )


def estimates_one_number_a_layer(subject: Monitor) -> None:
    """Each step has the same estimates, (layers,) each, on the model's device; none is infinite."""
    model = _model()
    watcher = _built(subject, model)
    found = _train(model, watcher)
    assert found[0], "expected at least one estimate"
    for estimates in found:
        assert list(estimates) == list(found[0]), (
            f"expected the estimates of every step to be {', '.join(found[0])}; "
            f"got {', '.join(estimates)}"
        )
        for name, values in estimates.items():
            assert values.shape == (len(watcher.layers),), (
                f"expected '{name}' to have the shape ({len(watcher.layers)},) of the layers; "
                f"got {tuple(values.shape)}"
            )
            assert values.is_floating_point(), f"expected '{name}' in floating point"
            assert not values.requires_grad, f"expected '{name}' to be detached"
            assert not values.isinf().any(), f"expected '{name}' finite or NaN; got {values}"
    for name, values in found[-1].items():
        assert values.isfinite().all(), (
            f"expected '{name}' to have a value after {STEPS} steps; got {values.tolist()}"
        )


def rests_when_told(subject: Monitor) -> None:
    """While it rests, what it holds and what it says next are as if the steps hadn't been."""
    model, twin = _model(), _model()
    resting, away = _built(subject, model), _built(subject, twin)
    for each, watcher in ((model, resting), (twin, away)):
        _step(each, 0)
        watcher.estimates()
        watcher.observe(False)
    held, hooks = resting.held(), _hooks(model)
    for step in (5, 6, 7):
        _step(model, step)
    assert resting.held() == held, (
        f"expected a monitor that rests to hold the {held} bytes that it held; got {resting.held()}"
    )
    assert hooks == 0, f"expected no hook on the model while it rests; got {hooks}"
    said = []
    for each, watcher in ((model, resting), (twin, away)):
        watcher.observe(True)
        _step(each, 1)
        said.append(watcher.estimates())
    _same(said[0], said[1], "expected steps at rest to leave no trace in '{name}'")


def sees_nothing_in_evaluation(subject: Monitor) -> None:
    """Forward passes in evaluation mode or without gradients change nothing of what it says."""
    said = []
    for evaluated in (True, False):
        model = _model()
        watcher = _built(subject, model)
        _step(model, 0)
        watcher.estimates()
        if evaluated:
            inputs, _ = _batch(9)
            model.eval()(inputs)
            with torch.no_grad():
                model.train()(inputs)
        _step(model, 1)
        said.append(watcher.estimates())
    _same(said[0], said[1], "expected evaluation to leave no trace in '{name}'")


def counts_the_bytes_that_it_holds(subject: Monitor) -> None:
    """`held` is the sum of the storages that live on account of the monitor, each once."""
    model = _model()
    watcher = _built(subject, model)
    _train(model, watcher, keep=False)
    model.zero_grad()
    mine = {id(storage(t)) for t in (*model.parameters(), *model.buffers())}
    found = {id(s): size(s) for s in _storages(watcher) if id(s) not in mine}
    assert watcher.held() == sum(found.values()), (
        f"expected held() to be the {sum(found.values())} bytes of tensors that it refers to; "
        f"got {watcher.held()}"
    )


def goes_when_closed(subject: Monitor) -> None:
    """After `close` no hook of it is on the model."""
    model = _model()
    watcher = _built(subject, model)
    _step(model, 0)
    watcher.estimates()
    watcher.close()
    assert _hooks(model) == 0, f"expected close() to take its hooks off; got {_hooks(model)}"


def repeats_from_its_seed(subject: Monitor) -> None:
    """One seed gives one sequence of estimates, to the bit."""
    said = []
    for _ in range(2):
        model = _model()
        said.append(_train(model, _built(subject, model, seed=5)))
    for left, right in zip(*said, strict=True):
        _same(left, right, "expected the same seed to give the same '{name}'")


LAWS = (
    leaves_training_as_it_is,
    leaves_the_global_generator,
    names_its_layers,
    estimates_one_number_a_layer,
    rests_when_told,
    sees_nothing_in_evaluation,
    counts_the_bytes_that_it_holds,
    goes_when_closed,
    repeats_from_its_seed,
)


def _model() -> nn.Sequential:
    with seeded(Generator().manual_seed(0)):
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(16, 12),
            nn.ReLU(inplace=True),
            nn.Sequential(nn.Linear(12, 12, bias=False), nn.Tanh(), nn.Dropout(0.0)),
            nn.Linear(12, 3),
        )


def _batch(seed: int) -> tuple[Tensor, Tensor]:
    rng = Generator().manual_seed(seed)
    return torch.randn(BATCH, 1, 4, 4, generator=rng), torch.randint(3, (BATCH,), generator=rng)


def _built(subject: Monitor, model: nn.Module, seed: int = 0) -> Watcher:
    try:
        return subject.build(model, BATCH, Generator().manual_seed(seed))
    except Skip as reason:
        pytest.skip(str(reason))


def _step(model: nn.Module, seed: int) -> None:
    inputs, targets = _batch(seed)
    model.zero_grad()
    F.cross_entropy(model(inputs), targets).backward()


def _train(
    model: nn.Module, watcher: Watcher | None, keep: bool = True
) -> list[Mapping[str, Tensor]]:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    found = []
    for step in range(STEPS):
        _step(model, step)
        estimates = watcher.estimates() if watcher else {}
        if keep:
            found.append(estimates)
        optimizer.step()
    return found


def _same(left: Mapping[str, Tensor], right: Mapping[str, Tensor], expected: str) -> None:
    for name, values in left.items():
        assert torch.equal(values.nan_to_num(-1), right[name].nan_to_num(-1)), (
            f"{expected.format(name=name)}; got {values.tolist()} and {right[name].tolist()}"
        )


def _grad(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None, "expected a gradient; got None"
    return parameter.grad


def _hooks(model: nn.Module) -> int:
    """Return the number of hooks on modules and parameters."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    own = ("_backward_hooks", "_post_accumulate_grad_hooks")
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds) + sum(
        len(getattr(p, kind) or ()) for p in model.parameters() for kind in own
    )


def _storages(root: object) -> list[torch.UntypedStorage]:
    """Return the storages of all tensors that an object refers to, through objects of its own."""
    found, seen, todo = [], {id(root)}, [root]
    while todo:
        each = todo.pop()
        if isinstance(each, Tensor):
            found.append(storage(each))
            continue
        for other in gc.get_referents(each):
            plain = isinstance(other, (type, nn.Module, type(gc))) or callable(other)
            if not plain and id(other) not in seen:
                seen.add(id(other))
                todo.append(other)
    return found
