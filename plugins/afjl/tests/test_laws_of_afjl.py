"""AFJL fails on the pairs that it names and there alone; SRHT keeps every law."""

from sketchbench_afjl import AFJL, SRHT

from sketchbench.testing import laws

test_afjl = laws(AFJL(out_size=64, factor_size=2))
test_afjl_of_one_factor_is_valid = laws(AFJL(out_size=64))
test_srht = laws(SRHT(out_size=64))
test_srht_of_any_size = laws(SRHT(out_size=37))
