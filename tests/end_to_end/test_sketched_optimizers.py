"""The suites of sketched optimizers, as a user runs them, on pieces of real data."""

import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("SKETCHBENCH_DATA", ROOT.parent / "shared" / "data"))
SUITES = ROOT / "suites"
IMAGES = ["--set", "workload.task.train_limit=256", "--set", "workload.task.test_limit=100"]
needs_data = pytest.mark.skipif(
    not DATA.exists(), reason="needs the real data: set SKETCHBENCH_DATA"
)


def run(bench, suite, only, *words):
    globs = [word for glob in only for word in ("--only", glob)]
    words = ["run", SUITES / f"{suite}.yaml", "--preset", "quick", "--seeds", "1", *globs, *words]
    done = bench(*words, SKETCHBENCH_DATA=str(DATA))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_data
def test_ranks_are_ordered_by_the_bytes_of_their_state(bench):
    only = [f"mlp/1 · {name}" for name in ("adam", "s-shampoo k=4", "s-shampoo k=64", "shampoo")]
    only += ["mlp/1 · s-shampoo k=16 lean"]
    words = [*IMAGES, "--set", "workload.epochs=1"]
    shown = run(bench, "sketchy_rank", only, *words)
    table = shown.split("state_bytes by part")[0]
    rows = re.findall(r"^(s-shampoo k=\S+(?: lean)?|shampoo|adam)\b.* 1/1 ", table, re.MULTILINE)
    lean, adam, narrow, wide, dense = (rows.index(name) for name in (
        "s-shampoo k=16 lean", "adam", "s-shampoo k=4", "s-shampoo k=64", "shampoo"
    ))  # fmt: skip
    assert lean < adam < narrow < wide < dense
    assert re.search(r"^method .*sketch.*graft", shown, re.MULTILINE)


@needs_data
def test_skipped_updates_and_blocks_train(bench):
    words = [*IMAGES, "--set", "workload.epochs=1"]
    shown = run(bench, "step_skipping", ["training/every 1*", "training/every step"], *words)
    assert re.search(r"every 10, mean +1/1", shown)
    only = ["s-shampoo/hidden 1 · blocks of 64", "s-shampoo/hidden 1 · no blocks"]
    assert re.search(r"blocks of 64 +1/1", run(bench, "block_size", only, *words))


@needs_data
def test_a9a_is_played_against_the_best_fixed_point(bench):
    only = ["online a9a/* · exact · every 1", "online a9a/* · exact · every 10"]
    shown = run(bench, "step_skipping", only, "--set", "workload.rounds=300")
    assert re.search(r"every 10 +1/1", shown)
    assert "regret" in shown
