"""QK keeps every law; its listing fails on the coherent inputs that it names."""

from sketchbench_qk import QK, QKListing2

from sketchbench.testing import laws

test_qk = laws(QK(out_size=64))
test_qk_of_three_factors = laws(QK(out_size=60, factors=3))
test_listing = laws(QKListing2(out_size=64, factor_size=4))
