import subprocess
import sys

import pytest
import torch

from sketchbench.builtin import Digits
from sketchbench.builtin.tasks.digits import _table


def test_the_table_is_what_scikit_learn_loads():
    from sklearn.datasets import load_digits

    images, classes = _table()
    bunch = load_digits()
    assert (images[:, 0] == bunch.images).all()
    assert (classes == bunch.target).all()


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
