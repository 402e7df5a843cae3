"""S-Shampoo keeps the laws of optimizers, in configurations that share little."""

import sketchbench_frequent_directions as fd

from sketchbench.testing import laws

test_as_it_comes = laws(fd.SShampoo(rank=2))
test_the_papers = laws(
    fd.SShampoo(rank=3, update_every=3, graft="none", momentum=0.0, nesterov=False, solver="svd")
)
test_with_everything = laws(
    fd.SShampoo(
        rank=2,
        solver="subspace",
        update_every=2,
        skipped="averaged",
        graft="adafactor",
        block_size=4,
        nonfinite="skip",
        tail="fixed",
        delta=0.1,
        weight_decay=0.01,
    )
)
