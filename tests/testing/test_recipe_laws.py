"""The laws of every recipe catch what breaks them, and say what was expected."""

import pytest

from sketchbench import Field, GradientSketch
from sketchbench.testing import recipe


class Silent(GradientSketch):
    name = "Silent_Sketch"
    out_size: int = Field(3, description="D.")
    secret: int = Field(1, exclude=True, description="Missing in config().")

    def build(self, size, rng, device):
        raise NotImplementedError


class Unhashable(Silent):
    """Holds a mapping."""

    name = "unhashable"
    table: dict[str, int] = Field({}, description="A mapping.")


@pytest.mark.parametrize(
    ("law", "subject", "text"),
    [
        (recipe.comes_back_from_its_config, Silent(secret=2), "to give the recipe back"),
        (recipe.has_a_name_and_a_label, Silent(), "kebab-case"),
        (recipe.says_what_it_is, Silent(), "docstring of its own"),
        (recipe.changes_its_config_with_every_field, Silent(), "another 'secret'"),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_a_law_of_recipes_says_what_was_expected(law, subject, text):
    with pytest.raises(AssertionError, match=f"expected .*{text}"):
        law(subject)


def test_an_unhashable_recipe_is_caught():
    with pytest.raises((AssertionError, TypeError)):
        recipe.is_hashable(Unhashable())


def test_a_field_without_description_is_caught():
    class Undescribed(Silent):
        """Described, but for a field."""

        name = "undescribed"
        extra: int = 1

    with pytest.raises(AssertionError, match=r"description=…\) for: extra"):
        recipe.says_what_it_is(Undescribed())
