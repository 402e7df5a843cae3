import pytest
import torch
from torch import Generator
from torch.utils._python_dispatch import TorchDispatchMode

from sketchbench.linalg import Workspace, block_fold, block_unfold, blocks_at_once, hadamard

CPU = torch.device("cpu")
CASES = {  # size of a block, D, runs, entries, start, orders
    "plain": (512, 64, None, 1300, 0, 1),
    "permuted": (512, 64, 32, 1024, 0, 1),
    "an order a block": (512, 128, 32, 1100, 300, 3),
    "inside one block": (1024, 64, None, 100, 500, 1),
    "single entries": (512, 64, 512, 700, 3, 1),
    "short of a tile": (16, 4, 4, 50, 3, 1),
    "one long run": (512, 512, 1, 600, 0, 1),
    "to one number": (256, 1, None, 300, 1, 1),
}


class Case:
    """A drawn map and its dense matrix."""

    def __init__(self, size, out_size, runs, count, start, orders):
        rng = Generator().manual_seed(size + count)
        blocks = -(-(start + count) // size)
        self.start, self.count, self.out_size, self.size = start, count, out_size, size
        self.signs = torch.randint(2, (count,), generator=rng).mul(2).sub(1).to(torch.int8)
        self.gaussians = torch.randn(blocks, size, generator=rng)
        self.order = None
        if runs:
            drawn = [torch.randperm(runs, generator=rng) for _ in range(orders)]
            self.order = torch.stack(drawn).int() if orders > 1 else drawn[0].int()

    def drawn(self, *middle):
        return (self.signs, self.gaussians, *middle, self.order)

    def fold(self, x, **options):
        out = x.new_zeros(*x.shape[:-1], self.out_size)
        signs, gaussians, order = self.drawn()
        return block_fold(x, signs, gaussians, out, order, start=self.start, **options)

    def unfold(self, y, **options):
        return block_unfold(y, *self.drawn(), start=self.start, **options)

    def dense(self):
        """The formula, entry by entry: (n, D)."""
        blocks, size = self.gaussians.shape
        places = torch.arange(self.count) + self.start
        images = torch.zeros(self.count, blocks, size, dtype=torch.float64)
        h = hadamard(size, torch.float64, CPU) * 1.0
        rows = h[places % size] * self.signs[:, None]
        images[torch.arange(self.count), places // size] = rows
        if self.order is not None:
            orders = self.order.view(-1, self.order.shape[-1])
            runs = images.view(self.count, blocks, orders.shape[1], -1)
            each = [runs[:, b, orders[b % len(orders)].long()] for b in range(blocks)]
            images = torch.stack(each, 1).reshape(self.count, blocks, size)
        images = images * self.gaussians
        return images.view(self.count, -1, self.out_size).sum(1)


@pytest.fixture(params=CASES)
def case(request):
    return Case(*CASES[request.param])


def normal(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=Generator().manual_seed(seed))


def distance(actual, expected):
    return float((actual.double() - expected.double()).norm() / expected.double().norm())


def test_fold_and_its_adjoint_against_the_dense_matrix(case, kernel):
    """Float32 rounds each of at most 10 passes and of the sums over a fold, 2^-24 a time."""
    dense = case.dense()
    x, y = normal(2, 2, case.count), normal(2, 2, case.out_size, seed=1)
    before = x.clone()
    assert distance(case.fold(x, kernel=kernel), x.double() @ dense) <= 1e-6
    assert distance(case.unfold(y, kernel=kernel), y.double() @ dense.mT) <= 1e-6
    assert torch.equal(x, before)


def test_double_precision_stays_double(case):
    dense = case.dense()
    x = normal(2, case.count, dtype=torch.float64)
    y = normal(2, case.out_size, dtype=torch.float64, seed=1)
    assert distance(case.fold(x), x @ dense) <= 1e-13
    assert distance(case.unfold(y), y @ dense.mT) <= 1e-13


@pytest.mark.nightly  # it compiles kernels of their own
@pytest.mark.parametrize("kernel", ["compiled"], indirect=True)
def test_double_precision_stays_double_in_compiled_kernels(case, kernel):
    x = normal(2, case.count, dtype=torch.float64)
    y = normal(2, case.out_size, dtype=torch.float64, seed=1)
    assert distance(case.fold(x, kernel=kernel), case.fold(x, kernel="torch")) <= 1e-14
    assert distance(case.unfold(y, kernel=kernel), case.unfold(y, kernel="torch")) <= 1e-14


def test_pieces_of_a_vector_add_up(kernel):
    """Cuts lie inside of blocks, and where one ends."""
    case = Case(1024, 64, 64, 5000, 0, 5)
    x, order = normal(2, 5000), case.order
    whole, sums = case.fold(x, kernel=kernel), torch.zeros(2, 64)
    for start, stop in ((0, 300), (300, 1024), (1024, 1030), (1030, 4096), (4096, 5000)):
        first, last = start // 1024, -(-stop // 1024)
        drawn = (case.signs[start:stop], case.gaussians[first:last])
        places = {"start": start % 1024, "kernel": kernel}
        block_fold(x[:, start:stop], *drawn, sums, order[first:last], **places)
        piece = block_unfold(whole, *drawn, order[first:last], **places)
        expected = case.unfold(whole, kernel=kernel)[:, start:stop]
        assert distance(piece, expected) <= 1e-6
    assert distance(sums, whole) <= 1e-6


def test_many_vectors_are_each_alone_and_may_be_none(kernel):
    case = Case(1024, 64, 64, 2500, 0, 1)
    x = normal(2500, 3, 7).permute(1, 2, 0)
    alone = torch.stack([case.fold(row, kernel=kernel) for row in x.reshape(21, -1)])
    assert distance(case.fold(x, kernel=kernel), alone.view(3, 7, 64)) <= 1e-6
    assert case.fold(x[:0], kernel=kernel).shape == (0, 7, 64)
    assert case.unfold(x[:0, :, :64], kernel=kernel).shape == (0, 7, 2500)
    none = (torch.zeros(0, dtype=torch.int8), torch.zeros(0, 1024))
    assert block_unfold(x[..., :64], *none, kernel=kernel).shape == (3, 7, 0)
    sums = torch.ones(3, 7, 64)
    assert torch.equal(block_fold(x[..., :0], *none, sums, kernel=kernel), torch.ones(3, 7, 64))


def test_it_adds_to_what_is_there_and_the_workspace_holds_nothing_of_it(kernel):
    case, space, sums = Case(1024, 64, None, 2500, 0, 1), Workspace(), torch.ones(64)
    x = normal(2500)
    fresh = case.fold(x, kernel=kernel)
    for buffer in (0, 1):
        space.buffer(buffer, (9000,), torch.float32, CPU).fill_(torch.nan)
    block_fold(x, case.signs, case.gaussians, sums, None, space, kernel=kernel)
    assert distance(sums - 1, fresh) <= 1e-6
    out = torch.full((2500,), torch.nan)
    assert case.unfold(fresh, workspace=space, out=out, kernel=kernel) is out
    assert torch.equal(out, case.unfold(fresh, kernel=kernel))


def test_nothing_of_the_vectors_size_is_made(kernel):
    """No operation returns memory of more than a block, but for what it was given."""
    case = Case(1024, 64, 64, 2**15, 0, 1)
    x, out = normal(2**15), torch.zeros(64)
    given = {each.untyped_storage().data_ptr() for each in (x, *case.drawn(out))}
    made = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                memory = result.untyped_storage()
                if memory.data_ptr() not in given:
                    made.append(memory.nbytes())
            return result

    with Watch():
        block_fold(x, *case.drawn(out), kernel=kernel)
    assert made
    assert max(made) <= 1024 * 4


def test_fold_and_adjoint_can_be_differentiated_and_mapped_over():
    case = Case(1024, 64, 64, 2500, 0, 1)
    x = normal(3, 2500, dtype=torch.float64)
    y = normal(3, 64, dtype=torch.float64, seed=1)
    leaf = x.clone().requires_grad_()
    (case.fold(leaf) * y).sum().backward()
    assert distance(leaf.grad, case.unfold(y)) <= 1e-14
    leaf = y.clone().requires_grad_()
    (case.unfold(leaf) * x).sum().backward()
    assert distance(leaf.grad, case.fold(x)) <= 1e-14
    assert distance(torch.func.vmap(case.fold)(x), case.fold(x)) <= 1e-14
    assert distance(torch.func.jvp(case.unfold, (y,), (y,))[1], case.unfold(y)) <= 1e-14


def test_a_number_that_is_not_finite_is_not_lost(kernel):
    case = Case(1024, 64, 64, 2500, 0, 1)
    x = normal(2500)
    x[1700] = torch.nan
    assert not case.fold(x, kernel=kernel).isfinite().any()


def test_bad_input_is_named():
    case = Case(1024, 64, 64, 2500, 0, 1)
    signs, gaussians, order = case.drawn()
    x, out = normal(2500), torch.zeros(64)
    for arguments, said in (
        ((x.half(), signs, gaussians, out.half()), "block_fold: torch.float16; float32 or"),
        ((x, signs[1:], gaussians, out), "signs are (2499,), torch.int8; (2500,) in int8"),
        ((x, signs.float(), gaussians, out), "signs are (2500,), torch.float32"),
        ((x, signs, gaussians[:2], out), "2500 entries from 0 on don't fill 2 blocks of 1024"),
        ((x, signs, gaussians[0], out), "gaussians are (1024,)"),
        ((x, signs, gaussians.double(), out), "gaussians are (3, 1024), torch.float64"),
        ((x, signs, gaussians[:, :1000], out), "blocks of 1000 folded to 64"),
        ((x, signs, gaussians, torch.zeros(48)), "blocks of 1024 folded to 48"),
        ((x, signs, gaussians, out, order.long()), "order is (1, 64), torch.int64"),
        ((x, signs, gaussians, out, order[:63]), "order is (1, 63)"),
        ((x, signs, gaussians, torch.zeros(8), order), "1024 / R divides"),
        ((x, signs, gaussians, torch.zeros(2, 64)), "block_fold: out is (2, 64)"),
        ((x, signs, gaussians, out.double()), "block_fold: out is (64,), torch.float64"),
        ((x, signs, gaussians, torch.zeros(128)[::2]), "block_fold: out isn't contiguous"),
    ):
        with pytest.raises(ValueError, match="block_fold") as raised:
            block_fold(*arguments)
        assert said in str(raised.value)
    with pytest.raises(ValueError, match="2500 entries from 1024 on"):
        block_fold(x, signs, gaussians, out, start=1024)
    with pytest.raises(ValueError, match="block_unfold: out is"):
        block_unfold(out, signs, gaussians, out=x[1:])


@pytest.mark.parametrize("many", [2, 3, 100])
def test_blocks_that_are_taken_together_are_those_taken_one_by_one(case, many, monkeypatch):
    """As they are on a GPU; sums of as many numbers, in another order."""
    x, y = normal(2, case.count), normal(2, case.out_size, seed=1)
    one, back = case.fold(x, kernel="torch"), case.unfold(y, kernel="torch")
    monkeypatch.setattr("sketchbench.linalg.blocks.blocks_at_once", lambda *_: many)
    space = Workspace()
    assert distance(case.fold(x, kernel="torch", workspace=space), one) <= 1e-6
    assert distance(case.unfold(y, kernel="torch", workspace=space), back) <= 1e-6
    mapped = torch.func.vmap(lambda row: case.fold(row, kernel="torch"))(x)
    assert distance(mapped, one) <= 1e-6


def test_how_many_blocks_are_taken_together():
    assert blocks_at_once(CPU, 2**16) == 1
    cuda = torch.device("cuda")
    assert blocks_at_once(cuda, 2**16) == 2**8
    assert blocks_at_once(cuda, 2**16, vectors=16) == 2**4
    assert blocks_at_once(cuda, 2**16, vectors=0) == 2**8
    assert blocks_at_once(cuda, 2**24) == 1
