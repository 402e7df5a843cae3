import threading

import pytest
import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from sketchbench.measure import category, labelling, labels

FLOAT = 4
N = 100


class Sketched(torch.autograd.Function):
    """x, and in backward twice the sketch that forward kept and one of the gradient's own."""

    @staticmethod
    def forward(ctx, x):
        with category("sketch"):
            ctx.sketch = x[:10] * 2
        return x * 1

    @staticmethod
    def backward(ctx, grad):
        with category("sketch"):
            ctx.second = grad[:20] * 2
        return grad + ctx.sketch.sum() + ctx.second.sum()


def test_what_is_born_in_the_category_is_a_sketch(footprint):
    def work():
        with category("sketch"):
            sketch = torch.zeros(N)
        return sketch, torch.zeros(3)

    found = footprint(work)
    assert dict(found.at_peak) == {"sketches": N * FLOAT, "forward_temporaries": 3 * FLOAT}


def test_views_and_work_in_place_in_the_category_make_nothing_a_sketch(footprint):
    x = torch.zeros(N)

    def work():
        with category("sketch"):
            return x.view(10, 10).t(), x.add_(1)

    assert dict(footprint(work, inputs=(x,)).at_peak) == {"inputs": N * FLOAT}


def test_sketches_of_forward_and_backward_are_kept_and_counted(footprint):
    x = torch.ones(N, requires_grad=True)
    found = footprint(lambda: Sketched.apply(x).sum().backward(), inputs=(x,))
    assert dict(found.kept) == {"activations": FLOAT, "sketches": 10 * FLOAT}
    assert found.highest["sketches"] == 30 * FLOAT


def test_categories_nest_and_end(footprint):
    def work():
        with category("sketch"):
            with category("sketch"):
                first = torch.zeros(N)
            second = torch.zeros(N)
        assert labels.stack() == []
        return first, second, torch.zeros(N)

    found = footprint(work)
    assert found.at_peak == {"sketches": 2 * N * FLOAT, "forward_temporaries": N * FLOAT}


def test_an_error_ends_its_category():
    with labelling():
        with pytest.raises(ArithmeticError), category("sketch"):
            raise ArithmeticError
        assert labels.stack() == []
        assert not _get_current_dispatch_mode_stack()


def test_a_sketch_from_before_the_region_is_known_while_labelling(footprint):
    with labelling():
        with category("sketch"):
            sketch = torch.zeros(N)
        found = footprint(lambda: sketch + 1)
    assert found.at_peak["sketches"] == found.start == N * FLOAT


def test_a_sketch_from_before_is_external_where_nothing_was_labelling(footprint):
    with category("sketch"):
        assert not _get_current_dispatch_mode_stack()  # so it costs a push and a pop
        sketch = torch.zeros(N)
    found = footprint(lambda: sketch + 1)
    assert found.at_peak["external"] == N * FLOAT
    assert "sketches" not in found.highest


def test_labelling_enters_a_mode_within_the_category_alone():
    with labelling():
        assert not _get_current_dispatch_mode_stack()
        with category("sketch"):
            assert len(_get_current_dispatch_mode_stack()) == 1
        with labelling():
            pass
        with category("sketch"):
            assert len(_get_current_dispatch_mode_stack()) == 1
    with category("sketch"):
        assert not _get_current_dispatch_mode_stack()


@pytest.mark.parametrize("audited", [True, False])
def test_a_sketch_kept_over_regions_stays_one(footprint, audited):
    held = {}

    def first():
        with category("sketch"):
            held["sketch"] = torch.zeros(N)

    def later():
        held["sketch"].mul_(0.9).add_(torch.ones(N))

    def both():
        return footprint(first), footprint(later), footprint(later)

    if audited:
        with labelling():
            found = both()
    else:
        found = both()
    assert [each.highest["sketches"] for each in found] == [N * FLOAT] * 3
    assert [each.start for each in found] == [0, N * FLOAT, N * FLOAT]


@pytest.mark.parametrize("measured", [False, True])
def test_a_sketch_of_another_thread_is_one_where_it_is_used(footprint, measured):
    held = {}

    def sketch():
        with category("sketch"):
            held["sketch"] = torch.zeros(N)

    def in_a_thread():
        thread = threading.Thread(target=sketch)
        thread.start()
        thread.join()

    with labelling():
        if not measured:
            in_a_thread()

        def work():
            if measured:
                in_a_thread()
            return held["sketch"] + 1

        assert footprint(work).highest["sketches"] == N * FLOAT


def test_a_category_labels_nothing_of_another_thread(footprint):
    held = {}

    def plain():
        held["plain"] = torch.zeros(N)

    def work():
        with category("sketch"):
            thread = threading.Thread(target=plain)
            thread.start()
            thread.join()
        return held["plain"] + 1

    with labelling():
        assert "sketches" not in footprint(work).highest


def test_a_dead_sketch_lends_its_label_to_nothing(footprint):
    with labelling():
        for _ in range(20):
            with category("sketch"):
                torch.zeros(N)
            x = torch.zeros(N)
            assert "sketches" not in footprint(lambda x=x: x + 1).highest


def test_an_unknown_category_says_which_there_are():
    with pytest.raises(ValueError, match=r"category 'sketches': .*known: sketch"):
        category("sketches")


def test_a_sketch_that_the_optimizer_holds_is_not_kept_for_backward(footprint):
    parameter = torch.nn.Parameter(torch.ones(N))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    model = torch.nn.ParameterList([parameter])
    with labelling():
        with category("sketch"):
            optimizer.state[parameter]["basis"] = torch.zeros(N)
        found = footprint(lambda: (parameter * 1).sum().backward(), model, optimizer)
    assert found.at_peak["sketches"] == N * FLOAT
    assert dict(found.kept) == {"activations": FLOAT}
    assert dict(found.state) == {"rest": N * FLOAT}
