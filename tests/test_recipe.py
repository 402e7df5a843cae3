"""Recipes: validation, configuration, and what errors say."""

import pytest
from pydantic import Field, ValidationError

from sketchbench.kinds import Model, Optimizer, Workload
from sketchbench.recipe import Recipe, UnknownName, suggest


class Tiny(Optimizer):
    """Steps a little."""

    name = "tiny"
    lr: float = Field(0.1, gt=0, description="Step size.")
    betas: tuple[float, float] = (0.9, 0.99)

    @property
    def period(self):
        return 4

    def build(self, params):
        raise AssertionError


class Wide(Model):
    """Has widths."""

    name = "wide"
    hidden: tuple[int, ...] = (8,)

    @property
    def period(self):
        return 6

    def build(self, shapes):
        raise AssertionError


class Race(Workload):
    """Fills two slots."""

    name = "race"
    optimizer: Optimizer
    model: Model | None = None
    epochs: int = 1

    def run(self, run):
        raise AssertionError


class Names:
    known = {"tiny": Tiny, "wide": Wide, "race": Race}

    def lookup(self, kind: str, name: str) -> type[Recipe]:
        if name not in self.known:
            raise UnknownName(f"no {kind} is called '{name}'; {suggest(name, self.known)}")
        return self.known[name]


def race(**fields):
    return Workload.of({"use": "race", **fields}, Names())


def problems(value) -> dict:
    with pytest.raises(ValidationError) as caught:
        Workload.of(value, Names())
    return {error["loc"]: error["msg"] for error in caught.value.errors()}


def test_validating_config_gives_the_recipe_back():
    made = race(optimizer={"use": "tiny", "lr": 1}, model={"use": "wide", "hidden": [4, 2]})
    assert Workload.of(made.config(), Names()) == made
    assert made.config()["model"] == {"use": "wide", "hidden": [4, 2]}


def test_parameters_behind_a_slot_are_in_the_config():
    assert race(optimizer={"use": "tiny", "lr": 0.2}).config() != race(optimizer="tiny").config()


def test_a_recipe_is_hashable_and_frozen():
    made = race(optimizer="tiny")
    assert len({made, race(optimizer="tiny")}) == 1
    with pytest.raises(ValidationError):
        made.epochs = 2


def test_a_bare_name_fills_a_slot_with_its_defaults():
    assert race(optimizer="tiny").optimizer == Tiny()


def test_a_slot_of_one_recipe_refuses_every_other_name():
    class Narrow(Workload):
        """Takes the one optimizer."""

        name = "narrow"
        optimizer: Tiny

        def run(self, run):
            raise AssertionError

    assert Narrow.of({"optimizer": {"use": "tiny", "lr": 0.5}}, Names()).optimizer.lr == 0.5
    for wrong in ("wide", {"use": "wide"}, {"use": "nothing", "lr": 1.0}):
        with pytest.raises(ValidationError, match="expected 'tiny' alone here"):
            Narrow.of({"optimizer": wrong}, Names())


def test_an_optional_slot_takes_null():
    assert race(optimizer="tiny", model=None).model is None


def test_unknown_parameter_suggests_the_nearest():
    found = problems({"use": "race", "optimizer": {"use": "tiny", "lrr": 1.0}})
    assert found == {
        ("optimizer", "lrr"): "optimizer 'tiny' has no parameter 'lrr'; did you mean 'lr'? "
        "(known: betas, lr)"
    }


def test_all_mistakes_are_reported_at_once_with_their_places():
    found = problems(
        {
            "use": "race",
            "optimizer": {"use": "tiny", "lr": -1, "betas": [1.0, "x"]},
            "model": "wid",
            "epochs": "3",
        }
    )
    assert set(found) == {("optimizer", "lr"), ("optimizer", "betas", 1), ("model",), ("epochs",)}
    assert "did you mean 'wide'?" in found["model",]
    assert found["optimizer", "lr"] == "input should be greater than 0; got -1"


def test_a_slot_refuses_a_recipe_of_another_kind():
    assert problems({"use": "race", "optimizer": "wide"})["optimizer",] == "'wide' is no Optimizer"


def test_a_missing_parameter_names_its_owner():
    assert problems({"use": "race"}) == {("optimizer",): "workload 'race' needs 'optimizer'"}


@pytest.mark.parametrize("value", [3, None, [], {"optimizer": "tiny"}, {"use": 3}])
def test_what_is_no_recipe_is_refused(value):
    assert "expected one workload" in problems(value)[()]


@pytest.mark.parametrize("value", [True, "0.1", float("inf"), float("nan"), None])
def test_types_are_strict_and_numbers_finite(value):
    assert ("optimizer", "lr") in problems(
        {"use": "race", "optimizer": {"use": "tiny", "lr": value}}
    )


def test_periods_combine_to_the_least_common_multiple():
    assert race(optimizer="tiny", model="wide").full_period() == 12
    assert race(optimizer="tiny").full_period() == 4


def test_a_label_tells_what_differs_from_the_defaults():
    assert Tiny().label() == "tiny"
    assert Tiny(lr=0.5).label() == "tiny(lr=0.5)"


def test_suggestions_list_a_bounded_number_of_names():
    text = suggest("x", [f"name{i}" for i in range(100)])
    assert text.endswith("… 76 more)")
