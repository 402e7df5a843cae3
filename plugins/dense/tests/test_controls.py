"""Controls replace weight gradients of linear layers, and nothing else."""

import pytest
import torch
from pydantic import ValidationError
from sketchbench_dense import RandomGradient, ZeroGradient
from sketchbench_dense.micro_batch import saved_bytes
from torch import Generator, nn
from torch.nn import functional as F

from sketchbench import Skip
from sketchbench.autodiff import Plain

CONTROLS = [ZeroGradient, RandomGradient]


def hybrid():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 8),
        nn.Tanh(),
        nn.Linear(8, 8, bias=False),
        nn.Tanh(),
        nn.Linear(8, 3),
    )


def gradients(sketched, model):
    rng = Generator().manual_seed(1)
    inputs, targets = torch.randn(5, 1, 4, 4, generator=rng), torch.randint(3, (5,), generator=rng)
    inputs.requires_grad_()
    sketched.accumulate(inputs, targets, F.cross_entropy)
    return {"inputs": inputs.grad, **{name: p.grad for name, p in model.named_parameters()}}


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize(
    ("scope", "touched"),
    [("all", {"3", "5", "7"}), ("hidden", {"5", "7"}), (("5",), {"5"})],
)
def test_everything_but_the_weights_in_scope_is_exact_to_the_bit(control, scope, touched):
    model, twin = hybrid(), hybrid()
    sketched = control(scope=scope).build(model, 5, Generator().manual_seed(0))
    actual, exact = gradients(sketched, model), gradients(Plain(twin), twin)
    replaced = {name for name in exact if not torch.equal(actual[name], exact[name])}
    assert replaced == {f"{name}.weight" for name in touched}


def test_zero_gradient_is_zero_and_not_none():
    model = hybrid()
    actual = gradients(ZeroGradient().build(model, 5, Generator()), model)
    for name in ("3.weight", "5.weight", "7.weight"):
        assert torch.equal(actual[name], torch.zeros_like(actual[name]))


def test_zero_gradient_keeps_no_input():
    """Identity between the layers keeps nothing, so all that is left is the loss's own."""
    model = nn.Sequential(nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 3))
    x, y = torch.randn(10, 6), torch.randn(10, 3)
    sketched = ZeroGradient().build(model, 10, Generator()).model
    assert saved_bytes(sketched, x, y, F.mse_loss) == 10 * 3 * 4
    assert saved_bytes(model, x, y, F.mse_loss) == (16 + 16 + 3) * 10 * 4


def test_random_gradient_is_noise_of_the_exact_norm():
    """The norm is the exact one; the cosine of n = 512 entries is below 4/√n."""
    model, twin = hybrid(), hybrid()
    sketched = RandomGradient().build(model, 5, Generator().manual_seed(0))
    actual, exact = gradients(sketched, model), gradients(Plain(twin), twin)
    for name in ("3.weight", "5.weight", "7.weight"):
        noise, true = actual[name].flatten(), exact[name].flatten()
        torch.testing.assert_close(noise.norm(), true.norm(), rtol=1e-5, atol=0)
        assert F.cosine_similarity(noise, true, dim=0).abs() < 4 / noise.numel() ** 0.5


def test_random_gradient_is_drawn_anew_each_step():
    model = hybrid()
    sketched = RandomGradient().build(model, 5, Generator().manual_seed(0))
    first = gradients(sketched, model)["5.weight"].clone()
    model.zero_grad()
    assert not torch.equal(gradients(sketched, model)["5.weight"], first)


def test_random_gradient_of_a_zero_gradient_is_zero():
    model = nn.Sequential(nn.Linear(2, 2))
    sketched = RandomGradient().build(model, 1, Generator())
    sketched.accumulate(torch.zeros(1, 2), torch.zeros(1, 2), F.l1_loss)
    assert torch.equal(model[0].weight.grad, torch.zeros(2, 2))


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("leading", [(), (3,), (2, 3), (2, 1, 3)])
def test_inputs_may_have_any_leading_dimensions(control, leading):
    torch.manual_seed(0)
    linear = nn.Linear(4, 2)
    layer = control().build(nn.Sequential(linear), 1, Generator()).model
    x = torch.randn(*leading, 4, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    assert torch.equal(layer(x), linear(y))
    layer(x).square().sum().backward()
    bias, linear.bias.grad = linear.bias.grad, None
    linear(y).square().sum().backward()
    torch.testing.assert_close(x.grad, y.grad)
    torch.testing.assert_close(bias, linear.bias.grad)


@pytest.mark.parametrize("control", CONTROLS)
def test_mixed_precision_gives_gradients_in_the_parameters_precision(control):
    model = hybrid()
    sketched = control().build(model, 5, Generator())
    rng = Generator().manual_seed(1)
    inputs, targets = torch.randn(5, 1, 4, 4, generator=rng), torch.randint(3, (5,), generator=rng)

    def loss(outputs, targets):
        return F.cross_entropy(outputs.float(), targets)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        sketched.accumulate(inputs, targets, loss)
    assert all(p.grad.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("control", CONTROLS)
def test_a_weight_in_two_layers_is_still_one(control):
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    sketched = control().build(model, 2, Generator().manual_seed(0))
    sketched.accumulate(torch.randn(2, 4), torch.randn(2, 4), F.mse_loss)
    assert sketched.model[0].weight is sketched.model[2].weight
    assert model[0].weight.grad.isfinite().all()


@pytest.mark.parametrize("control", CONTROLS)
def test_a_scope_without_layers_is_skipped(control):
    with pytest.raises(Skip, match="no linear layer in scope 'hidden'"):
        control(scope="hidden").build(nn.Sequential(nn.Linear(2, 2)), 1, Generator())


@pytest.mark.parametrize("control", CONTROLS)
def test_an_unknown_layer_is_an_error(control):
    with pytest.raises(ValueError, match="no linear layer '33'; did you mean '3'"):
        control(scope=("33",)).build(hybrid(), 1, Generator())


def test_an_unknown_scope_is_one_error():
    with pytest.raises(ValidationError) as caught:
        ZeroGradient(scope="none")
    (error,) = caught.value.errors()
    assert error["loc"] == ("scope",)
    assert error["msg"] == "expected all, hidden or a list of layers; got none"


def test_scope_may_be_a_list_of_names_in_yaml():
    assert ZeroGradient.model_validate({"scope": ["5", "7"]}).scope == ("5", "7")
