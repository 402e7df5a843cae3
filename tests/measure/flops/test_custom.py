import operator

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from sketchbench.measure.flop_formulas import hadamard_flops
from sketchbench.measure.flops import FlopCount, counted, register

# torch says so of operations that it still has, and whose count matters therefore
pytestmark = pytest.mark.filterwarnings("ignore:.*(deprecated|beta)")


def test_what_has_no_formula_is_missing_and_named(count, rand):
    a = rand(5, 5)
    reading = count(lambda: torch.linalg.matrix_exp(a @ a))
    assert reading.total == 250
    assert reading.missing == (
        "aten::linalg_matrix_exp has no FLOP formula: sketchbench.measure.register gives it one",
    )
    sparse = torch.eye(4).to_sparse_csr()
    (why,) = count(lambda: sparse @ sparse).missing
    assert why == "the FLOPs of a product of two sparse matrices depend on where they meet"


def test_a_custom_operation_is_missing_until_it_is_registered(count, rand):
    @torch.library.custom_op("sketchbench_tests::hadamard", mutates_args=())
    def hadamard(x: torch.Tensor, times: int = 1) -> torch.Tensor:
        return x @ torch.ones(x.shape[-1], x.shape[-1], dtype=x.dtype)

    @hadamard.register_fake
    def _(x, times=1):
        return torch.empty_like(x)

    x = rand(3, 8)
    assert count(lambda: hadamard(x)).missing == (
        "sketchbench_tests::hadamard has no FLOP formula: "
        "sketchbench.measure.register gives it one",
    )
    seen = []

    def formula(x, times=1, *, out_val):
        seen.append(out_val.shape)
        return times * x.numel() // x.shape[-1] * hadamard_flops(x.shape[-1])

    register("sketchbench_tests::hadamard", formula)
    register("sketchbench_tests::hadamard", formula)  # the same again is no clash
    reading = count(lambda: (hadamard(x), hadamard(x, 2)))
    assert reading == FlopCount(3 * 3 * 24, {"sketchbench_tests.hadamard": 3 * 3 * 24})
    assert seen == [x.shape] * 2
    with FakeTensorMode():
        assert count(lambda: hadamard(torch.empty(3, 8))).total == 3 * 24
    with pytest.raises(ValueError, match="'sketchbench_tests::hadamard' has a formula already"):
        register("sketchbench_tests::hadamard", lambda *_, **__: 0)


@pytest.mark.parametrize("name", ["hadamard", "a::b.default", "a.b", "::b", ""])
def test_a_name_that_is_not_qualified_is_refused(name):
    with pytest.raises(ValueError, match="is not a qualified name such as 'mine::hadamard'"):
        register(name, operator.add)


def test_an_error_in_a_formula_is_not_swallowed(count, rand):
    @torch.library.custom_op("sketchbench_tests::broken", mutates_args=())
    def broken(x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    register("sketchbench_tests::broken", lambda x, out_val: x.nonsense)
    with pytest.raises(AttributeError, match="nonsense"):
        count(lambda: broken(rand(2)))
    assert count(lambda: rand(2, 2) @ rand(2, 2)).total == 16


def butterflies(x):
    with counted(x.numel() // x.shape[-1] * hadamard_flops(x.shape[-1])):
        return x @ torch.ones(x.shape[-1], x.shape[-1], dtype=x.dtype)


def test_counted_code_counts_with_its_own_number(count, rand):
    x = rand(3, 8)
    reading = count(lambda: butterflies(x) @ x.T)
    assert reading.by_op == {"mm": 2 * 3 * 8 * 3, "counted": 3 * 24}


def test_of_nested_blocks_the_outermost_counts(count, rand):
    def work():
        with counted(10):
            butterflies(rand(2, 2))

    assert count(work).by_op == {"counted": 10}


def test_counted_code_may_hold_what_has_no_formula(count, rand):
    def work():
        with counted(10):
            torch.linalg.matrix_exp(rand(3, 3))

    assert count(work) == FlopCount(10, {"counted": 10})


def test_counting_goes_on_after_an_error_in_counted_code(count, rand):
    def work():
        with pytest.raises(ZeroDivisionError), counted(10):
            raise ZeroDivisionError
        rand(2, 2) @ rand(2, 2)

    assert count(work).by_op == {"mm": 16, "counted": 10}


def test_without_a_meter_counted_code_just_runs(rand):
    x = rand(3, 4)
    assert butterflies(x).shape == (3, 4)
    assert counted(1) is counted(2)


@pytest.mark.parametrize("flops", [-1, 1.5])
def test_a_number_that_is_no_count_is_refused(count, flops):
    with pytest.raises(ValueError, match=f"counted: {flops} is no number of operations"):
        count(lambda: counted(flops))
