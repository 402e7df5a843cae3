"""Exact training lands in the bands that the field knows; above them is as suspicious as below."""

import csv
import os
from pathlib import Path

import pytest

from sketchbench import statistics

DATA = Path(os.environ.get("SKETCHBENCH_DATA", Path(__file__).parents[3] / "shared" / "data"))
SUITE = """
suite: band
seeds: 5
timeout: 7200
experiments:
  - name: exact
    workload: {{use: train, task: {task}, model: {model}, optimizer: adam, epochs: 5}}
    metrics: [accuracy]
"""

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(not DATA.exists(), reason="needs the real data: set SKETCHBENCH_DATA"),
]


@pytest.mark.parametrize(
    ("task", "model", "low", "high"),
    [
        ("mnist", "{use: mlp, hidden: [512, 512]}", 0.975, 0.985),
        ("cifar10", "hybrid-cnn", 0.65, 0.76),
    ],
)
def test_accuracy_over_five_seeds(bench, task, model, low, high):
    suite = bench.suite(SUITE.format(task=task, model=model))
    process = bench.start("run", suite, SKETCHBENCH_DATA=str(DATA))
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    print(out)
    done = bench("export", "results", "--format", "csv", "--output", "out.csv")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((bench.folder / "out.csv").open()))
    found = statistics.mean(
        float(row["value"]) for row in rows if row["metric"] == "accuracy" and not row["at"]
    )
    assert found.n == 5
    assert low <= found.low, found
    assert found.high <= high, found
