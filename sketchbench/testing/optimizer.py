"""Laws of an optimizer: torch's protocol, kept."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from sketchbench import Optimizer
from sketchbench.testing.break_even import breaks_even_at_the_rank_it_says
from sketchbench.testing.period import repeats
from sketchbench.testing.state import declares_its_state

SHAPES = ((6, 4), (4,), (2, 3, 2, 2))  # a matrix, a vector, a convolution's kernel
STEPS = 40
WATCHED = 220  # steps in which seldom work must show: some renew every hundred, or two


def descends(subject: Optimizer) -> None:
    """Steps from 0 bring ½‖w − w*‖², a convex quadratic, down."""
    params, targets = _problem()
    optimizer = subject.build(params)
    first = _loss(params, targets).item()
    for _ in range(STEPS * subject.full_period()):
        _step(optimizer, params, targets)
    last = _loss(params, targets).item()
    assert last < first, f"expected the loss to fall; it went from {first:.6g} to {last:.6g}"


def moves_every_parameter(subject: Optimizer) -> None:
    """Matrices, vectors and kernels all move within one period."""
    params, targets = _problem()
    optimizer = subject.build(params)
    before = [p.detach().clone() for p in params]
    for _ in range(subject.full_period()):
        _step(optimizer, params, targets)
    for p, old in zip(params, before, strict=True):
        assert not torch.equal(p, old), f"expected the parameter of shape {tuple(p.shape)} to move"


def skips_what_has_no_gradient(subject: Optimizer) -> None:
    """A parameter whose `.grad` is None stays as it is, and the others move."""
    params, targets = _problem()
    optimizer = subject.build(params)
    for index, idle in enumerate(params):
        before = idle.detach().clone()
        _step(optimizer, params, targets, idle=index)
        assert torch.equal(idle, before), (
            f"expected the parameter of shape {tuple(idle.shape)}, without gradient, to stay"
        )


def respects_the_rate_of_a_group(subject: Optimizer) -> None:
    """With lr 0 in every group, as a schedule may set it, nothing moves."""
    params, targets = _problem()
    optimizer = subject.build(params)
    _step(optimizer, params, targets)
    for group in optimizer.param_groups:
        assert "lr" in group, f"expected every group to have 'lr'; one has {', '.join(group)}"
        group["lr"] = 0.0
    before = [p.detach().clone() for p in params]
    for _ in range(subject.full_period()):
        _step(optimizer, params, targets)
    for p, old in zip(params, before, strict=True):
        assert torch.equal(p, old), (
            f"expected group['lr'] = 0 to leave the parameter of shape {tuple(p.shape)} alone"
        )


def moves_less_at_a_lower_rate(subject: Optimizer) -> None:
    """With a millionth of each group's lr, what moves first moves less.

    A millionth and not a tenth, so that a bound on the step binds no longer: K-FAC's on the KL
    divergence and Adafactor's 1/√t on the rate give two large rates one step.
    """
    params, targets = _problem()
    slowed, _ = _problem()
    optimizer, slow = subject.build(params), subject.build(slowed)
    for group in slow.param_groups:
        group["lr"] *= 1e-6
    start = [p.detach().clone() for p in params]
    for _ in range(subject.full_period()):
        _step(optimizer, params, targets)
        _step(slow, slowed, targets)
        if any(not torch.equal(p, old) for p, old in zip(params, start, strict=True)):
            break
    for p, q, old in zip(params, slowed, start, strict=True):
        far, near = (float((end.detach() - old).norm()) for end in (p, q))
        assert near < far or far == 0, (
            f"expected the parameter of shape {tuple(p.shape)} to move less with group['lr'] "
            f"times 1e-6; it moved by {near:.3g} instead of {far:.3g}"
        )


def goes_on_from_its_state(subject: Optimizer) -> None:
    """Saved, loaded (weights only) and gone on with, the trajectory is the same to the bit."""
    params, targets = _problem()
    optimizer = subject.build(params)
    steps = subject.full_period() + 1  # so that it is saved within a period
    for _ in range(steps):
        _step(optimizer, params, targets)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    again = [nn.Parameter(p.detach().clone()) for p in params]
    resumed = subject.build(again)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for _ in range(steps):
        _step(optimizer, params, targets)
        _step(resumed, again, targets)
    for p, q in zip(params, again, strict=True):
        assert torch.equal(p, q), (
            f"expected a loaded state to go on as before; the parameter of shape "
            f"{tuple(p.shape)} is off by {(p - q).abs().max():.3g}"
        )


def owns_its_parameters(subject: Optimizer) -> None:
    """Groups hold each parameter handed to build once, whatever iterable it came in."""
    params, _ = _problem()
    optimizer = subject.build(p for p in params)
    held: list[Any] = [p for group in optimizer.param_groups for p in group["params"]]
    assert sorted(map(id, held)) == sorted(map(id, params)), (
        f"expected param_groups to hold the {len(params)} parameters once each; got {len(held)}"
    )
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer.zero_grad()
    assert all(p.grad is None for p in params), "expected zero_grad() to clear every gradient"


def repeats_with_its_period(subject: Optimizer) -> None:
    """The operations of a step repeat with `full_period()`, and with no shorter period.

    Gradients are nearly constant, so that a bound on their norm tells all steps the same.
    """
    if any(part.changing for part in subject.parts()):
        pytest.skip(f"{subject.name} changes over time: no two periods need be equal")
    params, targets = _problem()
    optimizer = subject.build(params)
    rng = Generator().manual_seed(2)

    def step() -> None:
        for p, target in zip(params, targets, strict=True):
            p.grad = target * (1 + 0.1 * torch.randn(p.shape, generator=rng))
        optimizer.step()

    repeats(subject, step, WATCHED)


LAWS = (
    descends,
    moves_every_parameter,
    skips_what_has_no_gradient,
    respects_the_rate_of_a_group,
    moves_less_at_a_lower_rate,
    goes_on_from_its_state,
    owns_its_parameters,
    declares_its_state,
    breaks_even_at_the_rank_it_says,
    repeats_with_its_period,
)


def _problem() -> tuple[list[nn.Parameter], list[Tensor]]:
    """Return parameters near 0 and the minimum w*, all of whose entries are well away from it."""
    rng = Generator().manual_seed(0)
    params = [nn.Parameter(0.1 * torch.randn(shape, generator=rng)) for shape in SHAPES]
    targets = [5 + torch.rand(shape, generator=rng) for shape in SHAPES]
    return params, targets


def _loss(params: list[nn.Parameter], targets: list[Tensor]) -> Tensor:
    parts = [(p - t).square().sum() / 2 for p, t in zip(params, targets, strict=True)]
    return torch.stack(parts).sum()


def _step(
    optimizer: torch.optim.Optimizer,
    params: list[nn.Parameter],
    targets: list[Tensor],
    idle: int | None = None,
) -> None:
    """Take one step; the parameter `idle` gets no gradient."""
    optimizer.zero_grad()
    _loss(params, targets).backward()
    if idle is not None:
        params[idle].grad = None
    optimizer.step()
