"""The law of predictions: as many bytes as are counted when the workload runs."""

import itertools
import os
from typing import ClassVar

import pytest
import torch
from sketchbench_dense import (
    SGD,
    SOAP,
    Adafactor,
    Adagrad,
    Adam,
    AdamW,
    Checkpoint,
    GaLore,
    Gaussian,
    MicroBatch,
    Muon,
    Rademacher,
    RandomGradient,
    ZeroGradient,
)
from torch import nn
from torch.nn import functional as F

from sketchbench.audit import Opened
from sketchbench.builtin import CIFAR10, MLP, MNIST, Digits, HybridCNN, ResNet20, Train
from sketchbench.builtin.models.transformer import GPT
from sketchbench.builtin.tasks.tokens import RandomTokens
from sketchbench.builtin.workloads.distortion import Distortion
from sketchbench.kinds import Workload
from sketchbench.measure import LiveBytes, labelling
from sketchbench.predict import predict, told
from sketchbench.protocols import Missing
from sketchbench.run import Enough, Run, Skip, Wanted

CPU = torch.device("cpu")
FIELDS = ("start", "peak", "at_peak", "during", "highest", "kept", "state")
PRECISIONS = ("fp32", "bf16", "amp-bf16")
SKETCHES = [
    None,
    Checkpoint(),
    Checkpoint(every=2),
    MicroBatch(rows=10),
    MicroBatch(bytes=10**6),
    MicroBatch(rows=10, checkpoint=1),
    ZeroGradient(),
    RandomGradient(),
]
OPTIMIZERS = [SGD(), SGD(momentum=0.9), Adam(), AdamW(), Adagrad()]
OPTIMIZERS += [SOAP(precondition_frequency=1), GaLore(rank=4, update_proj_gap=1)]
OPTIMIZERS += [Muon()] if hasattr(torch.optim, "Muon") else []
DIGITS = {"task": Digits(train_limit=100, test_limit=10), "model": MLP(hidden=(32, 32))}
SMALL = {
    "mlp": DIGITS | {"batch_size": 32},
    "gpt": {
        "task": RandomTokens(context=8, examples=32, vocabulary=32),
        "model": GPT(layers=2, width=16, heads=2, dropout=0.1),
        "batch_size": 8,
    },
    "resnet20": {
        "task": Digits(train_limit=10, test_limit=10, augment=True),
        "model": ResNet20(),
        "batch_size": 2,
    },
}


class LiveBytesWanted(Opened):
    """Has live bytes counted in a region."""

    meter: ClassVar = LiveBytes


@pytest.fixture(autouse=True)
def repeatable():
    """As a worker is: operations without a deterministic form fail rather than vary."""
    was = torch.are_deterministic_algorithms_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    with torch.random.fork_rng():
        yield
    torch.use_deterministic_algorithms(was)
    torch.utils.deterministic.fill_uninitialized_memory = filled


def measured(workload):
    """Return the footprint of each region's neediest occurrence, of real tensors."""
    regions = [region for region in workload.regions if region in Opened.regions]
    wanted = [Wanted(LiveBytesWanted(), region) for region in regions]
    run = Run(CPU, 0, wanted, "audit", workload.full_period(), warmup=1)
    try:
        with labelling():
            workload.run(run)
    except Enough:
        pass
    return {r: max(run.readings(r, LiveBytes), key=lambda found: found.peak) for r in regions}


def equal(workload):
    real = measured(workload)
    predicted = predict(workload)
    assert predicted.keys() == real.keys()
    for region, found in real.items():
        for field in FIELDS:
            assert getattr(predicted[region].footprint, field) == getattr(found, field), field
    return real


def cases(names, recipes, often):
    """Every combination with every precision; in a short run those alone that `often` lets pass."""
    found = []
    for name, recipe, precision in itertools.product(names, recipes, PRECISIONS):
        label = f"{name}-{recipe.label() if recipe else 'exact'}-{precision}"
        marks = () if often(name, recipe, precision) else pytest.mark.nightly
        found.append(pytest.param(name, recipe, precision, id=label, marks=marks))
    return found


def few_sketches(name, sketch, precision):
    if name == "mlp":
        return precision == "fp32" or sketch is None
    if name == "gpt":
        return precision == "amp-bf16" and sketch in (None, SKETCHES[2], SKETCHES[5])
    return (precision, sketch) in (("fp32", None), ("fp32", SKETCHES[3]), ("bf16", SKETCHES[-1]))


@pytest.mark.parametrize(("name", "sketch", "precision"), cases(SMALL, SKETCHES, few_sketches))
def test_a_step_is_predicted_to_the_byte(name, sketch, precision):
    fields = {"activation": sketch, "precision": precision}
    workload = Train(**SMALL[name], **fields, optimizer=Adam())
    if name == "resnet20" and isinstance(sketch, MicroBatch):
        for refused in (measured, predict):
            with pytest.raises(Skip, match="statistics of whole batches"):
                refused(workload)
    else:
        assert equal(workload)["step"].peak > 0


def few_optimizers(name, optimizer, precision):
    if name == "mlp":
        return precision == "fp32"
    return precision == "bf16" and optimizer in (OPTIMIZERS[2], OPTIMIZERS[5])


@pytest.mark.parametrize(
    ("name", "optimizer", "precision"), cases(["mlp", "gpt"], OPTIMIZERS, few_optimizers)
)
def test_an_optimizer_is_predicted_to_the_byte(name, optimizer, precision):
    found = equal(Train(**SMALL[name], precision=precision, optimizer=optimizer))
    assert bool(found["step"].state) == (optimizer != SGD())


@pytest.mark.parametrize("task", [MNIST, CIFAR10])
@pytest.mark.parametrize("sketch", [None, MicroBatch(rows=10)], ids=["exact", "micro-batch"])
def test_real_images_need_what_blank_ones_are_predicted_to(task, sketch):
    workload = Train(
        task=task(train_limit=60, test_limit=10, augment=True),
        model=HybridCNN(),
        optimizer=Adam(),
        batch_size=20,
        activation=sketch,
    )
    assert predict(workload)["step"].footprint.peak > 0
    if not os.environ.get("SKETCHBENCH_DATA"):
        pytest.skip("predicted alone: $SKETCHBENCH_DATA names no data")
    equal(workload)


@pytest.mark.parametrize("sketch", [Gaussian, Rademacher])
@pytest.mark.parametrize("directions", ["gaussian", "spike"])
def test_both_regions_of_a_distortion_are_predicted_to_the_byte(sketch, directions):
    sketch = sketch(out_size=8, chunk=100)
    found = equal(Distortion(sketch=sketch, size=64, vectors=4, repeats=6, directions=directions))
    assert found.keys() == {"build", "step"}


def test_no_data_are_read(tmp_path, monkeypatch):
    monkeypatch.setenv("SKETCHBENCH_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setattr(MNIST, "load", lambda *_: pytest.fail("loaded"))
    assert predict(Train(task=MNIST(), model=MLP(), optimizer=Adam()))


def test_a_batch_that_no_machine_holds_is_predicted():
    tokens = RandomTokens(context=1024, vocabulary=32_000, examples=8192)
    model = GPT(layers=1, width=2048, heads=16)
    found = predict(Train(task=tokens, model=model, optimizer=SGD(), batch_size=4096))
    logits = 4096 * 1024 * 32_000 * 4
    assert found["step"].footprint.kept["activations"] > logits


def test_predictions_are_told_as_json():
    found = told(predict(Train(**SMALL["mlp"], optimizer=Adam())))
    step = found["step"]
    assert sum(step["at_peak"].values()) == step["peak"]
    assert step["peak"] <= step["simulated_allocated"] <= step["simulated_reserved"]


# ---------------------------------------------------------------- what can't be predicted


class Stepping(Workload):
    """Two steps of what a test says; a scalar at the end, as a loss that is printed."""

    name = "test-stepping"

    def run(self, run):
        for _ in range(2):
            with run.region("step"):
                self.step(torch.rand(100, 10, requires_grad=True))
        torch.zeros(()).item()

    def step(self, x):
        x.sum().backward()


def stepping(step):
    return type("Case", (Stepping,), {"step": lambda self, x: step(x)})()


def test_values_asked_for_when_the_steps_are_over_do_no_harm():
    assert (
        predict(stepping(lambda x: x.sum().backward()))["step"].footprint.peak == 2 * 4000 + 4 + 4
    )


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (lambda x: x.sum().item(), r"values: Tensor.item\(\) \(aten._local_scalar_dense\)"),
        (lambda x: bool(x.sum() > 1), r"values: (bool\(Tensor\)|Tensor.item)"),
        (lambda x: x.nonzero(), "values: aten.nonzero"),
        (lambda x: x[x > 0.5], "values: aten.nonzero"),
        (lambda x: torch.linalg.lstsq(x, x), "values: aten.linalg_lstsq"),
        (lambda x: x.detach().numpy(), "needs real tensors"),
        (lambda x: x.data_ptr(), "needs real tensors: .*data pointer"),
    ],
    ids=["item", "comparison", "nonzero", "mask", "lstsq", "numpy", "pointer"],
)
def test_what_depends_on_the_data_says_so_and_where(step, reason):
    with pytest.raises(Missing, match=f"{reason}.* in tests/test_predict.py, line "):
        predict(stepping(step))


def test_adafactor_reads_its_step_count():
    with pytest.raises(Missing, match=r"Tensor.item\(\) .* in optim/_adafactor.py"):
        predict(Train(**SMALL["mlp"], optimizer=Adafactor()))


def test_a_first_step_alone_is_no_prediction():
    """The optimizer's state is born in it, so that the second one needs more."""
    workload = Train(**DIGITS, optimizer=Adam(), batching="full", epochs=3)
    with pytest.raises(Missing, match="after 1 of the 2 steps .* in workloads/train.py"):
        predict(workload)


def test_a_workload_without_a_step_is_no_prediction():
    class Idle(Workload):
        name = "test-idle"

        def run(self, run):
            pass

    with pytest.raises(Missing, match="'test-idle' never came to a region"):
        predict(Idle())


def test_what_the_workload_raises_is_raised():
    def wrong(x):
        raise ValueError("a mistake of its own")

    with pytest.raises(ValueError, match="a mistake of its own"):
        predict(stepping(wrong))


# ---------------------------------------------------------------- what fake tensors leave out


@pytest.mark.parametrize(
    "loss",
    [F.mse_loss, F.smooth_l1_loss, F.binary_cross_entropy, F.soft_margin_loss],
    ids=lambda loss: loss.__name__,
)
def test_some_scalar_losses_hold_a_whole_tensor_on_the_cpu(loss):
    """Known, and in the docstring: predicted are the bytes of a scalar."""
    workload = stepping(lambda x: loss(x.sigmoid(), torch.ones(100, 10)).backward())
    real, predicted = measured(workload)["step"], predict(workload)["step"].footprint
    assert sum(real.kept.values()) - sum(predicted.kept.values()) == 4000 - 4


@pytest.mark.parametrize(
    "norm",
    [
        lambda x, w: F.batch_norm(x, w, w, w, w, training=True),
        lambda x, w: F.layer_norm(x, (10,), w, w),
        lambda x, w: F.group_norm(x, 2, w, w),
    ],
    ids=["batch", "layer", "group"],
)
@pytest.mark.parametrize(
    ("inputs", "weights"),
    [
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.bfloat16),
        (torch.bfloat16, torch.float32),
    ],
    ids=["fp32", "bf16", "mixed"],
)
def test_statistics_of_norms_have_the_format_that_kernels_give_them(norm, inputs, weights):
    equal(stepping(lambda x: norm(x.to(inputs), torch.ones(10, dtype=weights)).sum().backward()))


class Moved(Workload):
    """Moves its model, as a workload of anyone's may, while something refers to its parameters."""

    name = "test-moved"
    dtype: str = "float32"

    def run(self, run):
        model = nn.Sequential(nn.Linear(10, 20), nn.BatchNorm1d(20))
        early = torch.optim.Adam(model.parameters())
        model.to(run.device, getattr(torch, self.dtype))
        run.watch(model=model, optimizer=early)
        for _ in range(2):
            x = torch.rand(5, 10).to(run.device, getattr(torch, self.dtype))
            run.watch(inputs=x)
            with run.region("step"):
                early.zero_grad()
                model(x).sum().backward()
                early.step()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_a_model_that_is_moved_when_it_is_referred_to_is_predicted(dtype):
    swap = torch.utils.swap_tensors
    equal(Moved(dtype=dtype))
    assert torch.utils.swap_tensors is swap


@pytest.mark.parametrize("draw", [torch.randint, torch.rand, torch.randn], ids=lambda d: d.__name__)
def test_one_number_of_a_given_generator_is_drawn(draw):
    limits = (2**62,) if draw is torch.randint else ()

    def step(x):
        rng = torch.Generator().manual_seed(3)
        seeds = [draw(*limits, shape, generator=rng).item() for shape in ((), (1,), (1, 1))]
        rng.manual_seed(3)
        assert seeds == [draw(*limits, (), generator=rng).item() for _ in seeds]
        torch.rand(100, generator=torch.Generator().manual_seed(int(seeds[0])))

    equal(stepping(step))
