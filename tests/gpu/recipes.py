"""One recipe on two devices: what it computes there, beside what it computes on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
Outcome = list[tuple[str, Tensor]]  # what a recipe computed, each by its name, on the CPU


def compared(kind: str, device: torch.device) -> str:
    """Compare every registered recipe of a kind with itself on the CPU; return a line.

    Raises `AssertionError` with all that failed or differ by more than their rounding.
    """
    worst, failed, left_out = {}, [], []
    for name, recipe in sorted(Registry.load().classes[kind].items()):
        try:
            variants = list(_variants(recipe))
        except Skip as reason:
            left_out.append(f"{name} ({reason})")
            continue
        for variant in variants:
            label = variant.label()
            try:
                worst[label] = max(_distances(variant, device), default=0.0)
            except Skip as reason:
                left_out.append(f"{label} ({reason})")
            except Exception as error:
                failed.append(f"{label}: {type(error).__name__}: {str(error).splitlines()[0]}")
    limit = LIMITS[kind]
    failed += [f"{name}: off by {far:.1e}" for name, far in worst.items() if not far <= limit]
    if failed:
        raise AssertionError("; ".join(failed))
    largest = max(worst, key=worst.__getitem__)
    text = f"{len(worst)} recipes within {limit:g} of the CPU, at most {worst[largest]:.1e}"
    return f"{text} ({largest})" + "".join(f"; left out: {each}" for each in left_out)


def _variants(recipe: type[Recipe]) -> Iterable[Recipe]:
    """Yield it as it is by default, and with each choice of each field that has a list of them."""
    usual = recipe(**NEEDED.get(recipe.name, {}))
    yield usual
    for name, field in recipe.model_fields.items():
        if get_origin(field.annotation) is Literal:
            for choice in get_args(field.annotation):
                if choice != getattr(usual, name):
                    with suppress(ValidationError):  # a choice that asks for other fields too
                        yield recipe(**NEEDED.get(recipe.name, {}), **{name: choice})


def _distances(recipe: Recipe, device: torch.device) -> Iterable[float]:
    """Yield relative distances in norm of everything that is computed on both devices."""
    compute = COMPUTE[recipe.kind]
    there, here = compute(recipe, device), compute(recipe, torch.device("cpu"))
    assert [name for name, _ in there] == [name for name, _ in here], "other results by name"
    for (name, found), (_, expected) in zip(there, here, strict=True):
        assert found.shape == expected.shape, f"'{name}' has shape {tuple(found.shape)}"
        known = ~expected.double().isnan()
        assert torch.equal(known, ~found.double().isnan()), f"'{name}' has NaN elsewhere"
        norm = float(expected.double()[known].norm())
        far = float((found.double() - expected.double())[known].norm())
        yield far / norm if norm else far


def _gradient(recipe: GradientSketch, device: torch.device) -> Outcome:
    sketch = recipe.build(SIZE, Generator().manual_seed(1), device)
    x = torch.randn(3, SIZE, generator=Generator().manual_seed(2)).to(device)
    image = sketch.apply(x)
    assert image.device.type == device.type, f"the image is on {image.device}"
    found = [("image", image), ("back", sketch.adjoint(image))]
    if hasattr(sketch, "accumulate"):
        streamed = torch.zeros_like(image)
        for start in range(0, SIZE, 1700):
            sketch.accumulate(streamed, x[:, start : start + 1700], start)
        found.append(("streamed", streamed))
    return _home(found)


def _covariance(recipe: CovarianceSketch, device: torch.device) -> Outcome:
    estimate = recipe.build(40, device)
    drawn = Generator().manual_seed(1)
    for rows in (1, 16, 70, 5):
        scale = torch.logspace(0, -2, 40)
        estimate.update((torch.randn(rows, 40, generator=drawn) * scale).to(device))
    x = torch.randn(40, 3, generator=drawn).to(device)
    dense = estimate.dense()
    assert dense.device.type == device.type, f"the estimate is on {dense.device}"
    return _home([("dense", dense), ("power", estimate.power(x, -0.5, 1e-2))])


def _optimizer(recipe: Optimizer, device: torch.device) -> Outcome:
    shapes = ((24, 16), (16,), (8, 4, 3, 3))
    drawn = Generator().manual_seed(1)
    params = [nn.Parameter(torch.randn(*s, generator=drawn).to(device)) for s in shapes]
    optimizer = recipe.build(params)
    for _ in range(STEPS):
        for p in params:
            p.grad = torch.randn(*p.shape, generator=drawn).to(device)
        optimizer.step()
    for p in params:
        for key, value in optimizer.state[p].items():
            if isinstance(value, Tensor) and value.ndim:
                assert value.device.type == device.type, f"state '{key}' is on {value.device}"
    return _home([(str(index), p.detach()) for index, p in enumerate(params)])


def _activation(recipe: ActivationSketch, device: torch.device) -> Outcome:
    model, batches = _problem(device)
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


def _monitor(recipe: Monitor, device: torch.device) -> Outcome:
    model, batches = _problem(device)
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


def _problem(device: torch.device) -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    """Return a small perceptron on `device`, with the same weights everywhere, and batches."""
    drawn = Generator().manual_seed(1)
    model = nn.Sequential(
        nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 5)
    )
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=drawn) / p.shape[-1] ** 0.5)
    inputs = torch.randn(STEPS, BATCH, 20, generator=drawn)
    targets = torch.randint(5, (STEPS, BATCH), generator=drawn)
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
# Relative distance in norm that float32 sums in another order may reach after a few steps.
LIMITS = {
    "activation_sketch": 1e-3,
    "covariance_sketch": 1e-4,
    "gradient_sketch": 1e-5,
    "monitor": 1e-3,
    "optimizer": 1e-3,
}
