import threading

import pytest
import torch

from sketchbench import Missing
from sketchbench.builtin.metrics.flops import BuildFlops, StepFlops
from sketchbench.measure.flops import FlopCount, Flops, counted


def test_meters_can_be_nested_and_used_again(rand):
    outer, inner, a = Flops(), Flops(), rand(2, 2)
    outer.start()
    inner.start()
    a @ a
    with counted(5):
        pass
    assert inner.stop().total == 21
    a @ a
    assert outer.stop().total == 37
    inner.start()
    assert inner.stop() == FlopCount(0, {})


def test_a_meter_that_was_not_started_says_so():
    with pytest.raises(RuntimeError, match="Flops.stop: it was not started"):
        Flops().stop()


def test_other_threads_are_not_counted(count, rand):
    a = rand(2, 2)

    def work():
        thread = threading.Thread(target=lambda: a @ a)
        thread.start()
        thread.join()

    assert count(work).total == 0


def test_a_compiled_function_is_counted_as_it_is_written(count, rand):
    compiled = torch.compile(lambda a: (a @ a).relu(), backend="aot_eager")
    a = rand(4, 4)
    expected = compiled(a)
    results = []
    assert count(lambda: results.append(compiled(a))).total == 2 * 64
    assert torch.equal(results[0], expected)


def test_wrapped_tensors_are_counted_by_what_they_hold(count, rand):
    nested = torch.nested.nested_tensor([torch.rand(3, 4), torch.rand(5, 4)], layout=torch.jagged)
    assert count(lambda: nested @ torch.rand(4, 6)).total == 2 * 8 * 4 * 6


@pytest.mark.parametrize("metric", [StepFlops(), BuildFlops()])
def test_the_metric_is_the_mean_with_parts_that_add_up(metric):
    readings = [FlopCount(30, {"mm": 20, "linalg_qr": 10}), FlopCount(20, {"mm": 20})]
    summary = metric.summarise(readings)
    assert summary == {"value": 25, "mm": 20, "linalg_qr": 5}
    assert metric.sample(readings[0]) == 30
    assert metric.breakdown
    assert metric.stage == "audit"


def test_the_metric_is_missing_where_an_operation_has_no_formula():
    readings = [FlopCount(1, {"mm": 1}, ("b",)), FlopCount(1, {"mm": 1}, ("a", "b"))]
    with pytest.raises(Missing, match="^a; b$"):
        StepFlops().summarise(readings)


def test_no_work_is_no_operations():
    assert StepFlops().summarise([FlopCount(0, {})]) == {"value": 0}
