"""Every member of the plugin keeps the laws of its kind."""

import sketchbench_frequent_directions as fd

from sketchbench.testing import laws

test_frequent_directions = laws(fd.FrequentDirections(rank=6))
test_frequent_directions_that_decays = laws(fd.FrequentDirections(rank=6, beta2=0.9))
