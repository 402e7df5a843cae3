"""What float32 makes of a long stream: rounding, and how it adds up."""

import pytest
import torch
from sketchbench_frequent_directions.sketch import absorb, empty
from sketchbench_frequent_directions.solvers.table import EXACT, SOLVERS
from torch import Generator


@pytest.mark.parametrize("solver", sorted(EXACT))
@pytest.mark.parametrize("beta2", [0.99, 0.999])
def test_rounding_adds_up_over_the_updates_that_count(solver, beta2):
    # an update rounds √β₂, its product with σ, the stack's entries and the new σ to ε/2: λ is off
    # by 4ε of itself, over 1/(1 − β₂) updates; what is held whole shows nothing else
    rng = Generator().manual_seed(4)
    sketch, exact = empty(3, 3), torch.zeros(3, 3, dtype=torch.float64)
    for _ in range(1500):
        row = torch.randn(3, 1, generator=rng)
        sketch = absorb(sketch, row, beta2=beta2, tail_decay=beta2, solver=SOLVERS[solver])
        exact = beta2 * exact + row.double() @ row.double().mT
    allowed = 4 * torch.finfo(torch.float32).eps / (1 - beta2)
    assert sketch.tail == 0
    scaled = sketch.vectors.double() * sketch.roots.double()
    held = scaled @ scaled.mT
    difference = torch.linalg.matrix_norm(held - exact, 2)
    assert difference <= allowed * torch.linalg.matrix_norm(exact, 2)
