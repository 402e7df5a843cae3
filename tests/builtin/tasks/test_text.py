import gzip
import hashlib
import re
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from sketchbench import Shapes, Skip
from sketchbench.builtin.tasks.text import ALPHABET, TinyShakespeare

SHORT = ("To be, or not to be? " * 100).encode()
TRAIN, TEST = 1_003_854, 111_540


@pytest.fixture
def short(tmp_path, monkeypatch, cache):
    """Another text in the place of the real one: 1,900 characters to train, 200 to test."""
    digest = f"sha256:{hashlib.sha256(SHORT).hexdigest()}"
    archive = replace(TinyShakespeare.archive, files={"tinyshakespeare.txt": digest})
    monkeypatch.setattr(TinyShakespeare, "archive", archive)
    monkeypatch.setattr(TinyShakespeare, "sizes", {"train": 1900, "test": 200})
    monkeypatch.setenv("SKETCHBENCH_DATA", str(tmp_path / "data"))
    folder = tmp_path / "data" / "text"
    folder.mkdir(parents=True)
    (folder / "tinyshakespeare.txt.gz").write_bytes(gzip.compress(SHORT))
    return folder


def spelt(tokens):
    return bytes(ALPHABET[token] for token in tokens.flatten().tolist())


def test_windows_spell_the_text_in_order_and_targets_are_one_further(short):
    split = TinyShakespeare(context=30).load("train")
    assert split.inputs.shape == split.targets.shape == (63, 30)
    assert spelt(split.inputs) == SHORT[: 63 * 30]
    assert spelt(split.targets) == SHORT[1 : 63 * 30 + 1]


def test_the_test_split_follows_the_training_split(short):
    split = TinyShakespeare(context=30).load("test")
    assert spelt(split.inputs) == SHORT[1900 : 1900 + 6 * 30]
    assert spelt(split.targets) == SHORT[1901 : 1901 + 6 * 30]


@pytest.mark.parametrize(("context", "windows"), [(199, 1), (99, 2), (100, 1), (1, 199)])
def test_the_last_window_has_a_next_character(short, context, windows):
    split = TinyShakespeare(context=context).load("test")
    assert len(split.inputs) == windows
    assert spelt(split.targets[-1:]) == SHORT[1901:][(windows - 1) * context : windows * context]


def test_a_limit_takes_the_first_windows(short):
    whole = TinyShakespeare(context=10)
    limited = TinyShakespeare(context=10, train_limit=5, test_limit=2)
    for name, count in (("train", 5), ("test", 2)):
        assert torch.equal(limited.load(name).inputs, whole.load(name).inputs[:count])
        assert torch.equal(limited.load(name).targets, whole.load(name).targets[:count])


def test_the_task_says_what_a_model_must_fit():
    assert TinyShakespeare(context=64).shapes == Shapes((64,), 65)
    assert len(set(ALPHABET)) == 65
    assert bytes(sorted(ALPHABET)) == ALPHABET


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"context": TEST}, f"context {TEST} is more than the test split .* at most {TEST - 1}"),
        ({"context": 0}, "greater than or equal to 1"),
        ({"context": 128, "train_limit": 7843}, "train_limit 7843 is more than the 7842 train"),
        ({"context": 128, "test_limit": 872}, "test_limit 872 is more than the 871 test windows"),
    ],
)
def test_unfit_fields_are_refused_before_loading(fields, text):
    with pytest.raises(ValidationError, match=text):
        TinyShakespeare(**fields)


def test_a_missing_text_is_a_skip_that_says_where_it_was_looked_for(tmp_path, monkeypatch, cache):
    archive = replace(TinyShakespeare.archive, url="http://127.0.0.1:9/input.txt")
    monkeypatch.setattr(TinyShakespeare, "archive", archive)
    monkeypatch.setenv("SKETCHBENCH_DATA", str(tmp_path))
    with pytest.raises(Skip, match=r"text: no data in .* holds text/tinyshakespeare\.txt\.gz"):
        TinyShakespeare().load("train")


def test_a_damaged_text_is_an_error(short):
    (short / "tinyshakespeare.txt.gz").write_bytes(gzip.compress(SHORT[:-1] + b"?"))
    with pytest.raises(RuntimeError, match=r"tinyshakespeare\.txt: damaged"):
        TinyShakespeare().load("train")


def test_the_address_gives_the_bare_text(server, cache, monkeypatch):
    folder, address = server
    (folder / "input.txt").write_bytes(SHORT)
    digest = f"sha256:{hashlib.sha256(SHORT).hexdigest()}"
    archive = replace(
        TinyShakespeare.archive,
        url=f"{address}/input.txt",
        known_hash=digest,
        files={"tinyshakespeare.txt": digest},
    )
    monkeypatch.setattr(TinyShakespeare, "archive", archive)
    TinyShakespeare().prepare(lambda text: None)
    assert [path.name for path in (cache / "text").iterdir()] == ["tinyshakespeare.txt"]
    assert archive.read("tinyshakespeare.txt") == SHORT


def test_a_wrong_page_at_the_address_is_an_error_and_nothing_is_kept(server, cache, monkeypatch):
    folder, address = server
    (folder / "input.txt").write_bytes(b"please log in to the network")
    archive = replace(TinyShakespeare.archive, url=f"{address}/input.txt")
    monkeypatch.setattr(TinyShakespeare, "archive", archive)
    with pytest.raises(RuntimeError, match=re.escape(f"{address}/input.txt: what was")):
        TinyShakespeare().prepare(lambda text: None)
    assert list((cache / "text").iterdir()) == []


def test_the_real_text_is_complete(real_text):
    text = TinyShakespeare.archive.read("tinyshakespeare.txt")
    assert len(text) == TRAIN + TEST
    assert set(text) == set(ALPHABET)
    split = TinyShakespeare(context=256).load("train")
    assert spelt(split.inputs[0]).startswith(b"First Citizen:\nBefore we proceed any further")
    assert len(split.inputs) == (TRAIN - 1) // 256
