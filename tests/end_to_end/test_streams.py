"""The suites of covariance sketches and of spectra, as a user runs them."""

from pathlib import Path

SUITES = Path(__file__).parents[2] / "suites"
ROUNDING = 5e-5  # of a sketch in float32, in units of the largest eigenvalue: the kit's law


def values(bench, metric):
    """Return the final values of a metric by the method's label, the last of the axes'."""
    rows = bench.rows(metric=metric, at="", part="", status="ok")
    return {row["label"].split(" · ")[-1]: float(row["value"]) for row in rows if row["value"]}


def test_sketches_keep_both_bounds_and_lemma_1_on_a_planted_spectrum(bench):
    only = ["spectra, one*flat*svd*", "spectra, one*flat*gram32*", "spectra, one*flat*exact"]
    words = ["run", SUITES / "stream.yaml", "--preset", "quick", "--seeds", "1"]
    done = bench(*words, *(word for glob in only for word in ("--only", glob)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "escaped_over_bound@stream: missing for exact" in done.stdout
    for side in ("lower", "upper"):
        found = values(bench, f"{side}_violation")
        assert len(found) == 3
        assert max(found.values()) < ROUNDING
    quotient = values(bench, "escaped_over_bound")
    assert 0.5 < quotient["svd k=16"] <= 1 + ROUNDING


def test_the_gaussian_control_shows_more_dimensions_the_more_columns_are_drawn(bench):
    words = ["run", SUITES / "spectral_decay.yaml", "--preset", "quick", "--seeds", "1"]
    done = bench(*words, "--only", "iid*", "--set", "workload.size=32")
    assert done.returncode == 0, done.stdout + done.stderr
    found = values(bench, "intrinsic_dimension")
    assert 1 < found["c=1"] < found["c=64"] < 32
