"""Groups of parameters: what a new one may say, and what is refused before it is in."""

import pytest

from sketchbench.preconditioning import Kronecker


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta2": 0.5}, "'beta2' is one for all factors; no group has its own"),
        ({"momentun": 0.9}, "a group's 'momentun' is unknown; its options are block_size, graft"),
        ({"momentum": 2.0}, "'momentum' must be from 0 to below 1; got 2.0"),
    ],
)
def test_a_group_that_is_refused_isnt_in(exact, make, options, message):
    p, q = make((4, 3), (4, 3))
    optimizer = Kronecker([p], exact())
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group({"params": [q], **options})
    assert len(optimizer.param_groups) == 1
    with pytest.raises(ValueError, match=message):
        Kronecker([{"params": [p], **options}], exact())


def test_groups_take_what_torch_does(exact, make):
    p, q, r = make((4, 3), (4, 3), (4, 3))
    optimizer = Kronecker([("first", p)], exact())
    optimizer.add_param_group({"params": iter([("second", q)]), "initial_lr": 0.1})
    assert optimizer.param_groups[1]["param_names"] == ["second"]
    with pytest.raises(TypeError, match="sets"):
        optimizer.add_param_group({"params": {r}})
    with pytest.raises(ValueError, match="more than one parameter group"):
        optimizer.add_param_group({"params": q, "param_names": ["q"]})
