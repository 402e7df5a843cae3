import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sketchbench import Missing

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent.parent


@pytest.fixture
def check(monkeypatch):
    """Return the script as a module, with a registry that a test may add to."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    module = importlib.import_module("check")
    yield module
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(FOLDER)):
            del sys.modules[name]


def without_gpu(*words, cwd=ROOT):
    return subprocess.run(
        [sys.executable, str(FOLDER / "check.py"), *words],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        cwd=cwd,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("words", [(), ("--probe",), ("--only", "allocator statistics")])
def test_without_a_gpu_it_says_so_in_one_line_and_writes_nothing(tmp_path, words):
    page = tmp_path / "docs" / "gpu.md"
    done = without_gpu(*words, "--out", str(page))
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("gpu-check: torch ")
    assert line.endswith("nothing was checked or written")
    assert not page.parent.exists()


def test_a_check_that_does_not_exist_is_refused():
    done = without_gpu("--only", "luck")
    assert done.returncode == 2
    assert "allocator statistics" in done.stderr


@pytest.mark.parametrize(
    ("error", "outcome", "text"),
    [
        (Missing("no driver"), "missing", "no driver"),
        (AssertionError("3 is not 4"), "failed", "3 is not 4"),
        (RuntimeError("CUDA error"), "failed", "RuntimeError: CUDA error"),
        (SystemExit(3), "failed", "SystemExit: 3"),
    ],
)
def test_what_a_check_raises_is_its_outcome(check, error, outcome, text):
    def raising():
        raise error

    check.CHECKS["test"] = (raising, {})
    assert check.finding("test") == (outcome, text)


def test_a_check_that_returns_holds(check):
    check.CHECKS["test"] = (lambda: "4 B", {})
    assert check.finding("test") == ("holds", "4 B")


def test_a_process_that_ends_without_a_finding_is_a_failed_check(check, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    outcome, text = check.alone("allocator statistics")
    assert outcome == "failed"
    assert text == "ended with status 1: nothing was said"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here: `make gpu-check`")
def test_the_last_words_of_a_process_that_ends_early_are_kept(check):
    outcome, text = check.alone("allocator statistics")
    assert outcome == "failed"
    assert text.startswith("ended with status 2: gpu-check: torch ")


def test_a_check_that_hangs_is_ended(check, monkeypatch):
    monkeypatch.setattr(check, "SECONDS", 0)
    outcome, text = check.alone("allocator statistics")
    assert (outcome, text) == ("failed", "not done after 0 s")


def test_the_page_has_a_row_for_each_check_and_no_broken_cells(check):
    findings = {"one": ("holds", "1 B | 2 B\nin all"), "two": ("failed", "x"), "3": ("missing", "")}
    page = check.page(findings, {"GPU": "some|GPU", "date": "today"})
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert "| one | holds | 1 B \\| 2 B in all |" in rows
    assert "| two | **failed** | x |" in rows
    assert "| 3 | missing |  |" in rows
    assert "| GPU | some\\|GPU |" in rows


def test_every_kind_of_cuda_path_is_checked(check):
    titles = " ".join(check.CHECKS)
    for path in ("allocator", "NVML", "device seconds", "command line", "live bytes", "oom"):
        assert path in titles


def test_make_gpu_check_asks_for_a_gpu_before_it_does_anything():
    planned = subprocess.run(["make", "-n", "gpu-check"], cwd=ROOT, capture_output=True, text=True)
    lines = [line for line in planned.stdout.splitlines() if "check.py" in line]
    assert lines[0].endswith("tests/gpu/check.py --probe")
    assert lines[-1].endswith("tests/gpu/check.py")


@pytest.fixture
def recipes(check):
    return importlib.import_module("recipes")


@pytest.mark.parametrize("kind", ["covariance_sketch", "gradient_sketch", "monitor", "optimizer"])
def test_recipes_are_compared_with_themselves(recipes, kind):
    """The CPU in the GPU's place: what is compared is computed, and is the same."""
    said = recipes.compared(kind, torch.device("cpu"))
    assert "recipes like the CPU, at most 0.0e+00 apart" in said


def test_a_recipe_that_is_another_elsewhere_is_told_with_how_far_it_may_be(recipes, monkeypatch):
    monkeypatch.setitem(recipes.COMPUTE, "monitor", lambda recipe, device, nudge: next(answers))
    ones = torch.ones(4)
    answers = iter([[("a", ones)], [("a", ones)], [("a", ones * (1 + 1e-3))]] * 3)
    with pytest.raises(
        AssertionError, match=r"tri-sketch-monitor: off by 1.0e-03, allowed 5.0e-05"
    ):
        recipes.compared("monitor", torch.device("cpu"))
    broken = ones.clone()
    broken[0] = float("nan")
    answers = iter([[("a", ones)], [("a", ones)], [("a", broken)]] * 3)
    with pytest.raises(AssertionError, match="'a' has NaN elsewhere"):
        recipes.compared("monitor", torch.device("cpu"))
