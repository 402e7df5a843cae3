import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("meters.py")
WIDTH, BATCH, FLOAT = 32, 8, 4


def meters(*words):
    return subprocess.run(
        [sys.executable, SCRIPT, *words], capture_output=True, text=True, timeout=300
    )


def test_every_meter_has_its_say_on_a_small_case():
    done = meters("mlp-sgd", "--markdown", "--sizes", f'{{"width": {WIDTH}, "batch": {BATCH}}}')
    assert done.returncode == 0, done.stderr
    lines = [line.strip("|").split("|") for line in done.stdout.splitlines()]
    head, _, row = ([cell.strip() for cell in line] for line in lines)
    found = dict(zip(head, row, strict=True))
    parameters, rows = 4 * (WIDTH * WIDTH + WIDTH), BATCH * WIDTH
    peak = (2 * parameters + 4 * rows + 1) * FLOAT
    assert found["tracker"] == found["profiler"] == f"{peak:,}"
    # Each layer's input, the errors' two sides, and the weights of all layers but the first.
    saved = (6 * rows + 3 * WIDTH * WIDTH) * FLOAT
    assert found["saved hooks"] == f"{saved:,}"
    assert found["+ workspace"] == found["allocator"] or found["allocator"].startswith("- (")
    assert int(found["RSS"].replace(",", "")) > 100 * peak


def test_an_unknown_case_is_refused_with_the_known_ones():
    done = meters("mlp-lion")
    assert done.returncode == 2
    assert "mlp-lion: no such case (known: mlp-sgd, " in done.stderr
