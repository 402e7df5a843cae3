"""What the bench itself costs: a cell, a region, its imports, and a thousand records."""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.timing import least, spent

RECORDS = 1000
CELLS = 120
CELL = """
suite: cells
seeds: {seeds}
experiments:
  - name: one step
    workload: {{use: train, task: {{use: digits, train_limit: 100, test_limit: 10}},
               model: {{use: mlp, hidden: [16]}}, optimizer: adam, batch_size: 100}}
    metrics: [accuracy, step_time]
"""
MANY = f"""
suite: many
seeds: {RECORDS // 200}
experiments:
  - name: rates and batches
    workload: {{use: train, task: digits, model: mlp, optimizer: adam}}
    metrics: [accuracy, loss, step_time]
    matrix:
      workload.optimizer.lr: [{", ".join(f"{1e-4 * (1 + i):.4f}" for i in range(10))}]
      workload.batch_size: [{", ".join(str(1 + i) for i in range(20))}]
"""
LOAD = "from sketchbench.registry import Registry; Registry.load(); "
LOADING = f"import time, torch; t = time.process_time(); {LOAD}print(time.process_time() - t)"
MODULES = "import sys; print(sum(name.startswith('sketchbench') for name in sys.modules))"


class Imports:
    """What the command line loads before it knows what is asked, and what recipes load."""

    timeout = 120.0

    def track_help_time(self) -> float:
        """CPU seconds of `sketchbench --help`: the least of five."""
        return min(spent(sys.executable, "-m", "sketchbench", "--help") for _ in range(5))

    def track_help_modules(self) -> float:
        """Modules of ours that the command line imports at first."""
        return float(_said(f"import sketchbench.cli; {MODULES}"))

    def track_import_time(self) -> float:
        """CPU seconds of loading all recipes, torch's own left out: the least of three."""
        return min(float(_said(LOADING)) for _ in range(3))

    def track_import_modules(self) -> float:
        """Modules of ours that all recipes import."""
        return float(_said(LOAD + MODULES))

    track_import_time.unit = track_help_time.unit = "s"  # type: ignore[attr-defined]
    track_import_modules.unit = track_help_modules.unit = "modules"  # type: ignore[attr-defined]


class Cells:
    """A cell of one small training step, in a process of its own, from its start to its record."""

    timeout = 300.0

    def track_cell_time(self) -> float:
        """CPU seconds of all processes a cell, beyond those of a run."""
        took = []
        with tempfile.TemporaryDirectory() as name:
            for seeds in (1, 1 + CELLS):
                (Path(name) / "suite.yaml").write_text(CELL.format(seeds=seeds))
                words = ["run", "suite.yaml", "--device", "cpu", "--results", str(seeds)]
                took.append(spent(sys.executable, "-m", "sketchbench", *words, cwd=Path(name)))
        return (took[1] - took[0]) / CELLS

    track_cell_time.unit = "s"  # type: ignore[attr-defined]


class Regions:
    """An empty region under one probe of time."""

    timeout = 60.0

    def setup(self) -> None:
        """Import what is measured; not applicable to a version that lacks it."""
        try:
            import torch

            from sketchbench.builtin import StepTime
            from sketchbench.run import Run, Wanted
        except ImportError as reason:
            raise NotImplementedError(f"this version has none: {reason}") from None
        self.run = Run(torch.device("cpu"), 0, [Wanted(StepTime(), "step")])

    def _region(self) -> None:
        with self.run.region("step"):
            pass

    def track_region_time(self) -> float:
        """CPU seconds of entering and leaving it."""
        return least(self._region)

    def track_region_calls(self) -> float:
        """Calls of functions, Python's and C's, of entering and leaving it."""
        self._region()
        return float(_calls(self._region))

    track_region_time.unit = "s"  # type: ignore[attr-defined]
    track_region_calls.unit = "calls"  # type: ignore[attr-defined]


class Records:
    """A thousand records of a suite: stored, and reported."""

    timeout = 300.0

    def setup_cache(self) -> dict[str, float]:
        """Store and report them three times; empty where this version lacks what that takes."""
        least: dict[str, float] = {}
        for _ in range(3):
            with tempfile.TemporaryDirectory() as name:
                for key, value in _recorded(Path(name)).items():
                    least[key] = min(value, least.get(key, value))
        return least

    def track_store_time(self, cache: dict[str, float]) -> float:
        """CPU seconds of storing them, each in a transaction of its own."""
        return cache.get("store", math.nan)

    def track_file_bytes(self, cache: dict[str, float]) -> float:
        """Bytes of the file they make."""
        return cache.get("bytes", math.nan)

    def track_report_time(self, cache: dict[str, float]) -> float:
        """CPU seconds of `sketchbench report` of them."""
        return cache.get("report", math.nan)

    track_store_time.unit = track_report_time.unit = "s"  # type: ignore[attr-defined]
    track_file_bytes.unit = "bytes"  # type: ignore[attr-defined]


def _recorded(folder: Path) -> dict[str, float]:
    """Return what storing and reporting cost in an empty folder."""
    try:
        from sketchbench.execute.keys import Keys
        from sketchbench.records import Measurement, Placement, Record
        from sketchbench.registry import Registry
        from sketchbench.store import Store
        from sketchbench.suite import Suite
    except ImportError:  # an older version: not applicable
        return {}

    (folder / "suite.yaml").write_text(MANY)
    suite, keys = Suite.read(folder / "suite.yaml", Registry.load()), Keys(2)
    assert len(suite.cells) == RECORDS
    made = []
    for i, cell in enumerate(suite.cells):
        measured = [
            Measurement.of(
                wanted.metric,
                wanted.where,
                0.5 + i / 4096,
                samples=[0.125] * 30,
                source=keys.source(wanted.metric),
            )
            for wanted in cell.metrics
        ]
        made.append(
            Record(keys.of(cell), cell.id, "ok", "", "now", 1.0, cell.config(), measured, session=1)
        )
    with Store.open(folder / "results", create=True) as store:
        session = store.begin_session("now", "here", {})
        placed = [
            Placement(cell.experiment, dict(cell.axes), cell.seed, cell.id, record.key)
            for cell, record in zip(suite.cells, made, strict=True)
        ]
        start = time.process_time()
        store.place(suite.name, suite.selection, session, suite.outline(), placed, whole=True)
        for record in made:
            store.add(record)
        stored = time.process_time() - start
    size = (folder / "results" / "results.sqlite").stat().st_size
    reported = spent(sys.executable, "-m", "sketchbench", "report", "results", cwd=folder)
    return {"store": stored, "bytes": float(size), "report": reported}


def _said(code: str) -> str:
    """Return what Python code prints in a process of its own."""
    words = [sys.executable, "-c", code]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def _calls(call: Callable[[], None]) -> int:
    """Return how many functions are called in one call, by Python's own profiler hook."""
    count = 0

    def seen(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(seen)
    try:
        call()
    finally:
        sys.setprofile(None)
    return count
