import io

import pytest
from rich.console import Console

from sketchbench.report import predictions
from sketchbench.report.paper import Plain

GIB = 2**30


def answer(peak, state=0, status="ok", reason="", region="step"):
    parts = {"parameters": peak - state - 4, "optimizer_state": state, "gradients": 4}
    found = {
        "peak": peak,
        "at_peak": {name: size for name, size in parts.items() if size},
        "kept": {"activations": 3 * GIB, "sketches": GIB},
        "simulated_reserved": peak + GIB,
    }
    return {"status": status, "reason": reason, "found": {region: found} if status == "ok" else {}}


@pytest.fixture
def shown():
    def run(answers, baselines=None, room=None, experiment="e"):
        out = io.StringIO()
        paper = Plain(Console(file=out, width=10_000, no_color=True))
        predictions.show(paper, experiment, answers, baselines or {}, room)
        return out.getvalue().splitlines()

    return run


def cells(line):
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_a_method_is_told_by_category_in_one_unit(shown):
    _, title, header, line = shown({"m": answer(8 * GIB, 2 * GIB)})
    assert title == "e"
    assert cells(header) == [
        "method",
        "peak [GiB]",
        "parameters",
        "optimizer state",
        "other",
        "kept for backward",
        "reserved (simulated)",
    ]
    assert cells(line) == ["m", "8", "6.000", "2", "3.725e-09", "4", "9"]


def test_methods_are_compared_with_their_baseline(shown):
    found = {"exact": answer(8 * GIB), "half": answer(4 * GIB)}
    lines = shown(found, {"exact": "exact", "half": "exact"})
    assert [cells(line)[2] for line in lines[2:]] == ["of baseline", "100.0%", "50.0%"]


def test_a_device_says_what_fits(shown):
    found = {"large": answer(8 * GIB), "small": answer(4 * GIB)}
    lines = shown(found, room=4 * GIB)
    assert [cells(line)[2] for line in lines[2:]] == ["fits", "no", "yes"]
    (warning,) = predictions.unfit({"e": found}, 4 * GIB)
    assert warning == "e · large needs 8 GiB, more than the 4 GiB of this device"
    assert not predictions.unfit({"e": found}, None)


def test_each_region_has_a_table(shown):
    found = {"m": answer(GIB), "n": answer(GIB, region="build")}
    assert [line for line in shown(found) if line.startswith("e")] == ["e", "e, build"]


@pytest.mark.parametrize(
    ("status", "text"), [("skipped", "it depends on x"), ("timeout", "timeout: it depends on x")]
)
def test_what_is_not_predictable_is_told_under_the_table(shown, status, text):
    bad = answer(0, status=status, reason="it depends on x")
    assert shown({"m": answer(GIB), "bad": bad})[-1] == f"  not predictable: bad: {text}"
    assert shown({"": bad}) == ["", "e", f"  not predictable: e: {text}"]
    assert predictions.brief(bad) == f"not predictable: {text}"
    assert predictions.needs(bad) == 0


def test_a_prediction_in_a_few_words_is_that_of_the_neediest_region():
    both = answer(GIB)
    both["found"] |= answer(3 * GIB, region="build")["found"]
    assert predictions.brief(both) == "predicted peak 3 GiB"


def test_a_device_that_is_elsewhere_is_named():
    assert predictions.device("cpu", 4 * GIB) == "device: cpu, 4 GiB"
    assert predictions.device("cuda", None).startswith("device: cuda, not on this machine")
