import pytest
import torch
from sketchbench_tri_sketch.heat_control import HeatControl, KeptBytes, Objective
from sketchbench_tri_sketch.heat_equation import Checkpointed, HeatEquation, Whole

from sketchbench.builtin import Cosine
from sketchbench.run import Run, Wanted
from sketchbench.testing.recipe import LAWS, has_a_name_and_a_label

CPU = torch.device("cpu")
SMALL = {"points": 24, "steps": 40, "iterations": 12}


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def equation(control="distributed", points=9, steps=11):
    return HeatEquation(points, steps, 0.02, 5.0, 1e-2, control, CPU)


def drawn(equation):
    return torch.randn(
        equation.start().shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )


def trained(wanted=(), seed=0, **fields):
    run = Run(CPU, seed, [Wanted(Objective(), "optimum"), *wanted])
    HeatControl(**(SMALL | fields)).run(run)
    return {(m.metric, m.where): m for m in run.measurements()}


@pytest.mark.parametrize("control", ["distributed", "boundary"])
@pytest.mark.parametrize("keeper", [Whole, Checkpointed])
def test_the_adjoint_is_autograds_gradient(control, keeper):
    heat = equation(control)
    controls = drawn(heat).requires_grad_()
    objective = heat.objective(controls, lambda state: None)
    (expected,) = torch.autograd.grad(objective, controls)
    with torch.no_grad():
        states = keeper(heat)
        heat.objective(controls, states.keep)
        found = heat.gradient(controls, states.backwards(controls))
        direction = torch.ones_like(found)
    torch.testing.assert_close(
        heat.inner(found, direction), (expected * direction).sum(), rtol=1e-12, atol=0
    )
    torch.testing.assert_close(found / found.norm(), expected / expected.norm())


def test_the_adjoint_is_the_slope_by_finite_differences():
    heat = equation("boundary")
    controls, ahead = drawn(heat), 1e-5 * torch.ones_like(drawn(heat))
    states = Whole(heat)
    heat.objective(controls, states.keep)
    slope = heat.inner(heat.gradient(controls, states.backwards(controls)), ahead)
    above, below = (heat.objective(controls + way * ahead, lambda s: None) for way in (1, -1))
    assert ((above - below) / 2).item() == pytest.approx(slope.item(), rel=1e-8)


def test_without_reaction_a_sine_decays_as_implicit_euler_says():
    heat = HeatEquation(15, 4, 0.1, 0.0, 1.0, "distributed", CPU)
    places = torch.arange(1, 16, dtype=torch.float64) / 16
    sine = (torch.pi * places).sin()
    eigenvalue = 0.1 * 16**2 * (2 - 2 * torch.cos(torch.tensor(torch.pi / 16).double()))
    torch.testing.assert_close(
        heat.advance(sine, torch.zeros(15).double()), sine / (1 + eigenvalue / 4)
    )


@pytest.mark.parametrize("steps", [2, 9, 11])
def test_checkpoints_give_every_state_back_in_fewer_numbers(steps):
    heat = equation(steps=steps)
    whole, checkpointed = Whole(heat), Checkpointed(heat)
    controls = drawn(heat)
    for states in (whole, checkpointed):
        heat.objective(controls, states.keep)
    pairs = zip(whole.backwards(controls), checkpointed.backwards(controls), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert whole.numbers() == steps * 9
    assert steps < 9 or checkpointed.numbers() < whole.numbers()


def test_the_states_are_needed_and_a_sketch_of_them_is_enough():
    exact, sketched, forgotten = (
        trained(states=states)["objective", "optimum"] for states in ("exact", 4, "forgotten")
    )
    start = equation(points=24, steps=40)
    assert exact.value < 0.2 * start.objective(start.start(), lambda state: None)
    assert sketched.value == pytest.approx(exact.value, rel=0.02)
    assert forgotten.value > 1.5 * exact.value


def test_checkpointing_takes_the_very_same_steps():
    exact, again = (
        trained(states=states)["objective", "optimum"].samples
        for states in ("exact", "checkpointed")
    )
    assert exact == again


def test_the_objective_never_rises():
    for states in ("exact", 1, "forgotten"):
        samples = trained(states=states)["objective", "optimum"].samples
        assert samples == sorted(samples, reverse=True)


def test_a_larger_rank_aligns_the_gradient_better():
    wanted = [Wanted(Cosine(), "first")]
    small, large = (
        trained(wanted, states=rank, iterations=1)["cosine", "first"].value for rank in (1, 6)
    )
    assert small < large
    assert large == pytest.approx(1, abs=1e-6)


def test_bytes_are_counted_as_the_shapes_say():
    wanted = [Wanted(KeptBytes(), "optimum")]
    found = {
        states: trained(wanted, states=states, iterations=1)["kept_bytes", "optimum"].value
        for states in ("exact", 2, "forgotten")
    }
    assert found == {
        "exact": 8 * 24 * 40,
        2: 8 * (5 * (24 + 40) + 11**2),
        "forgotten": 0,
    }


def test_scoring_gradients_does_not_change_the_descent():
    scored = trained([Wanted(Cosine(), where) for where in ("first", "last")], states=1)
    again = trained(states=1)
    assert scored["objective", "optimum"].samples == again["objective", "optimum"].samples


@pytest.mark.parametrize(
    ("subject", "law"),
    [
        (subject, law)
        for subject in (HeatControl(states=2), Objective(), KeptBytes())
        for law in LAWS
        if subject.kind != "metric" or law is not has_a_name_and_a_label  # theirs is in snake case
    ],
)
def test_recipes_obey_their_laws(subject, law):
    law(subject)
