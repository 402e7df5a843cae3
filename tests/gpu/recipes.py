"""One recipe on two devices: what it computes there, beside what it computes on the CPU.

How far may they be apart? Ten times as far as the CPU's own results move when every input moves by
the last bit of the largest: where a method divides by small numbers, that is far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Literal, get_args, get_origin

import torch
from pydantic import ValidationError
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from sketchbench import (
    ActivationSketch,
    CovarianceSketch,
    GradientSketch,
    Monitor,
    Optimizer,
    Skip,
)
from sketchbench.recipe import Recipe
from sketchbench.registry import Registry

SIZE = 5000  # of a flat vector
BATCH, STEPS = 16, 6
NUDGE = 2.0**-23  # of the largest entry: its last bit in float32
ROOM, LEAST = 10, 5e-5  # times what a nudge does; of relative distance in norm, as in the laws
Outcome = list[tuple[str, Tensor]]  # what a recipe computed, each by its name, on the CPU


def compared(kind: str, device: torch.device) -> str:
    """Compare every registered recipe of a kind with itself on the CPU; return a line.

    Raises `AssertionError` with all that failed or is farther off than its rounding.
    """
    apart, failed, left_out = {}, [], []
    for variant in _known(kind, left_out):
        label = variant.label()
        try:
            far, allowed = _distance(variant, device)
        except Skip as reason:
            left_out.append(f"{label} ({reason})")
        except Exception as error:
            failed.append(f"{label}: {type(error).__name__}: {str(error).splitlines()[0]}")
        else:
            apart[label] = far
            if not far <= allowed:
                failed.append(f"{label}: off by {far:.1e}, allowed {allowed:.1e}")
    if failed:
        raise AssertionError("; ".join(failed))
    largest = max(apart, key=apart.__getitem__)
    text = f"{len(apart)} recipes like the CPU, at most {apart[largest]:.1e} apart ({largest})"
    return text + "".join(f"; left out: {each}" for each in left_out)


def _known(kind: str, left_out: list[str]) -> Iterable[Recipe]:
    for name, recipe in sorted(Registry.load().classes[kind].items()):
        try:
            yield from list(_variants(recipe))
        except Skip as reason:
            left_out.append(f"{name} ({reason})")


def _variants(recipe: type[Recipe]) -> Iterable[Recipe]:
    """Yield it as it is by default, and with each choice of each field that has a list of them."""
    usual = recipe(**NEEDED.get(recipe.name, {}))
    yield usual
    for name, field in recipe.model_fields.items():
        if get_origin(field.annotation) is Literal:
            for choice in get_args(field.annotation):
                if choice != getattr(usual, name) and (name, choice) not in ONLY_CPU:
                    with suppress(ValidationError):  # a choice that asks for other fields too
                        yield recipe(**NEEDED.get(recipe.name, {}), **{name: choice})


def _distance(recipe: Recipe, device: torch.device) -> tuple[float, float]:
    """Return how far the device is from the CPU, and how far it may be."""
    compute = COMPUTE[recipe.kind]
    cpu = torch.device("cpu")
    here, nudged = compute(recipe, cpu, 0.0), compute(recipe, cpu, NUDGE)
    there = compute(recipe, device, 0.0)
    return _apart(there, here), max(LEAST, ROOM * _apart(nudged, here))


def _apart(found: Outcome, expected: Outcome) -> float:
    """Return the largest relative distance in norm of results by the same name."""
    assert [name for name, _ in found] == [name for name, _ in expected], "other results by name"
    far = 0.0
    for (name, left), (_, right) in zip(found, expected, strict=True):
        assert left.shape == right.shape, f"'{name}' has shape {tuple(left.shape)}"
        known = ~right.isnan()
        assert torch.equal(known, ~left.isnan()), f"'{name}' has NaN elsewhere"
        gap, norm = ((each.double()[known]).norm() for each in (left - right, right))
        far = max(far, float(gap / norm if norm else gap))
    return far


def _drawn(shape: Sequence[int], seed: int, nudge: float, scale: Tensor | float = 1.0) -> Tensor:
    """Return scaled normals, each moved by `nudge` of the largest: as much as a norm is rounded."""
    rng = Generator().manual_seed(seed)
    entries = torch.randn(*shape, generator=rng) * scale
    way = torch.randint(2, shape, generator=rng).mul(2).sub(1)
    return entries + nudge * entries.abs().max() * way


def _gradient(recipe: GradientSketch, device: torch.device, nudge: float) -> Outcome:
    sketch = recipe.build(SIZE, Generator().manual_seed(1), device)
    x = _drawn((3, SIZE), 2, nudge).to(device)
    image = sketch.apply(x)
    assert image.device.type == device.type, f"the image is on {image.device}"
    found = [("image", image), ("back", sketch.adjoint(image))]
    if hasattr(sketch, "accumulate"):
        streamed = torch.zeros_like(image)
        for start in range(0, SIZE, 1700):
            sketch.accumulate(streamed, x[:, start : start + 1700], start)
        found.append(("streamed", streamed))
    return _home(found)


def _covariance(recipe: CovarianceSketch, device: torch.device, nudge: float) -> Outcome:
    estimate = recipe.build(40, device)
    for rows in (1, 16, 70, 5):
        scale = torch.logspace(0, -2, 40)
        estimate.update(_drawn((rows, 40), rows, nudge, scale).to(device))
    x = _drawn((40, 3), 2, nudge).to(device)
    dense = estimate.dense()
    ridge = 0.1 * float(dense.trace()) / 40  # as in the laws: condition at most 400
    assert dense.device.type == device.type, f"the estimate is on {dense.device}"
    return _home([("dense", dense), ("power", estimate.power(x, -0.5, ridge))])


def _optimizer(recipe: Optimizer, device: torch.device, nudge: float) -> Outcome:
    shapes = ((24, 16), (16,), (8, 4, 3, 3))
    params = [nn.Parameter(_drawn(shape, 1, nudge).to(device)) for shape in shapes]
    optimizer = recipe.build(params)
    for step in range(STEPS):
        for index, p in enumerate(params):
            p.grad = _drawn(p.shape, 10 * step + index, nudge).to(device)
        optimizer.step()
    for p in params:
        for key, value in optimizer.state[p].items():
            if isinstance(value, Tensor) and value.ndim:
                assert value.device.type == device.type, f"state '{key}' is on {value.device}"
    return _home([(str(index), p.detach()) for index, p in enumerate(params)])


def _activation(recipe: ActivationSketch, device: torch.device, nudge: float) -> Outcome:
    model, batches = _problem(device, nudge)
    sketched = recipe.build(model, BATCH, Generator().manual_seed(3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    found: Outcome = []
    for step, (inputs, targets) in enumerate(batches):
        optimizer.zero_grad()
        loss = sketched.accumulate(inputs, targets, F.cross_entropy)
        found.append((f"loss {step}", loss))
        optimizer.step()
    found += [(name, p.detach()) for name, p in model.named_parameters()]
    return _home(found)


def _monitor(recipe: Monitor, device: torch.device, nudge: float) -> Outcome:
    model, batches = _problem(device, nudge)
    watcher = recipe.build(model, BATCH, Generator().manual_seed(3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    watcher.observe(True)
    found: Outcome = []
    for step, (inputs, targets) in enumerate(batches):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        found += [(f"{name} {step}", value) for name, value in watcher.estimates().items()]
        optimizer.step()
    watcher.close()
    return _home(found)


def _problem(device: torch.device, nudge: float) -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    """Return a small perceptron on `device`, with the same weights everywhere, and batches."""
    model = nn.Sequential(
        nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 5)
    )
    with torch.no_grad():
        for index, p in enumerate(model.parameters()):
            p.copy_(_drawn(p.shape, index, nudge) / p.shape[-1] ** 0.5)
    inputs = _drawn((STEPS, BATCH, 20), 10, nudge)
    targets = torch.randint(5, (STEPS, BATCH), generator=Generator().manual_seed(11))
    batches = list(zip(inputs.to(device), targets.to(device), strict=True))
    return model.to(device), batches


def _home(found: list[tuple[str, Tensor]]) -> Outcome:
    return [(name, value.detach().cpu()) for name, value in found]


COMPUTE: dict[str, Callable[..., Outcome]] = {
    "activation_sketch": _activation,
    "covariance_sketch": _covariance,
    "gradient_sketch": _gradient,
    "monitor": _monitor,
    "optimizer": _optimizer,
}
NEEDED: dict[str, dict[str, Any]] = {"micro-batch": {"rows": 4}}  # fields without a default
ONLY_CPU = {("kernel", "compiled")}  # choices that aren't for other devices
