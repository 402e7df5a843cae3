"""An adversary: a search for the input on which a gradient sketch does worst.

    from sketchbench.testing.adversary import search

    found = search(FFD(out_size=16), 256)
    assert found.low <= 3, found

It knows nothing of how the sketch is made: it sees products with draws of it, and no catalogue of
inputs that broke others. κ(x) = D·E(‖Sx‖² − 1)²/2 on the unit sphere is a quartic form, so that
its gradient is a mean over draws too. What is found on some draws is judged on others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.stats import beta, norm
from torch import Generator, Tensor

from sketchbench import GradientSketch
from sketchbench.testing.adversary_starts import starts
from sketchbench.testing.gradient_evidence import lower_bound
from sketchbench.testing.gradient_subject import built

POOLS = 4  # one proposes, two judge, and the last, which neither has seen, chooses in the end
ENTRIES = 2**27  # of all matrices S that are held at once, 512 MiB
FAILURE = 0.5  # |‖Sx‖² − 1| from which on a draw has failed
NEAR = 1e-12


@dataclass(frozen=True)
class Finding:
    """The worst input that a search found, judged on draws that the search hasn't seen.

    `kappa` is D·E(‖Sx‖² − 1)²/2: `low` is below it with the confidence asked for, whatever the
    distribution; `high`, by the central limit theorem, above it. `failures` is the share of draws
    with |‖Sx‖² − 1| > ½, with its Clopper–Pearson interval `failures_between`.
    """

    input: Tensor  # (N,), float32, of norm 1
    kappa: float
    low: float
    high: float
    failures: float
    failures_between: tuple[float, float]
    draws: int

    def __str__(self) -> str:
        large = self.input.abs().topk(min(4, len(self.input)))
        entries = ", ".join(f"x[{int(i)}] = {float(self.input[i]):.3g}" for i in large.indices)
        return (
            f"κ = {self.kappa:.3g} ({self.low:.3g} … {self.high:.3g}), "
            f"{self.failures:.1%} failures in {self.draws} draws, on {entries}, …"
        )


def search(
    recipe: GradientSketch,
    size: int,
    seed: int = 0,
    *,
    rounds: int = 6,
    draws: int = 256,
    candidates: int = 1024,
    kept: int = 24,
    judged: int = 2000,
    confidence: float = 0.99,
) -> Finding:
    """Search for the unit vector (size,) of the largest κ, and judge it on `judged` fresh draws.

    From `candidates` structures the best `kept` go through `rounds` of local search, on four pools
    of `draws` sketches each: a dense vector can be fitted to the draws that propose it, so others
    judge. Raises `ValueError` where the matrices of all are more than 2²⁷ entries.
    """
    rng = Generator().manual_seed(seed)
    height = built(recipe, size).shape[0]
    if POOLS * draws * height * size > ENTRIES:
        raise ValueError(
            f"adversary: {POOLS * draws} matrices ({height}, {size}) are more than 2²⁷ entries; "
            "search at a smaller size or with fewer draws"
        )
    first = seed * 10**6  # seeds of the pools' draws, and after them of the judge's
    pools = [_pool(recipe, size, first + n * draws, draws) for n in range(POOLS)]
    proposer, judges, referee = pools[0], pools[1:3], pools[3:]
    found = _best(judges, starts(size, candidates, rng), kept)
    every = [found]
    for _ in range(rounds):
        found = _best(judges, torch.cat([found, *_moves(proposer, found, rng)]), kept)
        every.append(found)
    chosen = _best(referee, torch.cat(every), 1)[0]
    return judge_input(recipe, chosen, first + POOLS * draws, judged, confidence)


def judge_input(
    recipe: GradientSketch, x: Tensor, first: int, draws: int, confidence: float = 0.99
) -> Finding:
    """Return κ and the failures on one vector x (N,), from draws of the seeds `first` …."""
    x = x / x.norm()
    norms = torch.stack(
        [built(recipe, len(x), first + n).apply(x).double().square().sum() for n in range(draws)]
    )
    height = built(recipe, len(x)).shape[0]
    values = height * (norms - 1).square() / 2
    level = 1 - confidence
    failed = int(((norms - 1).abs() > FAILURE).sum())
    between = (
        float(beta.ppf(level / 2, failed, draws - failed + 1)) if failed else 0.0,
        float(beta.ppf(1 - level / 2, failed + 1, draws - failed)) if failed < draws else 1.0,
    )
    kappa = float(values.mean())
    error = float(values.std()) / draws**0.5
    return Finding(
        x,
        kappa,
        lower_bound(values, level),
        kappa + float(norm.ppf(confidence)) * error,
        failed / draws,
        between,
        draws,
    )


def _pool(recipe: GradientSketch, size: int, first: int, draws: int) -> Tensor:
    """Return the matrices of sketches from seeds `first` … as (draws, D, N)."""
    sketches = (built(recipe, size, first + n) for n in range(draws))
    return torch.stack([s.adjoint(torch.eye(s.shape[0])) for s in sketches])


def _excess(pool: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the images (n, draws, D) of x (n, N), and ‖Sx‖² − 1 (n, draws)."""
    images = (x @ pool.flatten(0, 1).mT).unflatten(1, pool.shape[:2])
    return images, images.square().sum(-1) - 1


def _kappas(pools: Sequence[Tensor], x: Tensor) -> Tensor:
    """Return the κ of unit vectors x (n, N), in the mean over pools of one size: (n,)."""
    each = torch.stack([_excess(pool, x)[1].square().mean(1) for pool in pools])
    return pools[0].shape[1] * each.mean(0) / 2


def _best(pools: Sequence[Tensor], x: Tensor, kept: int) -> Tensor:
    """Return the `kept` vectors of largest κ over pools; of equal ones, one."""
    order = _kappas(pools, x).argsort(descending=True)[: 4 * kept]
    x = x[order]
    cosines = (x @ x.mT).abs().tril(-1)
    return x[(cosines < 1 - 1e-4).all(1)][:kept]


def _moves(pool: Tensor, x: Tensor, rng: Generator) -> list[Tensor]:
    """Return vectors near x (n, N), and along the gradient of κ."""
    images, excess = _excess(pool, x)
    weighted = (images * excess[..., None]).flatten(1) @ pool.flatten(0, 1) / len(pool)
    slope = weighted - (weighted * x).sum(1, keepdim=True) * x  # on the sphere
    slope = torch.nn.functional.normalize(slope, dim=1)
    moved = [_unit(x + step * slope) for step in (0.1, 0.3, 1.0, 3.0)]
    moved += [_unit(weighted), _unit(weighted.sign())]
    for count in (2, 4, 16, 64):
        if count < x.shape[1]:
            moved += [_thresholded(y, count) for y in (weighted, x)]
    moved += [_swapped(x, rng) for _ in range(4)]
    moved += [_flipped(x, rng), _flipped(x, rng), _shifted(x, rng), _shifted(x, rng)]
    moved += [_unit(x + x[torch.randperm(len(x), generator=rng)])]
    return moved


def _thresholded(x: Tensor, count: int) -> Tensor:
    """Return the signs of the `count` largest entries of each vector, and 0 elsewhere."""
    places = x.abs().topk(count, dim=1).indices
    signs = x.gather(1, places).sign()
    return _unit(torch.zeros_like(x).scatter(1, places, signs))


def _swapped(x: Tensor, rng: Generator) -> Tensor:
    """Move an entry of each vector to another place, or copy it there."""
    support = torch.multinomial(x.square() + NEAR, 1, generator=rng)
    to = torch.randint(x.shape[1], (len(x), 1), generator=rng)
    value = x.gather(1, support)
    kept = value * torch.randint(2, value.shape, generator=rng)
    sign = torch.randint(2, value.shape, generator=rng) * 2 - 1
    return _unit(x.scatter(1, support, kept).scatter(1, to, sign * value))


def _flipped(x: Tensor, rng: Generator) -> Tensor:
    """Flip the signs of entries of each vector, one in eight, or drop them."""
    chosen = torch.rand(x.shape, generator=rng) < 0.125
    factor = -1.0 if int(torch.randint(2, (), generator=rng)) else 0.0
    return _unit(torch.where(chosen, factor * x, x))


def _shifted(x: Tensor, rng: Generator) -> Tensor:
    """Add to each vector a copy that is shifted by a power of two, with either sign."""
    shift = 1 << int(torch.randint(x.shape[1].bit_length(), (), generator=rng))
    sign = 1 - 2 * int(torch.randint(2, (), generator=rng))
    return _unit(x + sign * x.roll(shift, 1))


def _unit(x: Tensor) -> Tensor:
    """Scale vectors (n, N) to norm 1, what is 0 to an axis."""
    dead = x.norm(dim=1, keepdim=True) < NEAR
    return torch.nn.functional.normalize(torch.where(dead, torch.eye(1, x.shape[1]), x), dim=1)
