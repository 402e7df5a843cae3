"""Tasks whose data other packages ship: speech and molecules."""

import hashlib
from dataclasses import replace

import pytest
import torch

from sketchbench import Skip
from sketchbench.builtin.tasks.shipped import Shipped
from sketchbench.builtin.tasks.solubility import ATOMS, FEATURES, Solubility
from sketchbench.builtin.tasks.vowels import JapaneseVowels

SPOKEN = """# two utterances of two speakers
@problemName Short
@data
""" + "\n".join(
    ":".join(
        ",".join(str(frame * (row + 1) + speaker) for frame in range(count)) for row in range(12)
    )
    + f":{speaker}"
    for speaker, count in ((1, 4), (2, 3))
)
ATOM = "    0.0000    0.0000    0.0000 {:<3} 0  0  0\n"
CYANIDE = (  # H-C≡N with its hydrogen left out, then tin dioxide, an element of no column
    "cyanide\n\n\n  2  1  0\n"
    + ATOM.format("C")
    + ATOM.format("N")
    + "  1  2  3  0\nM  END\n>  <SOL_classification>  (1) \n(C) high\n\n$$$$\n"
    + "tin\n\n\n  3  2  0\n"
    + "".join(map(ATOM.format, ("O", "Sn", "O")))
    + "  1  2  2  0\n  2  3  2  0\nM  END\n>  <SOL_classification>  (2) \n(A) low\n\n$$$$\n"
)


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """Write texts where both tasks look first, with the hashes of these texts."""
    monkeypatch.setenv("SKETCHBENCH_DATA", str(tmp_path))
    for task, text in ((JapaneseVowels, SPOKEN), (Solubility, CYANIDE)):
        digest = hashlib.sha256(text.encode()).hexdigest()
        folder = tmp_path / task.shipped.data_set
        folder.mkdir()
        for name in task.shipped.files:
            (folder / name).write_text(text)
        known = replace(task.shipped, files=dict.fromkeys(task.shipped.files, digest))
        monkeypatch.setattr(task, "shipped", known)
    return tmp_path


def real(task):
    try:
        task.prepare(print)
    except Skip as reason:
        pytest.skip(str(reason))
    return task


def test_utterances_are_standardised_over_frames_and_padded_with_zeros(shipped):
    split = JapaneseVowels().load("test")
    assert split.targets.tolist() == [0, 1]
    assert split.inputs.shape == (2, 12, 29)
    frames = torch.cat([split.inputs[0, :, :4], split.inputs[1, :, :3]], dim=1)
    torch.testing.assert_close(frames.mean(1), torch.zeros(12), atol=1e-6, rtol=0)
    torch.testing.assert_close(frames.std(1), torch.ones(12))
    assert not split.inputs[0, :, 4:].any()
    assert not split.inputs[1, :, 3:].any()
    raw = torch.tensor([1.0, 2, 3, 4, 2, 3, 4])  # of the first coefficient
    torch.testing.assert_close(frames[0], (raw - raw.mean()) / raw.std())


def test_a_molecule_is_its_elements_its_bonds_and_its_adjacency(shipped):
    cyanide, tin = Solubility().load("train").inputs
    carbon, nitrogen, other, oxygen, triple, double = 0, 2, 9, 1, 12, 11
    assert cyanide.shape == (ATOMS, FEATURES + ATOMS)
    found = {tuple(place) for place in cyanide.nonzero().tolist()}
    expected = [(0, carbon), (0, triple), (0, FEATURES + 1), (1, nitrogen), (1, triple)]
    assert found == {*expected, (1, FEATURES)}
    assert tin[1, other] == 1
    assert tin[1, double] == 2  # double bonds
    assert tin[0, oxygen] == tin[2, oxygen] == 1
    assert torch.equal(tin[:, FEATURES:], tin[:, FEATURES:].mT)
    assert Solubility().load("train").targets.tolist() == [2, 0]


@pytest.mark.parametrize("task", [JapaneseVowels(), Solubility()])
def test_a_damaged_file_is_no_data(task, shipped):
    name = next(iter(task.shipped.files))
    path = shipped / task.shipped.data_set / name
    path.write_text(path.read_text() + " ")
    with pytest.raises(RuntimeError, match=f"{name}: expected SHA-256 .*, found"):
        task.prepare(print)


def test_without_the_package_the_cell_is_skipped_with_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("SKETCHBENCH_DATA", str(tmp_path))
    nowhere = Shipped("uea", (("no_such_package", "data"),), {"a.ts": "0"})
    with pytest.raises(Skip, match="`pip install --no-deps no-such-package` brings it"):
        nowhere.read("a.ts")


def test_the_real_utterances():
    task = real(JapaneseVowels())
    train, test = task.load("train"), task.load("test")
    assert train.targets.bincount().tolist() == [30] * 9
    assert test.targets.bincount().tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    assert train.inputs.any(1).sum(1).aminmax() == (7, 26)
    assert test.inputs.any(1).sum(1).aminmax() == (7, 29)


def test_the_real_molecules():
    task = real(Solubility())
    train, test = task.load("train"), task.load("test")
    assert train.targets.bincount().tolist() == [417, 402, 206]
    assert test.targets.bincount().tolist() == [102, 115, 40]
    assert train.inputs[..., :FEATURES].any(-1).sum(-1).max() == ATOMS
    for split in (train, test):
        adjacency = split.inputs[..., FEATURES:]
        assert torch.equal(adjacency, adjacency.mT)
        bonds = split.inputs[..., 10:FEATURES].sum(-1)
        assert torch.equal(bonds, adjacency.sum(-1))
