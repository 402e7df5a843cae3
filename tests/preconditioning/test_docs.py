"""The page on optimizers of one's own: its code is a plugin that keeps the laws."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "preconditioning.md").read_text()
SUITE = """
suite: own
experiments:
  - name: e
    workload: {use: train, task: digits, model: {use: mlp, hidden: [16]}, batch_size: 64}
    metrics: [loss, state_bytes]
    matrix:
      workload.optimizer: {sgd: {use: sgd, momentum: 0.9}, diagonal: {use: diagonal-shampoo}}
    baseline: sgd
"""


def test_the_optimizer_of_the_page_keeps_the_laws_and_is_measured(bench):
    plugin, law = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    bench.install("sketchbench_diagonal_shampoo", plugin)
    test = bench.folder / "test_diagonal_shampoo.py"
    test.write_text(law)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)],
        env=os.environ | {"PYTHONPATH": str(bench.site)},
        cwd=bench.folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 10
    ran = bench("run", bench.suite(SUITE), "--seeds", "1")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"diagonal +1/1", ran.stdout)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`(plugins/[\w/.]+)`", PAGE))))
def test_the_files_that_it_names_are_there(path):
    assert (ROOT / path).is_file()
