"""Every member of the dense plugin keeps the laws of its kind."""

import sketchbench_dense as dense
import torch

from sketchbench.testing import laws

test_checkpoint = laws(dense.Checkpoint())
test_checkpoint_of_two_blocks = laws(dense.Checkpoint(every=2))
test_micro_batch = laws(dense.MicroBatch(rows=3))
test_micro_batch_of_bytes = laws(dense.MicroBatch(bytes=1000))
test_micro_batch_of_many_bytes = laws(dense.MicroBatch(bytes=20_000))
test_micro_batch_with_checkpoint = laws(dense.MicroBatch(rows=3, checkpoint=2))
test_zero_gradient = laws(dense.ZeroGradient())
test_zero_gradient_of_hidden_layers = laws(dense.ZeroGradient(scope="hidden"))
test_random_gradient = laws(dense.RandomGradient())
test_exact_covariance = laws(dense.ExactCovariance())
test_gaussian = laws(dense.Gaussian(out_size=64))
test_gaussian_of_one = laws(dense.Gaussian(out_size=1))
test_rademacher = laws(dense.Rademacher(out_size=64))
test_ffd = laws(dense.Fastfood(out_size=64))
test_signed_ffd = laws(dense.SignedFastfood(out_size=16))
test_fjl = laws(dense.FJL(out_size=16))
test_count_sketch = laws(dense.CountSketch(out_size=16))
test_count_sketch_regenerated = laws(dense.CountSketch(out_size=15, regenerate=True))
test_sjlt = laws(dense.SJLT(out_size=15, nonzeros=3))
test_selection_of_all_layers = laws(dense.LayerSelection())
test_random_mask = laws(dense.RandomMask(out_size=16))
test_rescaled_random_mask = laws(dense.RandomMask(out_size=16, rescaled=True))
test_sgd = laws(dense.SGD())
test_sgd_with_momentum = laws(dense.SGD(momentum=0.9, nesterov=True, weight_decay=1e-4))
test_adam = laws(dense.Adam())
test_adamw = laws(dense.AdamW())
test_adagrad = laws(dense.Adagrad())
test_adafactor = laws(dense.Adafactor())
if hasattr(torch.optim, "Muon"):
    test_muon = laws(dense.Muon())
