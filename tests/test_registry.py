"""The registry: what it refuses, each with its reason; one bad plugin harms no other."""

import json
import types
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from sketchbench import hookimpl
from sketchbench.kinds import GradientSketch, Model, Optimizer, Workload
from sketchbench.metric import Metric, Score
from sketchbench.recipe import UnknownName
from sketchbench.registry import Registry


class Good(Optimizer):
    """Is sound."""

    name = "good"
    lr: float = 0.1

    def build(self, params):
        raise AssertionError


def plugin(*recipes, hook="register_optimizers"):
    """Return a plugin object whose one hook returns `recipes`."""

    def register():
        return list(recipes)

    register.__name__ = hook
    return types.SimpleNamespace(**{hook: hookimpl(register)})


def reason(bad, **options) -> str:
    registry = Registry()
    registry.add("bad", plugin(bad, **options))
    registry.add("fine", plugin(Good))
    assert registry.lookup("optimizer", "good") is Good
    assert "bad" not in registry.plugins
    return registry.quarantined["bad"]


def body(**attributes):
    return {"__module__": __name__, "__doc__": "A recipe.", "build": lambda self, params: None} | (
        attributes
    )


def test_a_sound_plugin_is_found_by_kind_and_name():
    registry = Registry()
    registry.add("fine", plugin(Good))
    assert registry.lookup("optimizer", "good") is Good
    assert registry.origin[Good] == "fine"
    assert not registry.quarantined


def test_an_instance_is_refused():
    assert "is not a recipe class" in reason(Good())


def test_a_class_that_is_no_recipe_is_refused():
    assert "is not a recipe class" in reason(dict)


def test_a_recipe_of_another_family_is_refused():
    assert "Good is no Model" in reason(Good, hook="register_models")


def test_an_abstract_recipe_is_refused():
    bad = type("Bad", (Optimizer,), {"__module__": __name__, "__doc__": "x", "name": "bad"})
    assert "Bad does not define build" in reason(bad)


def test_a_recipe_without_a_name_is_refused():
    assert "needs a `name` of its own" in reason(type("Bad", (Optimizer,), body()))


def test_a_recipe_that_inherits_its_name_is_refused():
    assert "needs a `name` of its own" in reason(type("Bad", (Good,), body()))


@pytest.mark.parametrize("name", ["Two Words", "UPPER", "", "a/b", 3])
def test_a_name_that_yaml_or_a_path_could_not_hold_is_refused(name):
    assert "needs a `name` of its own" in reason(type("Bad", (Optimizer,), body(name=name)))


def test_a_name_declared_as_a_field_is_refused():
    class Bad(Optimizer):
        """Declares its name."""

        name: str = "bad"

        def build(self, params):
            raise AssertionError

    assert "declares 'name' as a field" in reason(Bad)


def test_a_changed_kind_is_refused():
    assert "changes `kind`" in reason(type("Bad", (Optimizer,), body(name="bad", kind="model")))


def test_a_recipe_without_a_docstring_is_refused():
    assert "has no docstring" in reason(type("Bad", (Optimizer,), body(name="bad", __doc__=None)))


@pytest.mark.parametrize(
    "annotation",
    [list[int], dict[str, int], set[int], tuple[list[int], ...], Any, object, tuple[Model, ...]],
)
def test_a_field_that_yaml_or_a_hash_could_not_take_is_refused(annotation):
    bad = type(
        "Bad", (Optimizer,), body(name="bad", __annotations__={"a": annotation}, a=Field(...))
    )
    assert "a field is text, a number" in reason(bad)


@pytest.mark.parametrize(
    "annotation",
    [
        int,
        float | None,
        Literal["a", 1],
        tuple[int, ...],
        tuple[tuple[str, float], ...] | None,
        Model,
        Model | None,
        Annotated[int, "x"],
    ],
)
def test_a_plain_field_or_a_slot_is_fit(annotation):
    fit = type(
        "Fit", (Optimizer,), body(name="fit", __annotations__={"a": annotation}, a=Field(...))
    )
    registry = Registry()
    registry.add("fit", plugin(fit))
    assert not registry.quarantined


def test_a_default_that_its_own_type_refuses_is_refused():
    bad = type("Bad", (Optimizer,), body(name="bad", __annotations__={"a": int}, a="x"))
    assert "Bad: the default of 'a': " in reason(bad)


def test_a_default_counts_as_what_it_is_validated_to():
    made = type("Fit", (Optimizer,), body(name="fit", __annotations__={"a": float}, a=1))
    assert json.dumps(made().config()) == json.dumps(made(a=1.0).config())


@pytest.mark.filterwarnings("ignore:Field name")
@pytest.mark.parametrize("field", ["copy", "period", "config"])
def test_a_field_that_shadows_an_attribute_is_refused(field):
    shadowing = {"__annotations__": {field: int}, field: 3}
    bad = type("Bad", (Optimizer,), body(name="bad", **shadowing))
    assert f"field '{field}' shadows an attribute" in reason(bad)


def test_a_metric_must_say_its_unit_direction_and_margin():
    class Bad(Score):
        """Says nothing."""

        name = "bad"

        def __call__(self, outcome):
            raise AssertionError

    assert "does not say its unit, direction, margin, consumes" in reason(
        Bad, hook="register_metrics"
    )


def test_a_metric_is_a_probe_a_score_or_derived():
    class Bad(Metric):
        """Is none of them."""

        name = "bad"

    assert "must be a Probe, a Score or a Derived" in reason(Bad, hook="register_metrics")


def test_a_workload_must_have_something_to_measure():
    class Bad(Workload):
        """Delivers nothing."""

        name = "bad"
        regions = ()

        def run(self, run):
            raise AssertionError

    assert "nothing to measure" in reason(Bad, hook="register_workloads")


def test_an_unknown_hook_is_refused():
    assert "unknown hook 'register_sketch'" in reason(Good, hook="register_sketch")


def test_a_hook_that_raises_is_told_with_its_place():
    def register_models():
        raise KeyError("no file")

    registry = Registry()
    registry.add("bad", types.SimpleNamespace(register_models=hookimpl(register_models)))
    assert "KeyError: 'no file' (tests/test_registry.py:" in registry.quarantined["bad"]


def test_a_clash_names_both_plugins_and_leaves_the_second_out_whole():
    class Other(Optimizer):
        """Is sound but in bad company."""

        name = "other"

        def build(self, params):
            raise AssertionError

    again = type("Again", (Optimizer,), body(name="good"))
    registry = Registry()
    registry.add("first", plugin(Good))
    registry.add("second", plugin(Other, again))
    assert registry.quarantined["second"] == ("optimizer 'good' is already registered by first")
    with pytest.raises(UnknownName, match="in quarantine: second"):
        registry.lookup("optimizer", "other")


def test_the_same_recipe_twice_in_one_plugin_is_refused():
    registry = Registry()
    registry.add("bad", plugin(Good, Good))
    assert "registered twice" in registry.quarantined["bad"]


def test_two_kinds_may_share_a_name():
    class Twin(GradientSketch):
        """Has the optimizer's name."""

        name = "good"

        def build(self, size, rng, device):
            raise AssertionError

    registry = Registry()
    registry.add("fine", plugin(Good))
    registry.add("twin", plugin(Twin, hook="register_sketches"))
    assert registry.lookup("gradient_sketch", "good") is Twin


def test_unknown_names_and_kinds_suggest_the_nearest():
    registry = Registry()
    registry.add("fine", plugin(Good))
    with pytest.raises(UnknownName, match="did you mean 'good'"):
        registry.lookup("optimizer", "godo")
    with pytest.raises(UnknownName, match="did you mean 'model'"):
        registry.lookup("modle", "x")


def test_a_plugin_that_fails_on_a_stored_record_is_only_told_of():
    def record_stored(record):
        raise RuntimeError("tracker is down")

    registry = Registry()
    registry.add("tracker", types.SimpleNamespace(record_stored=hookimpl(record_stored)))
    (problem,) = registry.stored(object())
    assert problem.startswith("tracker: record_stored: RuntimeError: tracker is down")


def test_every_built_in_recipe_is_fit():
    registry = Registry.load()
    assert "builtin" in registry.plugins, registry.quarantined
    assert issubclass(registry.lookup("workload", "train"), Workload)
    assert issubclass(registry.lookup("model", "mlp"), Model)
