from contextlib import nullcontext

import pytest
import torch
from torch import Generator, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from sketchbench.autodiff import Plain, blocks, flatten, linear_layers, replaced, seeded, unflatten


def perceptron():
    with seeded(Generator().manual_seed(0)):
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


class Double(nn.Module):
    def forward(self, x):
        return 2 * x


# ---------------------------------------------------------------- seeded


def test_the_same_generator_state_draws_the_same():
    draws = []
    for _ in range(2):
        with seeded(Generator().manual_seed(3)):
            draws.append(torch.rand(5))
    assert torch.equal(*draws)


def test_successive_blocks_draw_differently():
    rng, draws = Generator().manual_seed(3), []
    for _ in range(2):
        with seeded(rng):
            draws.append(torch.rand(5))
    assert not torch.equal(*draws)


def test_the_global_generator_is_restored_also_after_an_error():
    def failing():
        with seeded(Generator().manual_seed(3)):
            torch.rand(5)
            raise KeyError

    before = torch.get_rng_state()
    with pytest.raises(KeyError):
        failing()
    assert torch.equal(before, torch.get_rng_state())


def test_the_seed_is_the_generators_next_number():
    expected = int(torch.randint(2**63 - 1, (), generator=Generator().manual_seed(3)))
    with seeded(Generator().manual_seed(3)):
        assert torch.initial_seed() == expected


def test_the_seed_is_the_same_on_fake_tensors_and_no_mode_sees_it_drawn():
    class Seen(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            calls.append(function)
            return function(*args, **(kwargs or {}))

    seeds, calls = [], []
    for mode in (nullcontext(), FakeTensorMode(), Seen()):
        rng, before = Generator().manual_seed(3), torch.get_rng_state()
        with mode, seeded(rng):
            seeds.append(torch.initial_seed())
        seeds.append(int(torch.randint(100, (), generator=rng)))
        assert torch.equal(before, torch.get_rng_state())
    assert seeds == seeds[:2] * 3
    assert calls == []


# ---------------------------------------------------------------- Plain


def test_plain_is_one_forward_and_one_backward():
    model, twin = perceptron(), perceptron()
    rng = Generator().manual_seed(1)
    x, y = torch.randn(6, 4, generator=rng), torch.tensor([0, 1, 1, 0, 1, 0])
    loss = Plain(model).accumulate(x, y, F.cross_entropy)
    expected = F.cross_entropy(twin(x), y)
    expected.backward()
    assert torch.equal(loss, expected)
    assert not loss.requires_grad
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)


def test_plain_keeps_the_model_and_ends_epochs():
    model = perceptron()
    plain = Plain(model)
    plain.end_epoch(1.0)
    assert plain.model is model


# ---------------------------------------------------------------- flat vectors


def test_unflatten_undoes_flatten():
    tensors = [torch.randn(2, 3), torch.randn(()), torch.randn(0, 4), torch.randn(5)]
    vector = flatten(tensors)
    assert vector.shape == (12,)
    for back, tensor in zip(unflatten(vector, tensors), tensors, strict=True):
        assert torch.equal(back, tensor)


def test_flatten_takes_tensors_that_are_not_contiguous():
    assert flatten([torch.arange(4).view(2, 2).mT]).tolist() == [0, 2, 1, 3]


def test_flatten_is_differentiable():
    x = torch.ones(2, 2, requires_grad=True)
    (flatten([x, x]) @ torch.arange(8.0)).backward()
    assert x.grad.flatten().tolist() == [4, 6, 8, 10]


def test_unflatten_refuses_another_size():
    with pytest.raises(ValueError, match=r"shape \(3,\) does not fill 1 tensors of 4 entries"):
        unflatten(torch.zeros(3), [torch.zeros(2, 2)])


def test_flatten_refuses_nothing():
    with pytest.raises(ValueError, match="no tensors"):
        flatten([])


# ---------------------------------------------------------------- replaced


def test_a_copy_shares_parameters_and_buffers():
    model = perceptron()
    copy = replaced(model, {"2": Double()})
    assert {id(p) for p in copy.parameters()} == {id(p) for p in model.parameters()}
    assert {id(b) for b in copy.buffers()} == {id(b) for b in model.buffers()}
    assert isinstance(copy[2], Double)
    assert isinstance(model[2], nn.ReLU)


def test_a_copy_computes_with_its_swaps():
    model = perceptron().eval()
    x = torch.randn(3, 4, generator=Generator().manual_seed(1))
    assert torch.equal(replaced(model, {})(x), model(x))
    expected = model[3](2 * model[1](model[0](x)))
    assert torch.equal(replaced(model, {"2": Double()}).eval()(x), expected)


def test_train_eval_and_hooks_of_a_copy_leave_the_original():
    model = perceptron()
    copy = replaced(model, {"2": Double()})
    copy.eval()
    copy[0].register_forward_hook(lambda *_: 1 / 0)
    copy[0].extra, copy[0].bias = nn.Linear(1, 1), None
    assert all(module.training for module in model.modules())
    assert not any(module.training for name, module in copy.named_modules() if name != "0.extra")
    assert model(torch.ones(2, 4)).shape == (2, 2)
    assert model[0].bias is not None
    assert not hasattr(model[0], "extra")


def test_running_statistics_are_the_originals():
    model = perceptron()
    replaced(model, {"2": Double()})(torch.ones(2, 4))
    assert model[1].num_batches_tracked == 1
    assert model[1].running_mean.any()


def test_a_module_in_two_places_is_replaced_in_both_and_copied_once():
    relu, linear = nn.ReLU(), nn.Linear(2, 2)
    model = nn.Sequential(linear, relu, nn.Sequential(linear, relu))
    copy = replaced(model, {"2.1": Double()})
    assert isinstance(copy[1], Double)
    assert copy[1] is copy[2][1]
    assert copy[0] is copy[2][0]
    assert copy[0] is not linear


def test_nested_and_whole_models_are_replaced():
    model = nn.ModuleDict({"body": perceptron()})
    assert isinstance(replaced(model, {"body.0": Double()})["body"][0], Double)
    whole = Double()
    assert replaced(model, {"": whole}) is whole


def test_replacing_an_unknown_module_names_the_nearest():
    with pytest.raises(ValueError, match=r"no submodule 'bodi'; did you mean 'body'\?"):
        replaced(nn.ModuleDict({"body": nn.ReLU()}), {"bodi": Double()})


# ---------------------------------------------------------------- blocks


def test_blocks_own_parameters():
    assert [name for name, _ in blocks(perceptron())] == ["0", "1", "3"]


def test_blocks_are_children_of_the_outermost_sequences():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Linear(2, 2)
            self.one = nn.Sequential(perceptron(), nn.ReLU(), nn.Linear(2, 2))
            self.two = nn.Sequential(perceptron())

    net = Net()
    assert blocks(net) == [("one.0", net.one[0]), ("one.2", net.one[2]), ("two.0", net.two[0])]


@pytest.mark.parametrize("model", [nn.Linear(2, 2), nn.Sequential(nn.ReLU())])
def test_a_model_without_blocks_is_an_error(model):
    with pytest.raises(ValueError, match=r"has no nn\.Sequential whose children own parameters"):
        blocks(model)


# ---------------------------------------------------------------- linear_layers


def hybrid():
    return nn.Sequential(
        nn.Conv2d(1, 2, 3),
        nn.Linear(2, 2),
        nn.Sequential(nn.Linear(2, 2), nn.MultiheadAttention(2, 1)),
        nn.Linear(2, 2),
    )


@pytest.mark.parametrize(
    ("scope", "expected"),
    [("all", ("1", "2.0", "3")), ("hidden", ("2.0", "3")), (("3", "1"), ("1", "3")), ((), ())],
)
def test_scopes_name_plain_linear_layers(scope, expected):
    assert linear_layers(hybrid(), scope) == expected


@pytest.mark.parametrize("name", ["2.1.out_proj", "0", "2.00"])
def test_a_name_of_no_linear_layer_is_an_error(name):
    with pytest.raises(ValueError, match=rf"no linear layer '{name}'.*known: 1, 2\.0, 3"):
        linear_layers(hybrid(), (name,))


def test_a_model_without_linear_layers_has_none():
    assert linear_layers(nn.ReLU(), "all") == linear_layers(nn.ReLU(), "hidden") == ()
