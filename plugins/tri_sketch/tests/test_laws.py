"""`unbiased` and `ema-basis` keep the laws of activation sketches."""

import sketchbench_tri_sketch as tri_sketch

from sketchbench.testing import laws

test_unbiased = laws(tri_sketch.Unbiased())
test_unbiased_fixed_signs = laws(
    tri_sketch.Unbiased(
        columns=3,
        projections="fixed",
        distribution="rademacher",
        scope="hidden",
        smooth="recompute",
    )
)
test_ema_basis = laws(tri_sketch.EmaBasis())
test_ema_basis_of_one_batch = laws(
    tri_sketch.EmaBasis(rank=3, beta=0.0, mean_column=True, smooth="8bit")
)
