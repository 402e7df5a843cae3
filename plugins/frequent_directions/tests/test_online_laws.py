"""Every online method keeps the laws of an optimizer."""

import sketchbench_frequent_directions as fd

from sketchbench.testing import laws

test_ogd = laws(fd.OGD())
test_adagrad_diagonal = laws(fd.AdagradDiagonal())
test_adagrad_full = laws(fd.AdagradFull())
test_adagrad_full_in_a_ball = laws(fd.AdagradFull(radius=30.0))
test_s_adagrad = laws(fd.SAdagrad(rank=3))
test_s_adagrad_in_a_ball = laws(fd.SAdagrad(rank=3, radius=30.0))
test_s_adagrad_that_decays = laws(fd.SAdagrad(rank=3, beta2=0.9, tail_decay="tearfree"))
test_s_adagrad_every_third_step = laws(fd.SAdagrad(rank=3, delta=0.1, update_every=3))
test_s_adagrad_of_means = laws(fd.SAdagrad(rank=3, update_every=3, skipped="averaged"))
test_ada_fd = laws(fd.AdaFD(rank=3))
test_fd_son = laws(fd.FDSON(rank=3))
test_rfd_son = laws(fd.RFDSON(rank=3))
