from dataclasses import dataclass, field

import pytest

from sketchbench.execute.questions import ask, questions


@dataclass(eq=False)
class Cell:
    """As much of a cell as a question needs."""

    size: int
    seed: int = 0
    device: str = "cpu"

    def config(self):
        return {"workload": {"size": self.size}, "seed": self.seed, "device": self.device}

    def request(self):
        return {"config": self.config()}


@dataclass
class Runner:
    """Answers what it is asked, the last question first; every other wait brings news only."""

    running: list = field(default_factory=list)
    most: int = 0
    turns: int = 0

    def start(self, request, timeout):
        handle = type("Handle", (), {"request": request, "timeout": timeout, "news": ["something"]})
        self.running.append(handle)
        self.most = max(self.most, len(self.running))
        return handle

    def wait(self, seconds):
        self.turns += 1
        if self.turns % 2:
            yield self.running[-1], None
        else:
            handle = self.running.pop()
            yield handle, {"status": "ok", "reason": "", "asked": handle.request}


def test_one_question_stands_for_all_seeds_and_places():
    cells = [Cell(1), Cell(2), Cell(1, seed=1), Cell(1), Cell(1, device="cuda")]
    found = questions(cells)
    assert [[cells.index(cell) for cell in q.cells] for q in found] == [[0, 2, 3], [1], [4]]
    assert found[0].cell is cells[0]


@pytest.mark.parametrize("width", [1, 2, 5])
def test_every_question_gets_its_own_answer(width):
    runner, asked = Runner(), questions(Cell(i) for i in range(5))
    watched = []
    found = dict(ask("predict", asked, runner, 3, 7.0, width, watched.append))
    assert found.keys() == set(asked)
    assert runner.most == width
    for question, answer in found.items():
        request = {"cell": question.cell.request(), "ask": "predict", "threads": 3}
        assert answer == {"found": {}, "status": "ok", "reason": "", "asked": request}
    assert all(0 < len(running) <= width for running in watched)


def test_no_questions_have_no_answers():
    assert list(ask("audit", [], Runner(), 1, 1.0)) == []
