"""Halves and classes of a task."""

import pytest
import torch
from pydantic import ValidationError

from sketchbench.builtin import Digits, Half, RandomTokens, SomeClasses


def test_halves_are_the_whole_in_order():
    whole = RandomTokens(examples=7)
    first, second = (Half(task=whole, part=part).load("train") for part in ("first", "second"))
    assert len(first.targets) == 3
    assert torch.equal(torch.cat([first.inputs, second.inputs]), whole.load("train").inputs)
    assert torch.equal(torch.cat([first.targets, second.targets]), whole.load("train").targets)
    blank = Half(task=whole).blank("train")
    assert blank.inputs.shape == first.inputs.shape
    test = Half(task=whole).load("test")
    assert torch.equal(test.inputs, whole.load("test").inputs)


def test_classes_are_those_named_and_counted_anew():
    part, whole = SomeClasses(task=Digits(), classes=(7, 2)), Digits()
    found, all_of_it = part.load("test"), whole.load("test")
    assert part.shapes.outputs == 2
    assert len(found.targets) == 72
    assert torch.equal(found.inputs[found.targets == 0], all_of_it.inputs[all_of_it.targets == 7])
    assert torch.equal(found.inputs[found.targets == 1], all_of_it.inputs[all_of_it.targets == 2])
    assert part.blank("test").inputs.shape == found.inputs.shape


@pytest.mark.parametrize("classes", [(0, 10), (1, 1)])
def test_classes_that_are_not_there_are_refused(classes):
    with pytest.raises(ValidationError, match="different ones of 0 to 9 of 'digits'"):
        SomeClasses(task=Digits(), classes=classes)


def test_a_text_has_no_class_an_example():
    with pytest.raises(ValueError, match="'random-tokens' has no class an example"):
        SomeClasses(task=RandomTokens(examples=3)).load("train")
