import gzip

import pytest
import torch
from pydantic import ValidationError

from sketchbench import Skip
from sketchbench.builtin.tasks import a9a
from sketchbench.builtin.tasks.a9a import A9A

LINES = b"-1 3:1 11:1 123:1 \n+1 1:1 5:1 \n-1 2:1 \n+1 4:1 6:1\n"


@pytest.fixture
def given(tmp_path, monkeypatch, cache):
    """A data folder, and files of four rows that count as complete."""
    folder = tmp_path / "data" / "libsvm"
    folder.mkdir(parents=True)
    monkeypatch.setenv("SKETCHBENCH_DATA", str(folder.parent))
    monkeypatch.setattr(A9A, "sizes", {"train": 4, "test": 4})
    for name in ("a9a", "a9a.t"):
        (folder / f"{name}.gz").write_bytes(gzip.compress(LINES))
    return folder


def test_features_are_counted_from_one_and_an_intercept_ends_them(given):
    split = A9A().load("train")
    assert split.inputs.shape == (4, 124)
    expected = torch.zeros(4, 124)
    for row, features in enumerate([(3, 11, 123), (1, 5), (2,), (4, 6)]):
        expected[row, [feature - 1 for feature in features]] = 1
    expected[:, 123] = 1
    assert torch.equal(split.inputs, expected)
    assert split.targets.tolist() == [0, 1, 0, 1]


def test_a_limit_takes_the_first_rows_and_a_plain_file_goes_before_its_archive(given):
    (given / "a9a").write_bytes(b"\n".join(reversed(LINES.splitlines())))
    split = A9A(train_limit=2).load("train")
    assert split.targets.tolist() == [1, 0]
    assert A9A(train_limit=2).blank("train").inputs.shape == split.inputs.shape
    with pytest.raises(ValidationError, match="train_limit 5 is more than the 4 train examples"):
        A9A(train_limit=5)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (LINES[:28], "expected 4 rows, found 2"),
        (LINES.replace(b"123", b"124"), "line 1 isn't one of a9a"),
        (LINES.replace(b"2:1", b"2:3"), "line 3 isn't one of a9a"),
        (LINES.replace(b"+1 1:1", b"2 1:1"), "line 2 isn't one of a9a"),
    ],
)
def test_a_damaged_file_is_refused(given, data, complaint):
    (given / "a9a.gz").write_bytes(gzip.compress(data))
    with pytest.raises(RuntimeError, match=complaint):
        A9A().load("train")


def test_an_archive_that_does_not_unpack_is_refused(given):
    (given / "a9a.gz").write_bytes(gzip.compress(LINES)[:-12])
    with pytest.raises(RuntimeError, match="damaged, or not readable"):
        A9A().load("train")


def test_a_file_of_known_length_must_be_the_known_one(given, monkeypatch):
    monkeypatch.setattr(a9a, "KNOWN", {("train", 4): "0" * 64})
    with pytest.raises(RuntimeError, match="damaged; expected sha256:0000"):
        A9A().load("train")


def test_files_are_fetched_into_the_cache_once(server, cache, monkeypatch):
    folder, address = server
    monkeypatch.setattr(A9A, "sizes", {"train": 4, "test": 4})
    monkeypatch.setattr(a9a, "URL", f"{address}/")
    for name in ("a9a", "a9a.t"):
        (folder / name).write_bytes(LINES)
    said = []
    A9A().prepare(said.append)
    assert sorted(path.name for path in (cache / "libsvm").iterdir()) == ["a9a", "a9a.t"]
    for name in ("a9a", "a9a.t"):
        (folder / name).unlink()
    assert len(A9A().load("test").inputs) == 4


def test_without_files_and_network_it_is_skipped_and_says_what_to_do(cache, monkeypatch):
    monkeypatch.setattr(a9a, "URL", "http://127.0.0.1:9/")
    with pytest.raises(Skip, match=r"set SKETCHBENCH_DATA to a folder that holds libsvm/a9a\.gz"):
        A9A().load("train")


def test_the_real_files_are_the_known_ones_and_an_incomplete_one_is_said_to_be(
    monkeypatch, request
):
    request.getfixturevalue("real_libsvm")
    said = []
    A9A().prepare(said.append)
    split = A9A().load("train")
    if len(split.inputs) == 32_560:
        assert said == ["a9a: the train file has 32560 of 32561 rows"]
    assert len(split.inputs) in (32_560, 32_561)
    assert split.targets.double().mean().item() == pytest.approx(0.24, abs=0.005)
    assert 13 <= split.inputs[:, :-1].sum(1).mean().item() <= 14  # 14 attributes, some unknown
    assert len(A9A().load("test").inputs) == 16_281


@pytest.fixture
def real_libsvm(monkeypatch):
    """The folder with the real files."""
    import os
    from pathlib import Path

    given = os.environ.get("SKETCHBENCH_DATA")
    folder = Path(given) if given else Path(__file__).parents[4] / "shared" / "data"
    if not (folder / "libsvm").is_dir():
        pytest.skip(f"no libsvm in {folder}; set SKETCHBENCH_DATA to a folder that holds it")
    monkeypatch.setenv("SKETCHBENCH_DATA", str(folder))
