import pytest

from sketchbench import Missing
from sketchbench.builtin import Skill


class Cell:
    def __init__(self, value, **activation):
        self._value = value
        self.config = {"workload": {"activation": activation or None}}

    def value(self, metric, where=None):
        assert (metric, where) == ("accuracy", None)
        return self._value


EXACT, ZERO = Cell(0.9), Cell(0.5, use="zero-gradient", scope="all")


def test_the_control_has_none_and_the_baseline_all_of_it():
    half = Cell(0.7, use="toy", scope="all")
    assert Skill().terms(half, EXACT, ZERO) == pytest.approx((0.2, 0.4))
    assert Skill().derive(half, EXACT, ZERO) == pytest.approx(0.5)
    assert Skill().derive(EXACT, EXACT, ZERO) == 1
    assert Skill().derive(ZERO, EXACT, ZERO) == 0


def test_a_method_without_a_scope_touches_all_or_nothing():
    assert Skill().derive(Cell(0.9, use="checkpoint", every=2), EXACT, ZERO) == 1


@pytest.mark.parametrize(
    ("cell", "control", "told"),
    [
        (Cell(0.9, use="toy", scope="hidden"), ZERO, "the method has scope hidden"),
        (Cell(0.9, use="toy", scope=["1.0"]), ZERO, "the method has scope 1.0"),
        (Cell(0.9), Cell(0.5, use="zero-gradient", scope="hidden"), "the control has scope hidden"),
    ],
)
def test_other_scopes_mean_nothing(cell, control, told):
    with pytest.raises(Missing, match=f"meaningful in scope all only; {told}"):
        Skill().derive(cell, EXACT, control)


@pytest.mark.parametrize("others", [(None, ZERO), (EXACT, None)])
def test_it_needs_a_baseline_and_a_control(others):
    with pytest.raises(Missing, match="a baseline and a control"):
        Skill().derive(EXACT, *others)


def test_a_missing_score_leaves_it_undefined():
    assert Skill().terms(Cell(None, use="toy"), EXACT, ZERO) is None
    assert Skill().derive(EXACT, EXACT, EXACT) is None
