"""The monitor against dense computations: Lemma 4.1, unbiased norms, ranks, and what it holds."""

from itertools import pairwise

import pytest
import torch
from sketchbench_tri_sketch import TriSketchMonitor
from sketchbench_tri_sketch.monitor_sketches import (
    Average,
    Projections,
    centring,
    stable_rank,
    two_sided,
)
from torch import Generator, nn
from torch.nn import functional as F

from sketchbench import Skip
from sketchbench.testing import laws

test_monitor = laws(TriSketchMonitor())
test_monitor_of_rank_one = laws(TriSketchMonitor(rank=1, beta=0.0, two_sided=True))
test_monitor_without_diversity = laws(TriSketchMonitor(rank=3, diversity=False))

DRAWS = 4000
BOTH, NEITHER = TriSketchMonitor(two_sided=True), TriSketchMonitor(diversity=False)


def rng(seed=0):
    return Generator().manual_seed(seed)


def network(*widths, kind=torch.float64):
    torch_rng = rng(1)
    layers = [nn.Linear(a, b, dtype=kind) for a, b in pairwise(widths)]
    for layer in layers:
        for p in layer.parameters():
            p.data = torch.randn(p.shape, generator=torch_rng, dtype=kind) / p.shape[-1] ** 0.5
    return nn.Sequential(*[m for layer in layers for m in (layer, nn.ReLU())][:-1])


def watched(recipe, steps=1, rows=16, kind=torch.float64, seed=0):
    """Return the network, its watcher, each step's estimates, and its inputs and δ by layer."""
    net = network(6, 8, 7, 3, kind=kind)
    watcher, batches = recipe.build(net, rows, rng(seed)), rng(2)
    linears = [m for m in net if isinstance(m, nn.Linear)]
    said, seen = [], []
    for _ in range(steps):
        net.zero_grad()
        taken = watching(linears)
        outputs = net(torch.randn(rows, 6, generator=batches, dtype=kind))
        F.cross_entropy(outputs, torch.randint(3, (rows,), generator=batches)).backward()
        said.append(watcher.estimates())
        inputs, deltas = taken()
        seen.append((inputs | {len(linears): outputs.detach()}, deltas))
    return net, watcher, said, seen


def ratio(matrix):
    return matrix.norm() ** 2 / torch.linalg.matrix_norm(matrix, 2) ** 2


def watching(linears):
    """Hook layers; return what takes the hooks off and gives each layer's input and δ."""
    inputs, deltas = {}, {}

    def hooked(place):
        def hook(module, given, output):
            inputs[place] = given[0].detach()
            output.register_hook(lambda delta: deltas.__setitem__(place, delta))

        return hook

    hooks = [m.register_forward_hook(hooked(place)) for place, m in enumerate(linears)]

    def taken():
        for hook in hooks:
            hook.remove()
        return inputs, deltas

    return taken


def test_the_average_of_sketches_is_the_sketch_of_the_average():  # Lemma 4.1, to 1e-12
    beta, size, rows, width = 0.95, 5, 32, 40
    like = torch.zeros((), dtype=torch.float64)
    projections = Projections(rows, size, 2, rng(7), like)
    average, dense = Average(size, width, beta, like), torch.zeros(rows, width, dtype=like.dtype)
    draw = rng(3)
    for _ in range(200):
        batch = torch.randn(rows, width, generator=draw, dtype=like.dtype)
        projections.renew(draw)
        average.update((projections.matrix @ batch)[: 3 * size + 1])
        dense = beta * dense + (1 - beta) * batch
    expected = projections.matrix[: 3 * size + 1] @ dense
    assert (average.state - expected).norm() <= 1e-12 * expected.norm()
    assert average.mass == pytest.approx(1 - beta**200, rel=1e-12)


def test_the_square_of_the_sketched_norm_is_unbiased():
    net, _, _, _ = watched(TriSketchMonitor())
    squares = torch.stack(
        [watched(TriSketchMonitor(), seed=s)[2][0]["sketched_norm"] ** 2 for s in range(150)]
    )
    truth = torch.stack([m.weight.grad.norm() ** 2 for m in net if isinstance(m, nn.Linear)])
    error = squares.std(0) / len(squares) ** 0.5
    assert ((squares.mean(0) - truth).abs() <= 4 * error).all()


@pytest.mark.parametrize("size", [3, 9])
def test_the_two_sided_noise_is_the_closed_form_and_is_removed(size):
    rows, draw = 24, rng(4)
    a = torch.randn(rows, 10, generator=draw, dtype=torch.float64) + 0.5
    d = torch.randn(rows, 6, generator=draw, dtype=torch.float64)
    u = torch.randn(DRAWS, size, rows, generator=draw, dtype=torch.float64)
    grams = [(u @ side) @ (u @ side).mT for side in (a, d)]
    raw, clean = (grams[0] * grams[1] * two_sided(size, a)).sum((-2, -1))
    dense = ((u @ d).mT @ (u @ a) / size).square().sum((-2, -1))
    torch.testing.assert_close(raw, dense)
    truth = (d.mT @ a).square().sum()
    noise = truth / size + a.square().sum() * d.square().sum() / size
    for found, expected in ((raw, truth + noise), (clean, truth)):
        assert (found.mean() - expected).abs() <= 4 * found.std() / DRAWS**0.5


def test_removing_the_diagonal_scatters_less_than_subtracting_the_closed_form():
    size, rows, draw = 5, 24, rng(5)
    a = torch.randn(rows, 10, generator=draw, dtype=torch.float64) + 0.5
    d = torch.randn(rows, 6, generator=draw, dtype=torch.float64)
    u = torch.randn(DRAWS, size, rows, generator=draw, dtype=torch.float64)
    grams = [(u @ side) @ (u @ side).mT for side in (a, d)]
    raw, clean = (grams[0] * grams[1] * two_sided(size, a)).sum((-2, -1))
    subtracted = (raw - a.square().sum() * d.square().sum() / size) * size / (size + 1)
    assert clean.var() < subtracted.var()


def test_estimates_of_one_step_are_those_of_dense_sketches():
    size, beta = 5, 0.9
    _, watcher, said, seen = watched(TriSketchMonitor(rank=2, beta=beta), steps=3)
    (projections,) = watcher._projections.values()
    upsilon, phi, omega = projections.matrix[: 3 * size].split(size)
    scales = watcher._weights[1, 1:, size : 2 * size].sqrt()
    averages = [torch.zeros_like(seen[0][0][place]) for place in range(4)]
    for step, ((inputs, deltas), estimates) in enumerate(zip(seen, said, strict=True), start=1):
        for place in range(4):
            averages[place] = beta * averages[place] + (1 - beta) * inputs[place]
        dense = [average / (1 - beta**step) for average in averages]
        for layer in range(3):
            gradient = deltas[layer].mT @ inputs[layer]
            sketch = watcher._psi[:, : len(gradient)] @ gradient
            x, z = upsilon @ dense[layer], (phi @ dense[layer + 1]) * scales[layer][:, None]
            y = omega @ dense[layer + 1]
            centred = omega @ (dense[layer + 1] - dense[layer + 1].mean(0))
            expected = {
                "sketched_norm": sketch.norm() / size**0.5,
                "delta_times_sketch": deltas[layer].norm() * x.norm() / size**0.5,
                "z_norm": z.norm(),
                "stable_rank": ratio(y),
                "stable_rank_centred": centred.norm() ** 2
                / torch.linalg.matrix_norm(centred, 2) ** 2,
            }
            for name, value in expected.items():
                torch.testing.assert_close(estimates[name][layer], value.to(estimates[name]))


def test_two_sided_estimates_are_those_of_their_gram_matrices():
    size = 5
    _, watcher, said, seen = watched(TriSketchMonitor(rank=2, two_sided=True))
    (projections,) = watcher._projections.values()
    (inputs, deltas), u = seen[0], projections.fresh
    for layer in range(3):
        t, w = u @ deltas[layer], u @ inputs[layer]
        products = (t @ t.mT) * (w @ w.mT)
        clean = (products.sum() - products.diagonal().sum()) / (size * (size - 1))
        found = said[0]["two_sided_raw"][layer], said[0]["two_sided_norm"][layer]
        torch.testing.assert_close(found, ((t.mT @ w / size).norm(), clean.clamp_min(0).sqrt()))


def test_estimates_are_those_that_were_asked_for():
    names = [set(watched(recipe)[2][0]) for recipe in (TriSketchMonitor(), BOTH, NEITHER)]
    assert names[1] - names[0] == {"two_sided_raw", "two_sided_norm"}
    assert names[0] - names[2] == {"diversity"}
    assert next(iter(watched(BOTH)[2][0])) == "sketched_norm"


def test_diversity_is_one_minus_the_cosine_of_consecutive_sketches():
    _, watcher, said, seen = watched(TriSketchMonitor(), steps=2)
    assert said[0]["diversity"].isnan().all()
    for layer in range(3):
        before, now = (
            (watcher._psi[:, : d[layer].shape[1]] @ (d[layer].mT @ i[layer])).flatten()
            for i, d in seen
        )
        expected = 1 - F.cosine_similarity(before, now, dim=0)
        torch.testing.assert_close(said[1]["diversity"][layer], expected)


def test_stable_ranks_come_from_gram_matrices_and_nothing_raises():
    s = torch.randn(2, 5, 30, generator=rng(), dtype=torch.float64)
    expected = s.square().sum((-2, -1)) / torch.linalg.matrix_norm(s, 2) ** 2
    torch.testing.assert_close(stable_rank(s @ s.mT), expected)
    for bad in (0.0, torch.nan, torch.inf):
        assert stable_rank(torch.full((1, 3, 3), bad)).isnan().all()


def test_centring_takes_the_mean_row_out():
    a = torch.randn(12, 9, generator=rng(), dtype=torch.float64) + 2
    omega = torch.randn(4, 12, generator=rng(1), dtype=torch.float64)
    rows = torch.cat([omega @ a, a.mean(0, keepdim=True)])
    found = centring(omega.sum(1))
    grams = found @ (rows @ rows.mT) @ found.mT
    for gram, matrix in zip(grams, (a, a - a.mean(0)), strict=True):
        torch.testing.assert_close(gram, (omega @ matrix) @ (omega @ matrix).mT)


def test_every_step_has_a_fresh_projection_and_the_others_stay():
    net = network(6, 8, 3)
    watcher = TriSketchMonitor(two_sided=True).build(net, 16, rng())
    found = []
    for _ in range(2):
        net(torch.ones(16, 6, dtype=torch.float64)).sum().backward()
        watcher.estimates()
        found.append(next(iter(watcher._projections.values())).matrix.clone())
    fixed = 3 * 5 + 1
    assert torch.equal(found[0][:fixed], found[1][:fixed])
    assert (found[0][fixed:] != found[1][fixed:]).all()


def test_smaller_batches_use_the_first_rows_and_larger_ones_are_refused():
    net = network(6, 8, 3)
    watcher = TriSketchMonitor().build(net, 16, rng())
    for rows in (16, 5):
        net(torch.ones(rows, 6, dtype=torch.float64)).sum().backward()
        assert watcher.estimates()["sketched_norm"].isfinite().all()
    with pytest.raises(ValueError, match="17 rows at layer '0' after 16"):
        net(torch.ones(17, 6, dtype=torch.float64))


def test_sequences_are_rows():
    net = network(6, 8, 3, kind=torch.float32)
    watcher = TriSketchMonitor().build(net, 4, rng())
    net(torch.randn(4, 7, 6, generator=rng())).sum().backward()
    assert watcher.estimates()["sketched_norm"].isfinite().all()
    assert list(watcher._projections) == [28]


def test_half_precision_is_sketched_in_single():
    net = network(6, 8, 3, kind=torch.bfloat16)
    watcher = TriSketchMonitor().build(net, 16, rng())
    net(torch.ones(16, 6, dtype=torch.bfloat16)).sum().backward()
    assert all(values.dtype == torch.float32 for values in watcher.estimates().values())


def test_a_loss_that_is_not_finite_gives_nan_and_raises_nothing():
    net = network(6, 8, 3)
    watcher = TriSketchMonitor().build(net, 16, rng())
    net(torch.full((16, 6), torch.inf, dtype=torch.float64)).sum().backward()
    estimates = watcher.estimates()
    assert estimates["stable_rank"].isnan().all()


def test_a_layer_that_is_not_reached_has_no_value():
    net = network(6, 8, 3)
    watcher = TriSketchMonitor(two_sided=True).build(net, 16, rng())
    net[0](torch.ones(16, 6, dtype=torch.float64)).sum().backward()
    estimates = watcher.estimates()
    for name in ("sketched_norm", "two_sided_norm", "delta_times_sketch"):
        assert estimates[name].isfinite().tolist() == [True, False], name


def test_sketches_of_sixteen_layers_take_what_the_paper_says():
    """3·d·k floats a layer and 3·k·rows shared: 1.70 MiB; Ψ and mean rows on top."""
    size, width, rows, layers = 9, 1024, 128, 16
    net = nn.Sequential(*[nn.Linear(width, width) for _ in range(layers)])
    watcher = TriSketchMonitor(rank=4, diversity=False).build(net, rows, rng())
    net(torch.randn(rows, width, generator=rng())).sum().backward()
    watcher.estimates()
    paper = 4 * 3 * size * (width * layers + rows)
    assert paper / 2**20 == pytest.approx(1.70, abs=0.005)
    of_last_output = 4 * width * 3 * size
    mean_rows = 4 * width * (layers + 1)
    one_sided = 4 * (size * width + rows)
    small = watcher.held() - paper - of_last_output - mean_rows - one_sided
    assert 0 < small < 0.02 * paper


def test_a_model_without_linear_layers_is_skipped():
    with pytest.raises(Skip, match="has no linear layer"):
        TriSketchMonitor().build(nn.Conv2d(1, 1, 3), 8, rng())


def test_the_period_is_that_of_observing():
    assert TriSketchMonitor(every=4).full_period() == 4
