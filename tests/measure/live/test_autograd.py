import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

FLOAT = 4
N = 500


def both(usage, work, **watched):
    found = usage(work, **watched)
    assert found.requested_peak == found.footprint.peak
    return found.footprint


class Squares(torch.autograd.Function):
    """Σ x², whose context holds x² (which it doesn't need) as an attribute."""

    @staticmethod
    def forward(ctx, x):
        ctx.hidden = x * x
        ctx.save_for_backward(x)
        return ctx.hidden.sum()

    @staticmethod
    def backward(ctx, grad):
        return 2 * ctx.saved_tensors[0] * grad


def chain(depth=3):
    return nn.Sequential(*(each for _ in range(depth) for each in (nn.Linear(N, N), nn.ReLU())))


def test_attributes_of_contexts_are_activations(usage):
    x = torch.ones(N, requires_grad=True)
    found = usage(lambda: Squares.apply(x).backward(), inputs=(x,)).footprint
    assert dict(found.kept) == {"activations": N * FLOAT + FLOAT}  # and the sum


@pytest.mark.parametrize(
    "work",
    [
        lambda x: torch.func.grad(lambda v: v.sin().sum())(x),
        lambda x: torch.func.vmap(torch.func.grad(lambda v: v.sin().sum()))(x),
        lambda x: torch.func.jvp(torch.sin, (x,), (torch.ones_like(x),)),
        lambda x: torch.func.hessian(lambda v: v.pow(3).sum())(x[0, :20]),
    ],
    ids=["grad", "vmap-grad", "jvp", "hessian"],
)
def test_function_transforms_agree_with_the_allocator(usage, work):
    x = torch.randn(N, N)
    found = usage(lambda: work(x), inputs=(x,))
    assert 0 <= found.requested_peak - found.footprint.peak <= 64
    assert found.footprint.peak > x.nbytes


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_keeps_its_inputs_alone(usage, reentrant):
    model, x = chain(), torch.randn(32, N)

    def work():
        y = x
        for i in range(0, len(model), 2):
            y = checkpoint(model[i : i + 2], y.requires_grad_(), use_reentrant=reentrant)
        y.sum().backward()

    found = usage(work, model=model, inputs=(x,))
    # The inputs of the second and the third block, the output, the sum.
    assert sum(found.footprint.kept.values()) == 3 * x.nbytes + FLOAT
    assert 0 <= found.requested_peak - found.footprint.peak < 16384


def test_a_second_backward_agrees_with_the_allocator(usage):
    x = torch.randn(N, N, requires_grad=True)

    def work():
        loss = x.pow(3).sum()
        (grad,) = torch.autograd.grad(loss, x, create_graph=True)
        grad.pow(2).sum().backward()

    found = usage(work, inputs=(x,))
    assert 0 <= found.requested_peak - found.footprint.peak <= 64
    assert found.footprint.at_peak["inputs"] == x.nbytes


def test_accumulated_gradients_are_gradients_once(usage):
    model = nn.Sequential(nn.Linear(N, N))
    batches = torch.randn(4, 8, N)

    def work():
        for batch in batches:
            model(batch).pow(2).sum().backward()

    found = both(usage, work, model=model, inputs=(batches,))
    parameters = (N * N + N) * FLOAT
    # The weight's gradient of a later batch is there beside their sum until it has been added.
    assert found.highest["gradients"] == parameters + FLOAT
    assert found.peak >= found.start + parameters + N * N * FLOAT
    assert model[0].weight.grad.shape == (N, N)


def test_gradients_that_an_optimizer_frees_in_backward_are_gradients(usage):
    model = nn.Sequential(*(nn.Linear(N, N, bias=False) for _ in range(4)))
    weight = N * N * FLOAT

    def descend(parameter):
        parameter.data.add_(parameter.grad, alpha=-0.1)
        parameter.grad = None

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(descend)
    x = torch.randn(8, N)
    found = both(usage, lambda: model(x).pow(2).sum().backward(), model=model, inputs=(x,))
    assert found.highest["gradients"] == weight + FLOAT  # and the loss's own
    assert all(parameter.grad is None for parameter in model.parameters())


def test_hooks_of_others_run_in_their_order_and_stay(footprint):
    parameter, calls = nn.Parameter(torch.ones(3)), []
    parameter.register_post_accumulate_grad_hook(lambda _: calls.append("first"))
    second = parameter.register_post_accumulate_grad_hook(lambda _: calls.append("second"))
    model = nn.ParameterList([parameter])
    footprint(lambda: parameter.sum().backward(), model)
    second.remove()
    parameter.sum().backward()
    assert calls == ["first", "second", "first"]


def test_a_closure_within_a_step_is_a_forward_pass_again(usage):
    torch.manual_seed(0)
    model, x = nn.Linear(N, 4), torch.randn(16, N)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)

    def closure():
        optimizer.zero_grad()
        loss = model(x).pow(2).mean()
        loss.backward()
        return loss

    found = usage(lambda: optimizer.step(closure), model=model, optimizer=optimizer, inputs=(x,))
    phases = {(block.phase, block.op) for block, _ in found.footprint.events}
    assert ("forward", "aten.addmm.default") in phases
    assert ("optimizer", "aten.addmm.default") not in phases
    assert any(phase == "optimizer" for phase, _ in phases)
    assert found.footprint.kept["activations"] >= 16 * 4 * FLOAT
    assert found.footprint.state["rest"] > 0
    assert found.footprint.highest["optimizer_state"] >= found.footprint.state["rest"]


def test_the_loss_s_own_gradient_is_a_gradient(footprint):
    x = torch.ones(N, requires_grad=True)
    found = footprint(lambda: (x * 1).sum().backward(), inputs=(x,))
    assert found.highest["gradients"] == FLOAT


def test_what_is_born_in_backward_is_no_activation(footprint):
    x = torch.randn(N, N, requires_grad=True)
    found = footprint(lambda: x.sin().sum().backward(), inputs=(x,))
    assert dict(found.kept) == {"activations": FLOAT}  # sin keeps x, which is an input
    assert found.highest["backward_temporaries"] >= x.nbytes
