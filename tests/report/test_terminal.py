import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sketchbench.report import plans


def rows(text):
    return [line for line in text.splitlines() if line and not line.startswith("  ")]


def words(text, start):
    return next(line.split() for line in text.splitlines() if line.startswith(start))


def test_the_whole_of_a_small_report(bench, cell):
    bench.fill(
        {
            "exact": [
                {"accuracy": 0.97, "step_time": 0.012},
                {"accuracy": 0.98, "step_time": 0.014},
            ],
            "a": [{"accuracy": 0.90, "step_time": 0.024}, cell(status="nan", reason="loss is nan")],
        },
        ["accuracy", "step_time"],
        selection="quick",
        baseline="exact",
    )
    lines = [line.rstrip() for line in bench.text().splitlines()]
    assert (
        "\n".join(lines)
        == """\
toy: A toy
quick — 3 ok, 1 nan

main
method              n  not ok     accuracy ↑        Δ  step_time [ms] ↓  ratio
exact (baseline)  2/2          0.975 ± 0.064                    13 ± 13
a                 1/2   1 nan         0.9000  -0.0700                24  2.000
  nan × 1: loss is nan (a, seed 1)

  n: ok cells of planned ones (seeds); ↑ higher is better, ↓ lower is better
  ±: half-width of the 95 % t interval of the mean over seeds
  a number without ± comes from one seed: no interval
  Δ (difference) and ratio: to the baseline, paired by seed, with the 95 % t interval"""
    )


def test_the_best_is_marked_in_plain_text(bench, each):
    bench.fill({"a": each("accuracy", 0.5), "b": each("accuracy", 0.7)})
    text = bench.text()
    assert words(text, "b") == ["b", "1/1", "0.7000", "*"]
    assert words(text, "a") == ["a", "1/1", "0.5000"]
    assert "*: best mean" in text


def test_partly_defined_values_show_their_count(bench, each):
    bench.fill({"a": each("accuracy", 0.5, float("nan"))})
    assert words(bench.text(), "a ") == ["a", "2/2", "0.5000", "(1/2)"]


def test_labels_are_not_markup(bench, each):
    bench.fill({"[red]x[/red]": each("accuracy", 0.5), ":smile: [/]": each("accuracy", 0.5)})
    text = bench.text()
    assert "[red]x[/red]" in text
    assert ":smile: [/]" in text


def test_escape_sequences_and_line_breaks_in_labels_and_reasons_are_defused(bench, cell):
    bad = "\x1b[31mred\nnext\x07"
    bench.fill({bad: [cell(status="error", reason=bad)]})
    text = bench.text()
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "�[31mred next�" in text


@pytest.mark.parametrize("width", [None, 100])
def test_labels_that_need_defusing_keep_the_columns_aligned(bench, each, width):
    bench.fill({"a\nb": each("accuracy", 0.5), "abc\x1b": each("accuracy", 0.25)})
    lines = [line for line in bench.text(width=width).splitlines() if "1/1" in line]
    assert [line.index("1/1") for line in lines] == [8, 8]


def test_wide_characters_keep_the_columns_aligned(bench, each):
    from rich.cells import cell_len

    bench.fill({"スケッチ": each("accuracy", 0.5), "é": each("accuracy", 0.25)})
    lines = [line for line in bench.text().splitlines() if "1/1" in line]
    assert len({cell_len(line.split("1/1")[0]) for line in lines}) == 1


def test_plain_lines_are_as_long_as_they_need_to_be(bench, each):
    label = "a very long label of a method " * 20
    bench.fill({label.strip(): each("accuracy", 0.5)})
    assert label.strip() in bench.text()
    assert "\x1b" not in bench.text()


def test_a_terminal_gets_the_metrics_in_parts_that_fit(bench):
    metrics = ["accuracy", "step_time", "peak_bytes", "relative_error"]
    values = [dict.fromkeys(metrics, 0.5)] * 3
    bench.fill({"exact": values, "a method": values}, metrics, baseline="exact")
    text = bench.text(width=60)
    assert max(map(len, text.splitlines())) <= 60
    assert "…" not in text
    assert sum(line.startswith("method") for line in text.splitlines()) > 1
    assert all(metric in text for metric in metrics)


def test_a_narrow_terminal_folds_long_labels(bench, each):
    bench.fill({"abcdefghij" * 10: each("accuracy", 0.5, 0.6)})
    lines = bench.text(width=50).splitlines()
    assert max(map(len, lines)) <= 50
    assert "".join(line.split(" ")[0] for line in lines[5:]).startswith("abcdefghij" * 10)


def test_colours_appear_in_a_terminal_only(bench, each):
    from rich.console import Console

    from sketchbench.report import terminal

    bench.fill({"a": each("accuracy", 0.5), "b": each("accuracy", 0.7)})
    file = io.StringIO()
    console = Console(
        file=file, force_terminal=True, color_system="standard", width=80, _environ={}
    )
    terminal.show(bench.store, None, console)
    assert re.search(r"\x1b\[1m *0\.7000 \*\x1b\[0m", file.getvalue())


def test_groups_are_titled_by_the_other_axes(bench, each):
    groups = {model: {"a": each("accuracy", 0.5)} for model in ("mlp", "cnn")}
    bench.fill(groups, axes={"model": ["mlp", "cnn"], "sketch": ["a"]})
    text = bench.text()
    assert text.index("  model: mlp") < text.index("  model: cnn")
    assert text.count("n: ok cells") == 1


def test_several_sessions_and_machines_are_told(bench, cell):
    later = bench.store.begin_session("2026-01-02T10:00:00", "beta", {})
    bench.fill({"a": [{"accuracy": 0.5}, cell({"accuracy": 0.5}, session=later)]})
    assert (
        "  measured in 2 sessions from 2026-01-01T10:00:00 to 2026-01-02T10:00:00, on alpha, beta;"
        " times are compared within a session only\n"
    ) in bench.text()


def test_only_the_suite_and_selection_asked_for_are_shown(bench, each):
    bench.fill({"a": each("accuracy", 0.5)}, suite="one", selection="quick")
    bench.fill({"b": each("accuracy", 0.5)}, suite="one")
    bench.fill({"c": each("accuracy", 0.5)}, suite="two")
    assert "c " in bench.text()
    assert "two" not in bench.text(suite="one")
    assert "b " not in bench.text(suite="one", selection="quick")
    assert bench.text(suite="three") == ""


def test_a_suite_without_cells_is_shown_as_such(bench):
    bench.fill({})
    assert bench.text().startswith("toy: A toy\nno cells\n")


def test_a_console_without_unicode_gets_ascii(bench, each, tmp_path):
    from rich.console import Console

    from sketchbench.report import terminal

    bench.fill(
        {"exact": each("accuracy", 0.5, 0.6), "λ": each("accuracy", 0.5, 0.7)}, baseline="exact"
    )
    with (tmp_path / "out").open("w", encoding="ascii") as file:
        terminal.show(bench.store, None, Console(file=file, _environ={}))
    text = (tmp_path / "out").read_text()
    assert "0.55 +- 0.64" in text
    assert "d (difference)" in text
    assert "?" in text


@pytest.mark.parametrize("module", [p.stem for p in Path(plans.__file__).parent.glob("*.py")])
def test_a_report_imports_neither_torch_nor_scipy(module):
    if module == "progress":  # belongs to running
        return
    name = "sketchbench.report" + ("" if module == "__init__" else f".{module}")
    code = f"import sys, {name}; print({{'torch', 'scipy'}} & sys.modules.keys())"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "set()\n", result.stderr


def test_a_column_without_any_number_is_left_out_and_noted(bench, each):
    bench.fill(
        {"a": each("accuracy", 0.5, 0.6), "b": each("accuracy", 0.7, 0.8)},
        ["accuracy", "step_time"],
    )
    text = bench.text()
    assert "step_time [" not in text
    assert "step_time: not measured for a (2 of 2 seeds), b (2 of 2 seeds)" in text


NINE = [f"{name}@{place}" for name in ("step_time", "peak_bytes") for place in "abcd"] + [
    "accuracy"
]


@pytest.fixture
def wide(bench):
    """A bench with a table of nine metrics, with changes to a baseline."""
    rows = [dict.fromkeys(NINE, value) for value in (0.5, 0.625, 0.75)]
    bench.fill({"exact": rows, "a method": rows}, NINE, baseline="exact", title="Nine metrics")
    return bench


@pytest.mark.parametrize(("width", "most"), [(None, 200), (200, 200), (100, 100)])
def test_a_wide_table_goes_on_below_under_its_title_and_labels(wide, width, most):
    lines = [line.rstrip() for line in wide.text(width=width).splitlines()]
    heads = [i for i, line in enumerate(lines) if line.startswith("method")]
    assert max(map(len, lines)) <= most
    assert len(heads) > 1
    assert lines[heads[0] - 1] == "Nine metrics"
    for head in heads:
        assert [line.split("  ")[0] for line in lines[head + 1 : head + 3]] == [
            "exact (baseline)",
            "a method",
        ]
    for head in heads[1:]:
        assert lines[head - 2 : head] == ["", "Nine metrics, continued"]
    shown = [word for head in heads for word in lines[head].split() if "@" in word or "acc" in word]
    assert shown == NINE


def test_a_table_of_plain_lines_that_fits_is_whole(bench):
    metrics = NINE[:5]
    rows = [dict.fromkeys(metrics, 0.5)] * 3
    bench.fill({"exact": rows, "a": rows}, metrics, baseline="exact")
    lines = bench.text().splitlines()
    assert sum(line.startswith("method") for line in lines) == 1
    assert max(map(len, lines)) > 100
    assert "continued" not in bench.text()


def test_exact_counts_that_all_seeds_repeat_are_seen_as_exact(bench, each):
    methods = {"exact": each("peak_bytes", *[4096.0] * 3), "a": each("peak_bytes", *[3072.0] * 3)}
    bench.fill(methods, ["peak_bytes"], baseline="exact")
    assert words(bench.text(), "a ") == ["a", "3/3", "3", "±", "0", "*", "0.7500", "±", "0"]
