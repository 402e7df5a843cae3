import math

import pytest


@pytest.fixture
def peak(bench):
    """Make the values of a cell whose `peak_bytes` is the sum of its parts."""

    def make(metric="peak_bytes", **parts):
        total = sum(parts.values())
        return {metric: bench.measured(metric, total, parts=parts | {"occurrences": 3.0})}

    return make


def means(breakdown):
    return [[mean.value if mean.n else None for mean in row] for row in breakdown.rows]


def test_parts_are_columns_in_the_order_of_their_first_appearance(bench, peak):
    methods = {
        "exact": [peak(parameters=4.0, buffers=0.0, inputs=2.0)] * 2,
        "sketched": [peak(parameters=4.0, sketch=1.0, inputs=2.0)] * 2,
    }
    bench.fill(methods, ["peak_bytes"])
    (found,) = bench.table().breakdowns
    assert found.column.label == "peak_bytes"
    assert found.parts == ["parameters", "inputs", "sketch"]
    assert means(found) == [[4.0, 2.0, None], [4.0, 2.0, 1.0]]


def test_parts_add_up_to_the_mean_where_some_seeds_lack_one(bench, peak):
    bench.fill({"a": [peak(parameters=4.0, sketch=3.0), peak(parameters=4.0)]}, ["peak_bytes"])
    table = bench.table()
    ((parameters, sketch),) = table.breakdowns[0].rows
    assert (parameters.half_width, sketch.value, sketch.n) == (None, 1.5, 2)
    assert sketch.half_width == pytest.approx(1.5 * math.tan(math.pi * 0.475))
    assert parameters.value + sketch.value == table.rows[0].entries[0].mean.value


def test_only_sound_cells_in_which_it_was_measured_count(bench, cell, peak):
    missing = bench.measured("peak_bytes", math.nan, why="no compiler", parts={"parameters": 9.0})
    cells = [
        peak(parameters=4.0),
        cell(peak(parameters=8.0), status="oom"),
        cell(run=False),
        {"peak_bytes": missing},
        {},
    ]
    bench.fill({"a": cells, "b": cells[1:]}, ["peak_bytes"])
    (found,) = bench.table().breakdowns
    assert means(found) == [[4.0], [None]]


@pytest.mark.parametrize("parts", [{}, {"parameters": 0.0}])
def test_without_any_part_there_is_no_breakdown(bench, peak, parts):
    bench.fill({"a": [peak(**parts)]}, ["peak_bytes"])
    assert bench.table().breakdowns == []
    assert "by part" not in bench.text()


def test_only_metrics_whose_parts_add_up_have_one(bench):
    time = bench.measured("step_time", 2.0, parts={"median": 1.5, "cpu": 3.0})
    bench.fill({"a": [{"step_time": time}]}, ["step_time"])
    assert bench.table().breakdowns == []


def test_an_outline_stored_before_there_were_breakdowns_is_read(bench, peak):
    bench.fill({"a": [peak(parameters=4.0)]}, ["peak_bytes"])
    ((suite, selection, outline),) = bench.store.outlines()
    for entry in outline["experiments"][0]["metrics"]:
        del entry["breakdown"]
    placements = bench.store.placements(suite, selection)
    bench.store.place(suite, selection, 1, outline, placements, whole=True)
    assert bench.table().rows[0].entries[0].mean.value == 4.0
    assert bench.table().breakdowns == []


def test_many_parts_are_cut_to_the_largest_and_the_rest(bench, peak):
    sizes = [3, 14, 1, 5, 9, 2, 6, 13, 4, 8, 10, 7, 12, 11]
    parts = {f"op{size}": float(size) for size in sizes}
    methods = {"a": [peak("step_flops", **parts)], "b": [peak("step_flops", op14=1.0)]}
    bench.fill(methods, ["step_flops"])
    (found,) = bench.table().breakdowns
    kept = [size for size in sizes if size > 3]
    assert found.parts == [*(f"op{size}" for size in kept), "rest"]
    assert means(found) == [
        [*kept, 1 + 2 + 3],
        [*(1.0 if size == 14 else None for size in kept), None],
    ]


def test_twelve_parts_are_all_shown(bench, peak):
    bench.fill({"a": [peak("step_flops", **{f"op{i}": 1.0 for i in range(12)})]}, ["step_flops"])
    assert bench.table().breakdowns[0].parts == [f"op{i}" for i in range(12)]


def test_a_part_called_rest_joins_the_rest(bench, peak):
    parts = {"rest": 100.0} | {f"op{i}": 20.0 - i for i in range(12)}
    bench.fill({"a": [peak("step_flops", **parts)]}, ["step_flops"])
    (found,) = bench.table().breakdowns
    assert found.parts == [*(f"op{i}" for i in range(11)), "rest"]
    assert found.rows[0][-1].value == 100.0 + 9.0


def test_the_rest_is_averaged_over_seeds_as_a_whole(bench, peak):
    large = {f"op{i}": 50.0 for i in range(11)}
    seeds = [peak("step_flops", **large, x=1.0, y=2.0), peak("step_flops", **large, y=1.0, z=2.0)]
    bench.fill({"a": seeds}, ["step_flops"])
    rest = bench.table().breakdowns[0].rows[0][-1]
    assert (rest.value, rest.half_width, rest.n) == (3.0, None, 2)


MIB = 2.0**20


@pytest.mark.parametrize("width", [None, 80])
def test_a_breakdown_stands_under_its_table_in_the_unit_of_its_metric(bench, peak, width):
    methods = {
        "exact": [
            peak(parameters=2 * MIB, optimizer_state=4 * MIB, x=MIB),
            peak(parameters=2 * MIB, optimizer_state=4 * MIB, x=3 * MIB),
        ],
        "a": [peak(parameters=2 * MIB, optimizer_state=1024.0, sketch=MIB / 2)] * 2,
        "zero": [peak(parameters=2 * MIB)] * 2,
    }
    bench.fill(methods, ["peak_bytes"], baseline="exact", control="zero")
    lines = [line.rstrip() for line in bench.text(width=width).splitlines()]
    start = lines.index("peak_bytes by part [MiB]")
    assert lines[start - 1] == ""
    assert lines[start + 1 : start + 6] == [
        "method            parameters  optimizer state       x  sketch",
        "exact (baseline)           2                4  2 ± 13       –",
        "a                          2        0.0009766       –  0.5000",
        "zero (control)             2                –       –       –",
        "",
    ]
    assert any(line.startswith("  by part: ") for line in lines)


def test_each_group_and_metric_has_its_own_breakdown(bench, peak):
    cell = peak(parameters=4.0) | peak("step_flops", mm=2e9)
    groups = {model: {"a": [cell]} for model in ("mlp", "cnn")}
    axes = {"model": ["mlp", "cnn"], "sketch": ["a"]}
    bench.fill(groups, ["peak_bytes", "step_flops"], axes=axes)
    text = bench.text()
    places = [text.index("model: mlp"), text.index("model: cnn")]
    assert text.count("peak_bytes by part [B]") == text.count("step_flops by part [GFLOP]") == 2
    assert places[0] < text.index("peak_bytes by part") < text.index("step_flops by part")
    assert text.index("step_flops by part") < places[1]


def test_names_of_parts_are_not_markup_and_break_no_line(bench, peak):
    bench.fill({"a": [peak(**{"[red]x[/red]\n\x1b": 4.0})]}, ["peak_bytes"])
    for width in (None, 80):
        text = bench.text(width=width)
        assert "method  [red]x[/red] �" in text
        assert "\x1b" not in text
