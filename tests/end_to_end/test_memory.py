"""`predict`, `audit` and the bytes in `plan`, as a user calls them."""

import re

import pytest

PLUGIN = '''
import os, time
import torch
from torch import nn
from torch.nn import functional as F
from sketchbench import ActivationSketch, Field, Skip, Workload, hookimpl
from sketchbench.autodiff import Plain, replaced


class Cases(Workload):
    """Steps that go well, or badly."""

    name = "cases"
    how: str = Field("well", description="How.")
    size: int = Field(1000, description="Numbers.")

    def run(self, run):
        for _ in range(4):
            with run.region("step"):
                x = torch.rand(self.size, requires_grad=True)
                if self.how == "nonzero":
                    x.nonzero()
                elif self.how == "skips":
                    raise Skip("not for this model")
                elif self.how == "crashes":
                    os.abort()
                elif self.how == "hangs":
                    time.sleep(600)
                elif self.how == "fails":
                    raise ValueError("a mistake of its own")
                x.exp().sum().backward()


class Forgetful(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(weight)
        return F.linear(x, weight)

    @staticmethod
    def backward(ctx, grad):
        (weight,) = ctx.saved_tensors
        return grad @ weight, torch.zeros_like(weight)


class Layer(nn.Module):
    def __init__(self, linear):
        super().__init__()
        self.weight = linear.weight

    def forward(self, x):
        return Forgetful.apply(x, self.weight)


class Nothing(ActivationSketch):
    """Keeps no input of a linear layer."""

    name = "nothing"

    def build(self, model, batch_size, rng):
        linear = [n for n, m in model.named_modules() if type(m) is nn.Linear]
        return Plain(replaced(model, {n: Layer(model.get_submodule(n)) for n in linear}))


@hookimpl
def register_workloads():
    return [Cases]


@hookimpl
def register_sketches():
    return [Nothing]
'''
CASES = """
suite: cases
seeds: {seeds}
experiments:
  - name: e
    workload: {{use: cases, size: 1000}}
    metrics: [peak_bytes]
    matrix:
      workload.how: [{ways}]
"""
PEAK = "11.73 KiB"  # x, exp(x) and the gradient of x, the sum and its: 3 · 4000 + 2 · 4 bytes
SKETCHED = """
suite: sketched
experiments:
  - name: e
    workload: {use: train, task: {use: digits, train_limit: 64, test_limit: 10},
               model: {use: mlp, hidden: [32, 32]}, optimizer: sgd, batch_size: 32}
    metrics: [activation_bytes]
    matrix:
      workload.activation: {exact: null, nothing: nothing, checkpoint: {use: checkpoint, every: 2}}
    baseline: exact
"""


@pytest.fixture
def cases(bench):
    bench.install("cases", PLUGIN)

    def suite(*ways, seeds=1):
        return bench.suite(CASES.format(ways=", ".join(ways), seeds=seeds))

    return suite


def test_what_cannot_be_predicted_says_why_and_the_others_go_on(bench, cases):
    suite = cases("well", "nonzero", "skips", "crashes", "hangs", "fails")
    done = bench("predict", suite, "--timeout", "20", "--jobs", "2")
    assert done.returncode == 1
    assert re.search(r"^well +11.73 ", done.stdout, re.MULTILINE)
    told = dict(re.findall(r"^  not predictable: (\w+): (.*)$", done.stdout, re.MULTILINE))
    assert list(told) == ["nonzero", "skips", "crashes", "hangs", "fails"]
    assert re.fullmatch(
        r"it depends on values: aten.nonzero in site/cases.py, line \d+", told["nonzero"]
    )
    assert told["skips"] == "not for this model"
    assert told["crashes"].startswith("crash: the process ended with ")
    assert told["hangs"] == "timeout: killed after 20 s"
    assert told["fails"].startswith("error: ")
    assert "a mistake of its own" in told["fails"]


def test_predictions_are_what_is_measured(bench, cases):
    suite = cases("well", seeds=2)
    planned = bench("plan", suite)
    assert f"well  2 to run; predicted peak {PEAK}" in planned.stdout, planned.stderr
    assert bench("run", suite).returncode == 0
    assert f"well  2 done; measured peak {PEAK}" in bench("plan", suite).stdout


def test_a_device_that_is_not_here_is_compared_with_nothing(bench, cases):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    done = bench("predict", cases("well"), "--device", "cuda")
    assert done.returncode == 0, done.stderr
    assert "device: cuda, not on this machine, so compared with nothing" in done.stdout
    assert "fits" not in done.stdout


def test_what_does_not_fit_is_told_on_standard_error(bench, cases):
    suite = cases("well", "skips")
    for command in ("predict", "plan"):
        done = bench(command, suite, "--set", f"workload.size={2**44}")
        (warning,) = done.stderr.splitlines()
        assert re.match(
            r"warning: e · well needs 192.0 TiB, more than the .* of this device", warning
        )
        assert done.returncode == (1 if command == "predict" else 0)


def test_a_plan_of_many_methods_leaves_predicting_to_predict(bench, cases):
    sizes = ", ".join(map(str, range(1, 34)))
    text = cases("well").read_text().replace("workload.how: [well]", f"workload.size: [{sizes}]")
    planned = bench("plan", bench.suite(text))
    last = planned.stdout.splitlines()[-1]
    assert last == "more than 32 methods to run: `sketchbench predict` tells their bytes"
    assert "predicted peak" not in planned.stdout
    assert "sketchbench predict" not in bench("plan", bench.suite(text), "--no-predict").stdout


def test_a_plan_without_predictions_predicts_nothing(bench, cases):
    assert bench("plan", cases("hangs"), "--no-predict").stdout.startswith("e\n  hangs  1 to run\n")


def test_a_plan_says_what_cannot_be_predicted(bench, cases):
    planned = bench("plan", cases("nonzero"))
    assert planned.returncode == 0
    assert "nonzero  1 to run; not predictable: it depends on values: aten." in planned.stdout


def test_an_audit_shows_that_a_relu_keeps_what_a_sketched_layer_lets_go(bench):
    bench.install("cases", PLUGIN)
    done = bench("audit", bench.suite(SKETCHED))
    assert done.returncode == 0, done.stderr
    exact, nothing, checkpoint = re.split(r"\n\n(?=\w+: )", done.stdout)[1:]
    relu = "relu 32 × 32 float32: 4 KiB"
    assert f"1.1 (ReLU): 4 KiB\n      {relu}, also kept by 2.0\n" in exact
    assert f"2.0 (Linear): 0 bytes\n      {relu.rpartition(':')[0]}: counted under 1.1\n" in exact
    assert nothing.splitlines()[0].endswith(", as much as the baseline")
    assert f"1.1 (ReLU): 4 KiB\n      {relu}\n" in nothing
    assert "(Layer)" not in nothing
    assert "against the baseline (-" in checkpoint.splitlines()[0]


def test_an_audit_that_fails_says_so_and_the_others_go_on(bench, cases):
    done = bench("audit", cases("fails", "skips", "well"))
    assert done.returncode == 1
    assert re.search(r"^fails: error: .*a mistake of its own", done.stdout, re.MULTILINE)
    assert "skips: skipped: not for this model" in done.stdout
    assert re.search(r"^well: .* kept for the backward pass$", done.stdout, re.MULTILINE)


RANKED = """
suite: ranked
experiments:
  - name: e
    workload: {use: train, task: digits, model: {use: mlp, hidden: [128]}}
    metrics: [state_bytes]
    matrix:
      workload.optimizer: {adam: adam, low: {use: galore, rank: 8}, high: {use: galore, rank: 16}}
"""


def test_a_plan_tells_the_break_even_ranks_of_its_optimizers(bench, cases):
    planned = bench("plan", bench.suite(RANKED), "--no-predict")
    assert planned.returncode == 0, planned.stderr
    first, *methods, low, high, _, _, legend = planned.stdout.splitlines()
    assert (first, len(methods)) == ("e", 3)
    head = "  break-even rank of galore (asked for "  # 128·64 / (128 + 64), 10·128 / (10 + 128)
    assert low == head + "8): 42 for 128 × 64, 9 for 10 × 128"
    assert high == head + "16): 42 for 128 × 64, 9 for 10 × 128 (exceeded)"
    assert legend.startswith("break-even rank: the largest at which ")
    assert "break-even" not in bench("plan", cases("well"), "--no-predict").stdout
