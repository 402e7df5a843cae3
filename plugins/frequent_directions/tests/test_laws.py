"""Every member of the plugin keeps the laws of its kind."""

import sketchbench_frequent_directions as fd

from sketchbench.testing import laws

FD = fd.FrequentDirections

test_svd = laws(FD(rank=6, solver="svd"))
test_gram = laws(FD(rank=6))
test_gram32 = laws(FD(rank=6, solver="gram32"))
test_lobpcg = laws(FD(rank=4, solver="lobpcg"))
test_subspace = laws(FD(rank=4, solver="subspace"))
test_svd_that_decays = laws(FD(rank=6, solver="svd", beta2=0.9))
test_gram_that_decays = laws(FD(rank=6, beta2=0.9))
test_gram32_that_decays = laws(FD(rank=6, solver="gram32", beta2=0.9))
test_lobpcg_that_decays = laws(FD(rank=4, solver="lobpcg", beta2=0.9))
test_subspace_that_decays = laws(FD(rank=4, solver="subspace", beta2=0.9))
test_tail_that_decays_less = laws(FD(rank=6, beta2=0.9, tail_decay="tearfree"))
test_every_update_at_once = laws(FD(rank=6, beta2=0.9, buffer=1))
test_buffer_of_more_than_the_stream = laws(FD(rank=6, beta2=0.9, buffer=1000))
test_one_direction = laws(FD(rank=1))
test_rank_beyond_the_size = laws(FD(rank=40))
