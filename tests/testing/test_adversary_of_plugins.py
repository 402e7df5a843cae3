"""The adversary against the recipes of the plugins: it finds what they say breaks them, no more."""

from functools import lru_cache

import pytest

from sketchbench.registry import Registry
from sketchbench.testing.adversary import search
from sketchbench.testing.gradient_evidence import LEVEL

SIZE, OUT_SIZE = 256, 16
PLUGINS = {  # with factors and blocks that are small, as N is
    "affd": ("affd", {"factor_size": 16}),
    "affd-unpermuted": ("affd", {"permuted": False}),
    "block-affd": ("block-affd", {}),
    "block-affd-unpermuted": ("block-affd", {"permuted": False}),
    "block-affd-of-blocks": ("block-affd", {"block_size": 64}),
    "afjl": ("afjl", {"factor_size": 16}),
    "srht": ("srht", {}),
    "qk": ("qk", {}),
    "qk-of-3": ("qk", {"factors": 3}),
    "qk-listing2": ("qk-listing2", {"factor_size": 16}),
    "gaussian": ("gaussian", {}),
    "rademacher": ("rademacher", {}),
    "ffd": ("ffd", {}),
    "ffd-signed": ("ffd-signed", {}),
    "fjl": ("fjl", {}),
    "count-sketch": ("count-sketch", {}),
    "sjlt": ("sjlt", {}),
    "random-mask": ("random-mask", {"rescaled": True}),
}
BROKEN = ("afjl", "ffd", "qk-listing2")


@lru_cache
def known():
    return Registry.load({})


def recipe(plugin, out_size):
    name, fields = PLUGINS[plugin]
    return known().lookup("gradient_sketch", name)(out_size=out_size, **fields)


@pytest.mark.parametrize("plugin", BROKEN)
def test_what_breaks_a_sketch_of_the_paper_is_found(plugin):
    sketch = recipe(plugin, OUT_SIZE)
    found = search(sketch, SIZE, draws=128, judged=500, confidence=1 - LEVEL)
    assert not sketch.guarantee(SIZE).valid
    assert found.low > OUT_SIZE / 4, found


@pytest.mark.nightly
@pytest.mark.parametrize(("size", "out_size", "seed"), [(256, 16, 1), (1024, 64, 1)])
@pytest.mark.parametrize("plugin", PLUGINS)
def test_nothing_beyond_what_is_promised_is_found_in_a_plugin(plugin, size, out_size, seed):
    """In a sketch that is valid; in one that isn't, κ ≥ D/4 is."""
    sketch = recipe(plugin, out_size)
    draws = min(512, 2**24 // (size * out_size))
    found = search(sketch, size, seed, rounds=8, draws=draws, confidence=1 - LEVEL)
    if plugin in BROKEN:
        assert found.low > out_size / 4, found
    else:
        assert found.low <= sketch.guarantee(size).kappa, found
