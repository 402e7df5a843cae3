import math

import pytest
import torch
from pydantic import ValidationError
from torch import Generator

from sketchbench import Shapes
from sketchbench.builtin.tasks.tokens import RandomTokens

TASK = RandomTokens(context=16, vocabulary=7, examples=500, test_examples=9)


def test_each_target_is_the_next_token():
    split = TASK.load("train")
    assert split.inputs.shape == split.targets.shape == (500, 16)
    assert torch.equal(split.inputs[:, 1:], split.targets[:, :-1])


def test_the_task_says_what_a_model_must_fit():
    assert TASK.shapes == Shapes((16,), 7)


def test_the_splits_are_the_same_each_time_and_differ():
    assert torch.equal(TASK.load("train").inputs, TASK.load("train").inputs)
    assert not torch.equal(TASK.load("train").inputs[:9], TASK.load("test").inputs)
    assert TASK.load("test").inputs.shape == (9, 16)


def test_tokens_are_uniform_over_the_vocabulary():
    counts = TASK.load("train").inputs.flatten().bincount(minlength=7)
    assert len(counts) == 7
    expected = 500 * 16 / 7
    assert ((counts - expected).abs() < 5 * math.sqrt(expected)).all()


def test_loading_leaves_the_global_generator():
    before = torch.get_rng_state()
    TASK.load("train")
    assert torch.equal(torch.get_rng_state(), before)


def test_the_loss_is_the_mean_over_all_tokens_of_the_batch():
    rng = Generator().manual_seed(0)
    outputs = torch.randn(3, 16, 7, generator=rng, dtype=torch.float64)
    targets = torch.randint(7, (3, 16), generator=rng)
    chances = outputs.softmax(-1).gather(2, targets[:, :, None])
    torch.testing.assert_close(TASK.loss(outputs, targets), -chances.log().mean())
    uniform = TASK.loss(torch.zeros(3, 16, 7), targets)
    assert uniform.item() == pytest.approx(math.log(7))


@pytest.mark.parametrize("field", ["context", "vocabulary", "examples", "test_examples"])
def test_nothing_is_empty(field):
    with pytest.raises(ValidationError, match=field):
        RandomTokens(**{field: 0})
