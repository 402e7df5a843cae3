"""Each signature of failure, provoked on digits by a sketch that is known to fail so."""

import re

import pytest

MODEL = (
    "task: {use: digits, train_limit: 400, test_limit: 100}, "
    "model: {use: mlp, hidden: [32, 32]}, optimizer: adam"
)
SUITES = {
    "accuracy": f"""
  - name: gap
    workload: {{use: train, {MODEL}, epochs: 8, batch_size: 32}}
    metrics: [accuracy]
    matrix:
      workload.activation:
        exact: null
        sketch: {{use: tri-sketch, core: candidate-p1, rank: 1}}
        zero gradient: zero-gradient
        noise: random-gradient
    baseline: exact
    control: zero gradient
""",
    "unstable": f"""
  - name: unstable
    workload: {{use: gradient-quality, {MODEL}, steps: 0, burn_in: 20, samples: 20}}
    metrics: [gradient_cosine, gradient_bias]
    matrix:
      workload.activation:
        exact: null
        sketch: {{use: ema-full, beta: 0.99}}
        zero gradient: zero-gradient
        noise: random-gradient
    baseline: exact
    control: zero gradient
""",
    "activation_bytes": f"""
  - name: no saving
    workload: {{use: train, {MODEL}, epochs: 1, batch_size: 8}}
    metrics: [activation_bytes]
    matrix:
      workload.activation:
        exact: null
        sketch: {{use: unbiased, rank: 12}}
        zero gradient: zero-gradient
        noise: random-gradient
    baseline: exact
    control: zero gradient
""",
}
TOLD = {
    "accuracy": r"accuracy more than 0.05 below 'exact': sketch \(rank 1, 0.\d+ below\); raise",
    "unstable": r"with an EMA: sketch \(beta 0.99: .*gradient_bias@gradients 0\.\d+\); lower beta",
    "activation_bytes": r"activation_bytes no less than those of 'exact': sketch \(\d\.\d+ ×, "
    r"states to save from \d+ rows a layer at width 32, batch_size is 8\); "
    r"`sketchbench audit SUITE`",
}


@pytest.mark.nightly  # its sibling in tests/report fires each rule on records made by hand
@pytest.mark.parametrize("signature", SUITES)
def test_a_signature_is_told_with_its_advice_and_of_sketches_alone(bench, signature):
    suite = bench.suite(f"suite: failing\nseeds: 2\nexperiments:{SUITES[signature]}")
    done = bench("run", suite, "--here", OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("  advice: ")]
    assert re.search(TOLD[signature], line)
    assert "noise" not in line
    assert "zero gradient" not in line
    assert line in bench("report", suite).stdout.splitlines()
