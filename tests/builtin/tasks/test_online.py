"""The streams of online convex optimisation: what is planted is there."""

import pytest
import torch
from pydantic import ValidationError

from sketchbench.builtin.tasks.binary import Binary
from sketchbench.builtin.tasks.digits import Digits
from sketchbench.builtin.tasks.linear_costs import LinearCosts
from sketchbench.builtin.tasks.logistic_stream import LogisticStream
from sketchbench.builtin.workloads.comparator import Rounds, best_fixed


def moment(inputs):
    """The second moment of vectors, or of flattened matrices."""
    rows = inputs.flatten(1).double()
    return rows.mT @ rows / len(rows)


@pytest.mark.parametrize("shape", [(12,), (4, 3)])
@pytest.mark.parametrize("bias", [0.0, 0.5, 1.0])
def test_orthonormal_costs_are_as_many_directions_equally_often(shape, bias):
    task = LinearCosts(shape=shape, rank=5, bias=bias, examples=4000)
    costs = task.load("train").inputs.flatten(1).double()
    inner = costs @ costs.mT
    assert ((inner.abs() - 1).abs() < 1e-5).logical_or(inner.abs() < 1e-5).all()
    values = torch.linalg.eigvalsh(moment(costs)).flip(0)
    deviation = (0.2 * 0.8 / 4000) ** 0.5
    assert (values[:5] - 0.2).abs().max() <= 5 * deviation
    assert values[5:].abs().max() <= 1e-6
    mean = costs.mean(0).norm().item()  # ‖(bias/5, …)‖ = bias/√5
    assert mean == pytest.approx(bias / 5**0.5, abs=5 * 4000**-0.5)


@pytest.mark.parametrize(("spectrum", "exponent"), [("power", 2.0), ("power", 1.0), ("flat", 1.0)])
@pytest.mark.parametrize("shape", [(6,), (4, 3)])
def test_costs_without_bias_have_the_planted_spectrum(shape, spectrum, exponent):
    count = 20_000
    task = LinearCosts(
        shape=shape, spectrum=spectrum, rank=1, exponent=exponent, bias=0.0, examples=count
    )
    values = torch.ones(1).double()
    for size in shape:
        decay = exponent if spectrum == "power" else 0.0
        values = (values[:, None] * torch.arange(1.0, size + 1).double() ** -decay).flatten()
    values = (values / values.sum()).sort(descending=True).values
    found = torch.linalg.eigvalsh(moment(task.load("train").inputs)).flip(0)
    size = len(values)
    tolerance = 6 * (size / count) ** 0.5  # of a sample covariance's eigenvalues, relative
    assert ((found - values).abs() <= tolerance * values[0]).all()
    assert found.sum().item() == pytest.approx(1, abs=6 * (2 / count) ** 0.5)


def test_a_matrix_of_costs_has_a_product_of_bases():
    costs = LinearCosts(shape=(4, 3), spectrum="power", rank=1, exponent=2.0, bias=1.0, examples=2)
    one, other = costs.load("train").inputs.double()
    torch.testing.assert_close(one, other)  # all bias, no noise
    roots = [torch.arange(1, n + 1).double() ** -1 for n in (4, 3)]
    expected = torch.outer(*roots) / (roots[0].norm() * roots[1].norm())
    found = torch.linalg.svdvals(one)
    torch.testing.assert_close(found, torch.linalg.svdvals(expected), rtol=1e-5, atol=1e-6)


def test_the_loss_of_costs_is_the_mean_output():
    outputs = torch.tensor([[1.0], [3.0]])
    assert LinearCosts().loss(outputs, torch.zeros(2)).item() == 2.0


@pytest.mark.parametrize("rotated", [True, False])
def test_a_stream_has_the_planted_covariance_and_labels_of_the_teacher(rotated):
    count = 20_000
    task = LogisticStream(
        width=8, rank=3, exponent=1.0, noise=0.05, rotated=rotated, examples=count
    )
    split = task.load("train")
    covariance = moment(split.inputs)
    values = task.spectrum().sort(descending=True).values
    tolerance = 6 * (8 / count) ** 0.5
    found = torch.linalg.eigvalsh(covariance).flip(0)
    assert ((found - values).abs() <= tolerance * values[0]).all()
    off = (covariance - torch.diag(covariance.diagonal())).abs().max()
    assert (off > 0.05) == rotated
    assert split.targets.double().mean().item() == pytest.approx(0.5, abs=4 * 0.5 * count**-0.5)


def test_the_weak_directions_of_a_stream_matter_as_much_as_the_strong():
    """E[(2y − 1)·uᵢ] is the same for each of the first `rank` directions, and 0 beyond."""
    count = 40_000
    task = LogisticStream(width=6, rank=4, exponent=2.0, noise=0.1, rotated=False, examples=count)
    split = task.load("train")
    drawn = split.inputs.double() / task.spectrum().sqrt()
    means = ((2 * split.targets.double() - 1)[:, None] * drawn).mean(0)
    deviation = count**-0.5
    assert (means[:4] - means[:4].mean()).abs().max() <= 5 * deviation
    assert means[:4].mean() > 0.2
    assert means[4:].abs().max() <= 5 * deviation


@pytest.mark.parametrize(
    "task",
    [
        LogisticStream(width=12, rank=4, exponent=2.0, examples=300),
        LinearCosts(shape=(12,), rank=4, examples=300),
    ],
)
def test_directions_without_variance_are_empty_to_the_rounding_of_float64(task):
    """Methods that see them at all would make whole steps along rounding."""
    found = torch.linalg.svdvals(task.load("train").inputs)
    assert found.dtype == torch.float64
    assert found[4] <= 12 * torch.finfo(torch.float64).eps * found[0]


@pytest.mark.parametrize("rotated", [True, False])
@pytest.mark.parametrize("exponent", [0.0, 2.0])
def test_a_plain_teacher_has_the_same_norm_for_every_spectrum(exponent, rotated):
    """The best fixed point is about margin·√rank away, as far as the labels can say."""
    task = LogisticStream(
        width=3,
        rank=3,
        exponent=exponent,
        rotated=rotated,
        teacher="plain",
        margin=2.0,
        examples=20_000,
    )
    split = task.load("train")
    fixed = best_fixed(Rounds(task, split.inputs, split.targets), None)
    error = 3 * (4 * 3 / (task.spectrum().min().item() * 20_000)) ** 0.5  # Fisher's: λ/4 at most
    assert fixed.point.norm().item() == pytest.approx(2.0 * 3**0.5, abs=error)
    if not rotated:
        assert (fixed.point - 2.0).abs().max() <= error


@pytest.mark.parametrize("make", [LinearCosts, LogisticStream])
def test_another_world_has_other_directions_and_the_same_spectrum(make):
    one, other, again = (make(examples=2000, world=w).load("train").inputs for w in (0, 1, 0))
    assert torch.equal(one, again)
    apart = (moment(one) - moment(other)).norm()
    assert apart > 0.5 * moment(one).norm()
    spectra = [torch.linalg.eigvalsh(moment(inputs)) for inputs in (one, other)]
    torch.testing.assert_close(*spectra, rtol=0, atol=0.2 * spectra[0][-1].item())


def test_test_data_are_other_draws_of_the_same_world():
    for task in (LogisticStream(examples=2000, test_examples=2000), LinearCosts(examples=2000)):
        train, test = task.load("train"), task.load("test")
        assert not torch.equal(train.inputs, test.inputs)
        apart = (moment(train.inputs) - moment(test.inputs)).norm()
        assert apart <= 0.5 * moment(train.inputs).norm()


def test_a_binary_task_flattens_and_labels_the_positive_classes():
    inner = Digits(train_limit=50)
    task = Binary(task=inner, positive=(0, 3))
    split, many = task.load("train"), inner.load("train")
    assert task.shapes.inputs == (65,)
    assert torch.equal(split.inputs[:, :-1], many.inputs.flatten(1))
    assert (split.inputs[:, -1] == 1).all()
    assert split.targets.tolist() == [int(label in (0, 3)) for label in many.targets.tolist()]
    assert task.blank("train").inputs.shape == split.inputs.shape


@pytest.mark.parametrize("task", [Binary(task=Digits()), LogisticStream()])
def test_the_loss_of_one_output_is_the_logistic_loss(task):
    outputs, targets = torch.tensor([[2.0], [-1.0]]), torch.tensor([1, 1])
    expected = (torch.tensor([-2.0, 1.0]).exp() + 1).log().mean()
    torch.testing.assert_close(task.loss(outputs, targets), expected)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: LinearCosts(shape=(3,), rank=4), "rank 4 is more than the 3 entries"),
        (lambda: LogisticStream(width=3, rank=4), "rank 4 is more than width 3"),
        (lambda: Binary(task=Digits(), positive=(10,)), "must be some but not all of the classes"),
        (lambda: Binary(task=Digits(), positive=tuple(range(10))), "some but not all"),
    ],
)
def test_what_cannot_be_is_refused(make, complaint):
    with pytest.raises(ValidationError, match=complaint):
        make()


@pytest.mark.parametrize("task", [LinearCosts(examples=7), LogisticStream(examples=7)])
def test_a_blank_split_is_like_a_loaded_one(task):
    for split in ("train", "test"):
        blank, loaded = task.blank(split), task.load(split)
        assert blank.inputs.shape == loaded.inputs.shape
        assert blank.targets.dtype == loaded.targets.dtype
        assert blank.inputs.dtype == loaded.inputs.dtype
