"""Advice: each signature fires on records that show it, and on no others."""

import pytest

SKETCH = {"use": "toy", "rank": 2, "beta": 0.95}


class Claims:
    """A recipe that states a break-even at any width."""

    def __init__(self, rows):
        self.rows = rows

    def break_even(self, width):
        assert width == 512
        return self.rows


@pytest.fixture
def advised(bench, cell):
    """Fill a table of two seeds a method with values and configurations; return its advice."""

    def run(methods, activations, rows=None, **workload):
        metrics = list(dict.fromkeys(metric for values in methods.values() for metric in values))
        both = {
            label: [cell({m: v + seed * 1e-4 for m, v in values.items()}) for seed in (0, 1)]
            for label, values in methods.items()
        }
        for label, cells in both.items():
            for each in cells:
                each.config = {"workload": {"activation": activations.get(label)} | workload}
        bench.fill(both, metrics, baseline="exact", control="zero")
        resolve = rows if callable(rows) else lambda config: Claims(rows)
        (table,) = bench.tables(resolve=resolve)
        return table.advice

    return run


def accuracies(**values):
    return {label: {"accuracy": value} for label, value in values.items()}


def test_a_large_gap_asks_for_a_higher_rank(advised):
    methods = accuracies(exact=0.97, a=0.85, b=0.93, zero=0.4)
    assert advised(methods, {"a": SKETCH, "b": SKETCH, "zero": {"use": "zero", "rank": 1}}) == [
        "accuracy more than 0.05 below 'exact': a (rank 2, 0.12 below); raise that, and see "
        "whether gradient_cosine rises with it"
    ]


def test_columns_count_before_the_rank(advised):
    found = advised(accuracies(exact=0.97, a=0.8), {"a": SKETCH | {"columns": 9}})
    assert "a (columns 9, 0.17 below)" in found[0]


@pytest.mark.parametrize(
    "activation", [None, {"use": "random-gradient", "scope": "all"}, {"use": "checkpoint"}]
)
def test_what_has_no_size_cannot_be_raised(advised, activation):
    assert advised(accuracies(exact=0.97, a=0.5), {"a": activation}) == []


def test_sizes_in_words_are_not_read(advised):
    activation = {"use": "toy", "rank": "auto", "beta": "scheduled"}
    assert advised(accuracies(exact=0.97, a=0.5), {"a": activation}) == []


def test_a_gap_that_seeds_do_not_decide_is_no_signature(bench, cell):
    config = {"workload": {"activation": SKETCH}}
    methods = {
        "exact": [cell({"accuracy": 0.9}), cell({"accuracy": 0.9})],
        "a": [cell({"accuracy": value}, config=config) for value in (0.9, 0.5)],
    }
    bench.fill(methods, baseline="exact")
    assert bench.table().advice == []


def gradients(cosine=0.9, bias=0.01, variance=1.0):
    return {"gradient_cosine": cosine, "gradient_bias": bias, "gradient_variance": variance}


@pytest.mark.parametrize(
    ("values", "sign"),
    [
        (gradients(cosine=0.3), "gradient_cosine 0.3"),
        (gradients(bias=0.6), "gradient_bias 0.6"),
        (gradients(variance=40.0), "gradient_variance 40 times that of 'exact'"),
    ],
)
def test_unstable_gradients_ask_for_a_lower_beta(advised, values, sign):
    methods = {"exact": gradients(), "a": values, "b": values, "good": gradients(), "zero": values}
    activations = {"a": SKETCH, "b": SKETCH | {"beta": 0.0}, "good": SKETCH, "zero": SKETCH}
    assert advised(methods, activations) == [
        f"unstable gradients with an EMA: a (beta 0.95: {sign}); lower beta, or train on the full "
        "batch (batching: full); where 0 is no better, it isn't the EMA"
    ]


def test_the_full_batch_leaves_only_beta(advised):
    methods = {"exact": gradients(), "a": gradients(cosine=0.1)}
    (found,) = advised(methods, {"a": SKETCH}, batching="full")
    assert "lower beta; where" in found


def test_the_full_batch_is_no_way_out_of_an_instability_on_it(bench, cell):
    """Of two methods with an EMA, the one in trouble has the full batch already."""
    made = {"a": ("full", gradients(cosine=0.1)), "b": ("shuffled", gradients())}
    methods = {"exact": [cell(gradients())]}
    for label, (batching, values) in made.items():
        config = {"workload": {"activation": SKETCH, "batching": batching}}
        methods[label] = [cell(values, config=config)]
    bench.fill(methods, list(gradients()), baseline="exact")
    (found,) = bench.table().advice
    assert "a (beta 0.95: gradient_cosine 0.1); lower beta; where" in found


@pytest.mark.parametrize(("variance", "fires"), [(3.0, True), (0.5, False)])
def test_where_the_baseline_has_no_variance_the_sketch_has_its_own(bench, cell, variance, fires):
    config = {"workload": {"activation": SKETCH, "batching": "full"}}
    methods = {
        "exact": [cell(gradients(variance=0.0))] * 2,
        "a": [cell(gradients(variance=variance), config=config)] * 2,
    }
    bench.fill(methods, list(gradients()), baseline="exact")
    found = bench.table().advice
    assert len(found) == fires
    assert all("a (beta 0.95: gradient_variance 3, and 0 of 'exact')" in line for line in found)


def test_healthy_gradients_need_no_advice(advised):
    assert advised({"exact": gradients(), "a": gradients(cosine=0.7)}, {"a": SKETCH}) == []


def kept(**values):
    return {label: {"activation_bytes": float(value)} for label, value in values.items()}


SIZES = {"model": {"use": "mlp", "hidden": [512, 64]}, "batch_size": 8}


def test_no_saving_names_what_to_run_and_the_break_even(advised):
    methods = kept(exact=1000, a=1500, less=900, zero=1000)
    activations = {"a": SKETCH, "less": SKETCH, "zero": {"use": "zero"}}
    assert advised(methods, activations, rows=43, **SIZES) == [
        "activation_bytes no less than those of 'exact': a (1.5 ×, states to save from 43 rows a "
        "layer at width 512, batch_size is 8); `sketchbench audit SUITE` names the tensors that "
        "are held, and by whom"
    ]


@pytest.mark.parametrize(
    "other",
    [
        {"batching": "full"},
        {"model": {"use": "gpt", "width": 512}},
        {"model": {"use": "pinn", "hidden": [512]}},
        {"batch_size": None},
    ],
)
def test_the_batch_size_is_told_only_where_it_is_the_rows_of_a_layer(advised, other):
    (found,) = advised(kept(exact=1000, a=1500), {"a": SKETCH}, rows=43, **SIZES | other)
    assert "a (1.5 ×, states to save from 43 rows a layer at width 512);" in found


class Broken:
    """A recipe whose break-even fails."""

    def break_even(self, width):
        raise ValueError("no\nclosed form")


def unresolved(config):
    raise ValueError("no closed form")


@pytest.mark.parametrize("resolve", [lambda config: Broken(), unresolved])
def test_a_recipe_that_fails_costs_its_break_even_alone(advised, resolve):
    (found,) = advised(kept(exact=1000, a=1500), {"a": SKETCH}, rows=resolve, **SIZES)
    assert "a (1.5 ×, its break-even failed with ValueError: no closed form);" in found


@pytest.mark.parametrize("hidden", [512, [512, "wide"]])
def test_widths_of_other_models_are_read_as_far_as_they_are_numbers(advised, hidden):
    model = {"use": "other", "hidden": hidden}
    (found,) = advised(kept(exact=1000, a=1500), {"a": SKETCH}, rows=43, model=model)
    assert "43 rows a layer at width 512" in found


def test_a_recipe_that_claims_nothing_is_no_sketch(advised):
    methods = kept(exact=1000, a=1000)
    assert advised(methods, {"a": {"use": "noise"}}, rows=None, **SIZES) == []
    (found,) = advised(methods, {"a": {"use": "noise"}}, rows=7, **SIZES)
    assert "states to save from 7 rows" in found


def test_without_a_known_width_no_break_even_is_told(advised):
    (found,) = advised(kept(exact=1000, a=1000), {"a": SKETCH}, rows=43)
    assert "a (1 ×);" in found


def test_without_a_baseline_there_is_nothing_to_compare(bench, cell):
    bench.fill({"a": [cell({"accuracy": 0.1}, config={"workload": {"activation": SKETCH}})]})
    assert bench.table().advice == []


def test_advice_is_printed_under_the_table(bench, cell):
    config = {"workload": {"activation": SKETCH}}
    methods = {
        "exact": [cell({"accuracy": 0.9})],
        "a": [cell({"accuracy": 0.5}, config=config)],
    }
    bench.fill(methods, baseline="exact")
    assert "\n  advice: accuracy more than 0.05 below 'exact': a (rank 2" in bench.text()


@pytest.mark.parametrize("metric", ["tail_share", "escaped_share"])
def test_a_tail_that_outweighs_what_is_kept_asks_for_rank_or_decay(advised, metric):
    shares = {"exact": 0.6, "a": 0.7, "b": 0.3, "zero": 1.0}
    methods = {label: {metric: value} for label, value in shares.items()}
    assert advised(methods, {}) == [
        f"{metric} above 0.5, so little but a multiple of the identity: exact (0.6), a (0.7); "
        "raise the rank, or let the sketch decay (beta2 below 1)"
    ]


def test_tails_that_are_small_are_no_signature(advised):
    assert advised({"exact": {"tail_share": 0.0}, "a": {"tail_share": 0.4}}, {}) == []
