import gzip
import subprocess
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from sketchbench import sources
from sketchbench.builtin import Digits
from sketchbench.builtin.tasks import digits


def test_the_table_is_what_scikit_learn_loads():
    from sklearn.datasets import load_digits

    images, classes = digits._table()
    bunch = load_digits()
    assert (images[:, 0] == bunch.images).all()
    assert (classes == bunch.target).all()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda table: table.replace(b"5", b"6", 1), "found 1797 rows with"),
        (lambda table: table[table.index(b"\n") + 1 :], "found 1796 rows with"),
    ],
)
def test_another_table_is_refused_in_one_line(tmp_path, monkeypatch, change, found):
    source = Path(find_spec("sklearn").origin).parent / "datasets" / "data" / "digits.csv.gz"
    file = tmp_path / "datasets" / "data" / "digits.csv.gz"
    file.parent.mkdir(parents=True)
    file.write_bytes(gzip.compress(change(gzip.decompress(source.read_bytes()))))
    spec = ModuleSpec("sklearn", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(digits, "find_spec", lambda name: spec)
    with pytest.raises(RuntimeError) as caught:
        digits._table()
    text = str(caught.value)
    assert text.startswith(f"{file}: expected 1797 rows with SHA-256 {digits.SHA256}; {found}")
    assert "\n" not in text


def test_the_version_of_scikit_learn_is_part_of_every_key():
    assert "scikit-learn" in sources.digest([])


def test_the_splits_are_fixed_and_cover_the_set_once():
    train, test = Digits().load("train"), Digits().load("test")
    assert train.inputs.shape == (1437, 1, 8, 8)
    assert test.inputs.shape == (360, 1, 8, 8)
    assert test.targets.bincount().tolist() == [36] * 10
    # A change of the split would change every published number: its weighted digest is pinned.
    weights = torch.arange(1, 361)
    assert (test.targets * weights).sum().item() == 294714


def test_the_training_split_is_standardised():
    inputs = Digits().load("train").inputs
    assert inputs.mean().item() == pytest.approx(0, abs=2e-4)  # constants of four digits
    assert inputs.std().item() == pytest.approx(1, abs=2e-4)
    assert inputs.dtype == torch.float32


def test_loading_does_not_import_scikit_learn():
    code = (
        "import sys; from sketchbench.builtin import Digits; Digits().load('test'); "
        "assert not {'sklearn', 'scipy', 'pooch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
