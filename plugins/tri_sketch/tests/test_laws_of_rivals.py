"""Tri-sketch and its rivals keep the laws of activation sketches."""

import pytest
import sketchbench_tri_sketch as tri_sketch

from sketchbench.testing import laws

test_tri_sketch = laws(tri_sketch.TriSketch(rank=1))
test_tri_sketch_with_fresh_projections = pytest.mark.nightly(
    laws(tri_sketch.TriSketch(rank=1, projections="fresh"))
)
test_tri_sketch_of_the_ema = laws(tri_sketch.TriSketch(rank=1, beta=0.9))
test_tri_sketch_that_tells_its_error = laws(
    tri_sketch.TriSketch(rank=1, rank_min=1, adapt="error", error_rows=3)
)
test_candidate_p1 = laws(tri_sketch.TriSketch(rank=1, core="candidate-p1", beta=0.95))
test_candidate_p2 = pytest.mark.nightly(laws(tri_sketch.TriSketch(rank=1, core="candidate-p2")))
test_ema_full = laws(tri_sketch.EMAFull())
test_ema_full_without_correction = pytest.mark.nightly(
    laws(tri_sketch.EMAFull(beta=0.0, bias_correction=False))
)
test_mean_activation = laws(tri_sketch.MeanActivation())
test_crs = laws(tri_sketch.CRS(rank=1))
test_wta_crs = pytest.mark.nightly(laws(tri_sketch.WTACRS(rank=1)))
test_rand_basis = laws(tri_sketch.RandBasis(rank=1))
test_fixed_rand_basis = pytest.mark.nightly(laws(tri_sketch.RandBasis(rank=1, projections="fixed")))
test_svd_oracle = laws(tri_sketch.SVDOracle(rank=1, scope="hidden"))
test_velora = laws(tri_sketch.VeLoRA(groups=3))
test_top_k = laws(tri_sketch.TopK())
test_quantise_to_two_bits = pytest.mark.nightly(laws(tri_sketch.Quantise(bits=2)))
test_quantise = laws(tri_sketch.Quantise(smooth="8bit"))
test_quantise_to_eight_bits = pytest.mark.nightly(
    laws(tri_sketch.Quantise(bits=8, rounding="nearest"))
)
