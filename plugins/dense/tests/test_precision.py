"""Sketches of the dense plugin in bf16 and under autocast."""

import copy

import pytest
import torch
from sketchbench_dense import Adam, Checkpoint, MicroBatch, ZeroGradient
from sketchbench_dense.checkpoint import checkpointed
from torch import Generator, nn
from torch.nn import functional as F

from sketchbench import Skip
from sketchbench.autodiff import Plain
from sketchbench.builtin import MLP, Accuracy, Digits, Train
from sketchbench.builtin.workloads.precision import PRECISIONS
from sketchbench.run import Run, Wanted

CPU, BF16 = torch.device("cpu"), torch.bfloat16
SKETCHES = [
    Checkpoint(),
    Checkpoint(every=2),
    MicroBatch(rows=3),
    MicroBatch(bytes=4000),
    MicroBatch(rows=3, checkpoint=1),
    ZeroGradient(),
]
LOWER = ["bf16", "amp-bf16"]


def residual():
    """Residual blocks whose sums autocast leaves in fp32."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.linear = nn.LayerNorm(16), nn.Linear(16, 16)

        def forward(self, x):
            return x + F.gelu(self.linear(self.norm(x)))

    torch.manual_seed(0)
    return nn.Sequential(*(Block() for _ in range(4)), nn.Linear(16, 3))


def batch(rows=8):
    rng = Generator().manual_seed(1)
    return torch.randn(rows, 16, generator=rng), torch.randint(3, (rows,), generator=rng)


def stepped(recipe, precision, model):
    """Return the loss of one step as the workload does it; gradients are left in `model`."""
    arithmetic = PRECISIONS[precision]()
    arithmetic.place(model, CPU)
    rng = Generator().manual_seed(0)
    sketched = recipe.build(model, 8, rng) if recipe else Plain(model)
    arithmetic.attach(sketched.model, CPU)
    inputs, targets = batch()
    loss = arithmetic.loss(F.cross_entropy)
    return sketched.accumulate(arithmetic.inputs(inputs), targets, loss)


@pytest.mark.parametrize("precision", LOWER)
@pytest.mark.parametrize("every", [1, 2, 5])
def test_a_checkpointed_step_is_exact_to_the_bit(precision, every):
    """Recomputation restores autocast: in fp32 it would give other gradients."""
    model, twin = residual(), residual()
    loss = stepped(Checkpoint(every=every), precision, model)
    assert torch.equal(loss, stepped(None, precision, twin))
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)


def test_recomputation_is_under_autocast_and_the_backward_is_not():
    model, log = residual(), []

    def note(module, inputs, outputs):
        log.append(("forward", outputs.dtype, torch.is_autocast_enabled("cpu")))
        if outputs.requires_grad:
            enabled = torch.is_autocast_enabled
            outputs.register_hook(lambda grad: log.append(("backward", BF16, enabled("cpu"))))

    for block in model[:4]:
        block.linear.register_forward_hook(note)
    stepped(Checkpoint(), "amp-bf16", model)
    assert log.count(("forward", BF16, True)) == len([e for e in log if e[0] == "forward"]) == 8
    assert {entry for entry in log if entry[0] == "backward"} == {("backward", BF16, False)}
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("precision", LOWER)
def test_micro_batches_add_up_to_the_batch_up_to_rounding(precision):
    """Each of the batch's rows adds roundings of bf16 to a gradient, relative to its size."""
    model, twin = residual(), residual()
    loss = stepped(MicroBatch(rows=3), precision, model)
    torch.testing.assert_close(loss, stepped(None, precision, twin), rtol=1e-6, atol=0)
    eps = torch.finfo(BF16).eps
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=0, atol=4 * eps * q.grad.abs().max())


@pytest.mark.parametrize("precision", LOWER)
def test_zero_gradient_keeps_its_type_and_leaves_the_rest_exact(precision):
    model, twin = residual(), residual()
    stepped(ZeroGradient(), precision, model)
    stepped(None, precision, twin)
    for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert p.grad.dtype == p.dtype == q.grad.dtype
        if p.dim() == 2:
            assert not p.grad.any(), name
        else:
            error = (p.grad.float() - q.grad.float()).abs().max()
            assert error <= 4 * torch.finfo(BF16).eps * q.grad.float().abs().max(), name


@pytest.mark.parametrize("precision", LOWER)
@pytest.mark.parametrize("recipe", SKETCHES, ids=lambda recipe: recipe.label())
def test_parameters_and_gradients_have_the_types_of_an_exact_step(recipe, precision):
    model, twin = residual(), residual()
    loss = stepped(recipe, precision, model)
    exact = stepped(None, precision, twin)
    assert loss.dtype == exact.dtype == torch.float32
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert (p.dtype, p.grad.dtype) == (q.dtype, q.grad.dtype)


@pytest.mark.parametrize("precision", ["fp32", *LOWER])
@pytest.mark.parametrize("recipe", [Checkpoint(), MicroBatch(rows=48)], ids=lambda r: r.name)
def test_digits_are_learnt_with_exact_sketches(recipe, precision):
    run = Run(CPU, 0, [Wanted(Accuracy(), "test")])
    fields = {"task": Digits(), "model": MLP(hidden=(32,)), "optimizer": Adam(lr=1e-2)}
    Train(**fields, activation=recipe, precision=precision, epochs=3).run(run)
    (accuracy,) = (m for m in run.measurements() if m.metric == "accuracy")
    assert accuracy.value > 0.85


class Around(nn.Module):
    """A model around its sequence, which it calls, or takes apart."""

    def __init__(self, apart):
        super().__init__()
        self.layers, self.apart = residual()[:4], apart

    def forward(self, x):
        if not self.apart:
            return self.layers(x)
        return sum(layer(x) for layer in self.layers)


def test_the_check_of_a_models_structure_is_not_upset_by_autocast():
    torch.manual_seed(0)
    model = Around(apart=False)
    twin = copy.deepcopy(model)
    stepped(Checkpoint(every=2), "amp-bf16", model)
    stepped(None, "amp-bf16", twin)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)


def test_a_model_that_takes_its_sequence_apart_is_skipped_under_autocast_too():
    with pytest.raises(Skip, match="takes its nn.Sequential apart"):
        stepped(Checkpoint(every=2), "amp-bf16", Around(apart=True))
    assert not torch.is_autocast_enabled("cpu")


def test_a_checkpointed_evaluation_is_under_autocast():
    arithmetic, model = PRECISIONS["amp-bf16"](), checkpointed(residual())
    arithmetic.attach(model, CPU)
    with torch.no_grad():
        assert model(batch()[0]).dtype == BF16
