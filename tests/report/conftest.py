import io
from dataclasses import dataclass, field

import pytest
from rich.console import Console

from sketchbench.records import Measurement, Placement, Record
from sketchbench.report import plans, tables, terminal
from sketchbench.store import Store

FACTS = {  # unit, direction, relative, where
    "accuracy": ("fraction", "higher", False, "test"),
    "relative_error": ("fraction", "lower", True, "test"),
    "step_time": ("s", "lower", True, "step"),
    "peak_bytes": ("bytes", "lower", True, "step"),
    "requested_bytes": ("bytes", "lower", True, "step"),
    "workspace_bytes": ("bytes", "lower", True, ""),
    "step_flops": ("FLOP", "lower", True, "step"),
    "time_to_target": ("s", "lower", True, ""),
    "skill": ("fraction", "higher", False, ""),
    "activation_bytes": ("bytes", "lower", True, "step"),
    "gradient_cosine": ("1", "higher", False, "gradients"),
    "gradient_bias": ("1", "lower", False, "gradients"),
    "gradient_variance": ("1", "lower", True, "gradients"),
    "tail_share": ("fraction", "lower", False, "stream"),
    "escaped_share": ("fraction", "lower", False, "optimizer"),
}
DERIVED = ("time_to_target", "workspace_bytes", "skill")
BREAKDOWN = ("peak_bytes", "step_flops")


@dataclass
class Cell:
    """What a test says of one cell: values by metric, a status, or that it hasn't run."""

    values: dict = field(default_factory=dict)
    status: str = "ok"
    reason: str = ""
    session: int = 0
    run: bool = True
    events: list = field(default_factory=list)
    config: dict = field(default_factory=dict)


@dataclass
class Bench:
    """A store that a test fills by hand: methods by label, each with its cells by seed."""

    store: Store

    def __post_init__(self):
        self.session = self.store.begin_session("2026-01-01T10:00:00", "alpha", {})

    def entry(self, metric):
        unit, direction, relative, where = FACTS[metric.partition("@")[0]]
        return {
            "label": metric,
            "name": metric.partition("@")[0],
            "metric": {"use": metric.partition("@")[0]},
            "where": metric.partition("@")[2] or where,
            "unit": unit,
            "direction": direction,
            "margin": 0.01,
            "relative": relative,
            "derived": metric in DERIVED,
            "breakdown": metric in BREAKDOWN,
        }

    def measured(self, metric, value, **rest):
        if isinstance(value, Measurement):
            return value
        unit, direction, relative, where = FACTS[metric.partition("@")[0]]
        where = metric.partition("@")[2] or where
        name = metric.partition("@")[0]
        return Measurement(name, where, value, unit, direction, 0.01, relative, **rest)

    def fill(self, methods, metrics=("accuracy",), suite="toy", selection="", **outline):
        """Place and store an experiment `main` with the method axis `sketch`."""
        placements, cells = [], []
        outline = {"baseline": None, "control": None, "method_axis": "sketch"} | outline
        groups = methods if outline.get("axes") else {None: methods}
        for group, by_method in groups.items():
            for method, by_seed in by_method.items():
                axes = {"sketch": method} | ({} if group is None else {"model": group})
                for seed, cell in enumerate(by_seed):
                    name = f"{suite}/{selection}/{group}/{method}/{seed}"
                    placements.append(Placement("main", axes, seed, name, f"key of {name}"))
                    cells.append((name, cell if isinstance(cell, Cell) else Cell(cell)))
        axes = outline.pop("axes", None) or {"sketch": list(methods)}
        experiment = {"name": "main", "metrics": [self.entry(m) for m in metrics], "axes": axes}
        whole = {"title": "A toy", "experiments": [experiment | outline]}
        self.store.place(suite, selection, self.session, whole, placements, whole=True)
        for name, cell in cells:
            if cell.run:
                self.add(name, cell)

    def add(self, name, cell):
        measurements = [self.measured(metric, value) for metric, value in cell.values.items()]
        self.store.add(
            Record(
                key=f"key of {name}",
                cell=name,
                status=cell.status,
                reason=cell.reason,
                started="2026-01-01T10:00:01",
                seconds=1.0,
                config=cell.config,
                measurements=measurements,
                events=cell.events,
                session=cell.session or self.session,
            )
        )

    def tables(self, derive=None, resolve=None):
        (plan,) = plans.plans(self.store)
        return tables.tables(plan.outline, plan.placements, plan.records, derive, resolve)

    def table(self, derive=None):
        (table,) = self.tables(derive)
        return table

    def text(self, derive=None, suite=None, width=None, selection=None):
        """Return what `show` prints; with `width`, as in a terminal so wide (without colours)."""
        file = io.StringIO()
        terminal_ = width is not None
        console = Console(
            file=file, width=width, force_terminal=terminal_, color_system=None, _environ={}
        )
        terminal.show(self.store, suite, console, derive, selection)
        return file.getvalue()


@pytest.fixture
def cell():
    return Cell


@pytest.fixture
def bench(tmp_path):
    with Store.open(tmp_path, create=True) as store:
        yield Bench(store)


def each(metric, *values):
    return [{metric: value} for value in values]


@pytest.fixture(name="each")
def _each():
    return each
