"""AFFD and its block form keep the laws of gradient sketches."""

import pytest
from sketchbench_affd import AFFD, BlockAFFD

from sketchbench.testing import laws

test_affd = laws(AFFD(out_size=64, factor_size=16))
test_block_affd = laws(BlockAFFD(out_size=64, block_size=1024))

test_affd_without_permutations = pytest.mark.nightly(laws(AFFD(out_size=64, permuted=False)))
test_block_affd_of_small_blocks = pytest.mark.nightly(laws(BlockAFFD(out_size=64, block_size=64)))
test_block_affd_regenerated = pytest.mark.nightly(
    laws(BlockAFFD(out_size=16, block_size=128, permuted=False, regenerate=True))
)
