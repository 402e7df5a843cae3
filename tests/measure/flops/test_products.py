import pytest
import torch
from torch import nn

# torch says so of operations that it still has, and whose count matters therefore
pytestmark = pytest.mark.filterwarnings("ignore:.*(deprecated|beta)")

S = torch.eye(5)[:, :4].contiguous()  # 4 entries stored where sparse
PRODUCTS = {
    "mm": (lambda a, b: a @ b, 2 * 5 * 4 * 3),
    "out": (lambda a, b: torch.mm(a, b, out=torch.empty(5, 3)), 2 * 5 * 4 * 3),
    "addmm_": (lambda a, b: torch.zeros(5, 3).addmm_(a, b), 2 * 5 * 4 * 3),
    "mv": (lambda a, b: a @ b[:, 0], 2 * 5 * 4),
    "addmv": (lambda a, b: torch.addmv(a[:, 0], a, b[:, 0]), 2 * 5 * 4),
    "addmv_": (lambda a, b: torch.zeros(5).addmv_(a, b[:, 0]), 2 * 5 * 4),
    "dot": (lambda a, b: a[0] @ b[:, 0], 2 * 4),
    "vdot": (lambda a, b: torch.vdot(a[0], b[:, 0]), 2 * 4),
    "addr": (lambda a, b: torch.addr(torch.zeros(5, 3), a[:, 0], b[0]), 2 * 5 * 3),
    "addr_": (lambda a, b: torch.zeros(5, 3).addr_(a[:, 0], b[0]), 2 * 5 * 3),
    "bmm": (lambda a, b: torch.bmm(a.expand(2, 5, 4), b.expand(2, 4, 3)), 2 * 2 * 5 * 4 * 3),
    "addbmm": (
        lambda a, b: torch.addbmm(torch.zeros(5, 3), a.expand(2, 5, 4), b.expand(2, 4, 3)),
        2 * 2 * 5 * 4 * 3,
    ),
    "baddbmm_": (
        lambda a, b: torch.zeros(2, 5, 3).baddbmm_(a.expand(2, 5, 4), b.expand(2, 4, 3)),
        2 * 2 * 5 * 4 * 3,
    ),
    "einsum": (lambda a, b: torch.einsum("ij,jk->ik", a, b), 2 * 5 * 4 * 3),
    "sparse": (lambda a, b: a.to_sparse() @ b, 2 * 4 * 3),
    "sparse.mm": (lambda a, b: torch.sparse.mm(a.to_sparse(), b), 2 * 4 * 3),
    "csr": (lambda a, b: a.to_sparse_csr() @ b, 2 * 4 * 3),
    "csr vector": (lambda a, b: a.to_sparse_csr() @ b[:, 0], 2 * 4),
    "sparse second": (lambda a, b: b.T @ a.T.to_sparse_csr(), 2 * 4 * 3),
    "sampled": (
        lambda a, b: torch.sparse.sampled_addmm(torch.eye(5, 3).to_sparse_csr(), a, b),
        2 * 3 * 4,
    ),
    "index_add": (lambda a, b: torch.zeros(2, 4).index_add(0, torch.tensor([0, 1, 1]), a[:3]), 12),
    "index_add_": (
        lambda a, b: torch.zeros(2, 4).index_add_(0, torch.tensor([0, 1, 1]), a[:3], alpha=2),
        24,
    ),
    "scatter_add_": (
        lambda a, b: torch.zeros(2, 4).scatter_add_(0, torch.zeros(2, 3, dtype=torch.long), a),
        6,
    ),
    "scatter_reduce": (
        lambda a, b: torch.zeros(2, 4).scatter_reduce(
            0, torch.zeros(2, 3, dtype=torch.long), a, "amax"
        ),
        6,
    ),
    "index_reduce": (
        lambda a, b: torch.zeros(2, 4).index_reduce(0, torch.tensor([0, 1]), a[:2], "mean"),
        8,
    ),
    "index_put": (
        lambda a, b: torch.zeros(2, 4).index_put((torch.tensor([0, 1, 1]),), a[:3], True),
        12,
    ),
    "index_put of one value": (
        lambda a, b: torch.zeros(2, 4).index_put_(
            (torch.tensor([[0], [1]]),), torch.tensor(1.0), accumulate=True
        ),
        8,
    ),
    "index_put mask": (
        lambda a, b: torch.zeros(2).index_put((torch.tensor([True, False]),), a[0, :1], True),
        1,
    ),
    "index_put replaces": (lambda a, b: torch.zeros(2, 4).index_put((torch.tensor(0),), a[0]), 0),
    "bincount": (lambda a, b: torch.bincount(torch.tensor([0, 1, 1]), weights=b[0]), 3),
    "bincount of integers": (lambda a, b: torch.bincount(torch.tensor([0, 1, 1])), 0),
    "embedding_bag": (
        lambda a, b: nn.functional.embedding_bag(
            torch.tensor([0, 1, 1]), a, torch.tensor([0, 2]), mode="sum"
        ),
        12,
    ),
    "embedding_bag weighted": (
        lambda a, b: nn.functional.embedding_bag(
            torch.tensor([0, 1, 1]), a, torch.tensor([0, 2]), mode="sum", per_sample_weights=b[0]
        ),
        24,
    ),
    "elementwise": (lambda a, b: (a * 2 + 1).exp().sum().sqrt().add_(1), 0),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_and_scattered_sums_count_by_hand(count, rand, name):
    work, flops = PRODUCTS[name]
    b = rand(4, 3, dtype=torch.float32)
    reading = count(lambda: work(S, b))
    assert (reading.total, reading.missing) == (flops, ())
    with torch.inference_mode():
        assert count(lambda: work(S, b)).total == flops


def test_complex_products_take_four_times_as_much(count, rand):
    a = rand(5, 4, dtype=torch.complex64)
    assert count(lambda: a @ a.T).total == 8 * 5 * 4 * 5
    assert count(lambda: torch.vdot(a[0], a[1])).total == 8 * 4


def test_embeddings_and_indexing_count_what_their_gradients_add(count, rand):
    x = torch.rand(2, 4, requires_grad=True)
    assert count(lambda: x[:, torch.tensor([0, 1, 1])].sum().backward()).total == 6
    table = nn.Embedding(7, 3)
    inputs = torch.tensor([1, 1, 5])
    assert count(lambda: table(inputs).sum().backward()).total == 9
    bag = nn.EmbeddingBag(7, 3, mode="sum")
    assert count(lambda: bag(inputs, torch.tensor([0, 2])).sum().backward()).total == 18


@pytest.mark.parametrize(("groups", "transposed"), [(1, False), (2, False), (4, False), (2, True)])
def test_convolutions_count_their_groups_forward_and_backward(count, rand, groups, transposed):
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    layer = kind(4, 8, 3, stride=2, groups=groups)
    x = rand(2, 4, 9, 9, dtype=torch.float32).requires_grad_()
    places = 81 if transposed else 16
    flops = 2 * 2 * places * 8 * 4 // groups * 9
    reading = count(lambda: layer(x).sum().backward())
    assert reading.by_op == {"convolution_backward": 2 * flops, "convolution": flops}
    x.requires_grad_(False)
    assert count(lambda: layer(x).sum().backward()).total == 2 * flops


def test_attention_on_the_cpu_is_its_products(count, rand):
    q, k, v = (rand(2, 3, tokens, 8, dtype=torch.float32) for tokens in (5, 7, 7))
    for x in (q, k, v):
        x.requires_grad_()
    product = 2 * 2 * 3 * 5 * 7 * 8
    reading = count(lambda: nn.functional.scaled_dot_product_attention(q, k, v).sum().backward())
    assert reading.total == 7 * product
