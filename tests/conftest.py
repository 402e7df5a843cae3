"""Fixtures that use the bench as a user does: installed plugins, suite files, the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


SLOW = ("end_to_end", "faults", "test_readme.py", "test_predict.py", "test_invariants.py")


def pytest_configure(config):
    config.addinivalue_line("markers", "nightly: takes minutes; `make nightly` runs it")
    if not config.getoption("-m"):
        os.environ.setdefault("SKETCHBENCH_LAW_STEPS", "30")  # of the law of periods


def pytest_collection_modifyitems(config, items):
    # long files first, so that no worker is left alone with one in the end
    items.sort(key=lambda item: not any(part in item.path.parts for part in SLOW))
    if not config.getoption("-m"):
        skip = pytest.mark.skip(reason="takes minutes; `make nightly` runs it")
        for item in items:
            if "nightly" in item.keywords:
                item.add_marker(skip)


class Bench:
    """A folder with suites, plugins and results of its own, and the command line in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.site = folder / "site"
        self.site.mkdir()

    def install(self, name: str, source: str) -> Path:
        """Put a plugin on the path, with the metadata of an installed distribution."""
        module = self.site / f"{name}.py"
        module.write_text(source)
        info = self.site / f"{name}-1.0.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[sketchbench]\n{name} = {name}\n")
        return module

    def suite(self, text: str, name: str = "suite.yaml") -> Path:
        """Write a suite file."""
        path = self.folder / name
        path.write_text(text)
        return path

    def start(self, *words: str | Path, **environment: str) -> subprocess.Popen[str]:
        """Start the command line in the folder."""
        variables = os.environ | {"PYTHONPATH": str(self.site)} | environment
        return subprocess.Popen(
            [sys.executable, "-m", "sketchbench", *map(str, words)],
            cwd=self.folder,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    def __call__(self, *words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the command line in the folder and return what it printed."""
        process = self.start(*words, **environment)
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(list(words), process.returncode, out, err)

    def rows(self, **where: str) -> list[dict[str, str]]:
        """Return the exported rows whose columns have the given values."""
        import csv
        import io

        done = self("export", "results", "--format", "csv")
        assert done.returncode == 0, done.stderr
        rows = csv.DictReader(io.StringIO(done.stdout))
        return [row for row in rows if all(row[k] == v for k, v in where.items())]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)
