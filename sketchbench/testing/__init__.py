"""The conformance kit: the laws of each kind, as one pytest function.

    from sketchbench.testing import laws

    test_laws = laws(QK(out_size=64))

`laws` reads the recipe's kind and returns a test parametrised over that kind's laws, so that a
failure names the law: `test_laws[has_an_adjoint]`. `sketchbench.testing.adversary` searches for the
input on which a gradient sketch does worst.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from sketchbench.recipe import Recipe
from sketchbench.testing import activation, covariance, gradient, monitor, optimizer, recipe

__all__ = ["laws"]

Law = Callable[[Any], None]

_LAWS: Mapping[str, Sequence[Law]] = {
    "activation_sketch": activation.LAWS,
    "covariance_sketch": covariance.LAWS,
    "gradient_sketch": gradient.LAWS,
    "monitor": monitor.LAWS,
    "optimizer": optimizer.LAWS,
}


def laws(subject: Recipe) -> Callable[[Law], None]:
    """Return a pytest function that holds `subject` to the laws of recipes and of its kind."""
    todo = [*recipe.LAWS, *_LAWS.get(subject.kind, ())]

    @pytest.mark.parametrize("law", todo, ids=lambda law: law.__name__)
    def test(law: Law) -> None:
        law(subject)

    return test
