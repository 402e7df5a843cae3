"""S-Shampoo against updates of the authors' code, google-research/precondition @239a8cd."""

from pathlib import Path

import pytest
import sketchbench_frequent_directions as fd
import torch
from torch import nn

REFERENCE = Path(__file__).parents[4] / "shared" / "reference" / "sketchy_24x16_rank6.npz"
needs_reference = pytest.mark.skipif(
    not REFERENCE.exists(), reason="needs the reference's outputs beside the checkout"
)


@pytest.fixture
def reference():
    np = pytest.importorskip("numpy")
    with np.load(REFERENCE) as arrays:
        return {name: torch.tensor(arrays[name]) for name in arrays.files}


def differences(reference, **options):
    """Return the relative difference of each update, and the optimizer's state after the last."""
    recipe = fd.SShampoo(
        lr=1.0,
        rank=int(reference["rank"]),
        beta2=float(reference["beta2"]),
        update_every=int(reference["update_every"]),
        graft="none",
        momentum=0.0,
        nesterov=False,
        **options,
    )
    p = nn.Parameter(torch.zeros_like(reference["gradients"][0]))
    optimizer, found = recipe.build([p]), []
    for gradient, update in zip(reference["gradients"], reference["updates"], strict=True):
        p.data.zero_()
        p.grad = gradient
        optimizer.step()
        found.append(float((-p.detach() - update).norm() / update.norm()))
    return found, optimizer.state[p]


@needs_reference
@pytest.mark.parametrize("solver", ["svd", "gram"])
def test_every_update_is_the_references(reference, solver):
    found, state = differences(reference, tail_decay="tearfree", solver=solver)
    assert max(found) <= 1e-5
    for axis, side in enumerate(("left", "right")):
        tail = reference[f"{side}_tail"]
        assert (state[f"0.{axis}.tail"] - tail).abs() <= 1e-5 * tail
    roots = reference["left_singular_values"]
    torch.testing.assert_close(state["0.0.roots"][0], roots, rtol=1e-5, atol=1e-5 * float(roots[0]))


@needs_reference
def test_the_papers_decay_of_the_tail_isnt_the_references(reference):
    found, state = differences(reference, tail_decay="paper")
    assert found[0] <= 1e-5  # before anything has decayed
    assert max(found) > 1e-3
    assert state["0.0.tail"] < reference["left_tail"]
