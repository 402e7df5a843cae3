"""The run: regions, warm-up, periods, outcomes, audit, and independent randomness."""

import math

import pytest
import torch

from sketchbench.kinds import Workload
from sketchbench.metric import Probe, Score
from sketchbench.outcomes import Approximation, Event, Predictions
from sketchbench.protocols import Missing
from sketchbench.run import Diverged, Enough, Run, Wanted, places

CPU = torch.device("cpu")
APART = Approximation(torch.ones(2), torch.zeros(2))


class Counter:
    """Counts how often it was opened: the reading is its number."""

    opened = 0

    def __init__(self, device, watched):
        self.device, self.watched = device, watched

    def start(self):
        Counter.opened += 1

    def stop(self):
        return Counter.opened


class Turns(Probe):
    """Reads the counter."""

    name = "turns"
    unit, direction, margin = "1", "lower", 0.0
    meter = Counter

    def sample(self, reading):
        return float(reading)

    def summarise(self, readings):
        return {"value": sum(readings) / len(readings), "first": readings[0]}


class AuditTurns(Turns):
    """Reads the counter in the audit pass."""

    name = "audit_turns"
    stage = "audit"
    regions = ("step", "build")


class Error(Score):
    """Is the mean error."""

    name = "error"
    unit, direction, margin = "1", "lower", 0.0
    consumes = Approximation

    def __call__(self, outcome):
        return float((outcome.exact - outcome.approx).abs().mean())


class Work(Workload):
    """Has two regions."""

    name = "work"
    regions = ("step", "build")
    outcomes = {"gram": Approximation, "test": Predictions}

    def run(self, run):
        raise AssertionError


@pytest.fixture(autouse=True)
def _fresh_counter():
    Counter.opened = 0


def probed(count: int, period: int = 1, probe=None):
    run = Run(CPU, 0, [Wanted(probe or Turns(), "step")], period=period)
    for _ in range(count):
        with run.region("step"):
            pass
    return run.measurements()


def test_the_first_occurrences_are_not_counted():
    (measured,) = probed(5)
    assert list(measured.samples) == [3.0, 4.0, 5.0]
    assert measured.value == 4.0
    assert measured.parts == {"first": 3, "occurrences": 3.0}


@pytest.mark.parametrize(
    ("count", "period", "counted"),
    [(9, 3, [4, 5, 6, 7, 8, 9]), (10, 3, [4, 5, 6, 7, 8, 9]), (12, 5, [6, 7, 8, 9, 10])],
)
def test_warm_up_and_counting_cover_whole_periods(count, period, counted):
    (measured,) = probed(count, period)
    assert list(measured.samples) == counted


def test_a_region_that_ends_within_its_warm_up_is_measured_whole():
    (measured,) = probed(1)
    assert list(measured.samples) == [1.0]


def test_a_region_that_never_occurs_gives_no_measurement():
    assert Run(CPU, 0, [Wanted(Turns(), "step")]).measurements() == []


def test_one_meter_a_region_serves_every_probe():
    class More(Turns):
        """Reads the same counter."""

        name = "more"

    run = Run(CPU, 0, [Wanted(Turns(), "step"), Wanted(More(), "step")])
    with run.region("step"):
        pass
    assert [m.metric for m in run.measurements()] == ["turns", "more"]
    assert Counter.opened == 1


def test_an_occurrence_that_raises_is_not_a_reading():
    run = Run(CPU, 0, [Wanted(Turns(), "step")])
    with pytest.raises(KeyError), run.region("step"):
        raise KeyError
    assert run.measurements() == []


def test_the_audit_ends_the_run_after_warm_up_and_one_period():
    run = Run(CPU, 0, [Wanted(AuditTurns(), "step")], stage="audit", period=2)
    with pytest.raises(Enough):
        for _ in range(100):
            with run.region("step"):
                pass
    assert Counter.opened == 4
    assert list(run.measurements()[0].samples) == [3.0, 4.0]


def audited(changing: bool) -> Run:
    return Run(CPU, 0, [Wanted(AuditTurns(), "step")], stage="audit", period=2, changing=changing)


def test_what_changes_is_audited_to_the_end_but_only_after_changes():
    run = audited(changing=True)
    for step in range(20):
        if step in (10, 15):
            run.changed()
        with run.region("step"):
            pass
    assert Counter.opened == 4 + 2 + 2
    assert list(run.measurements()[0].samples) == [3.0, 4.0, 5.0, 6.0, 7.0, 8.0]


def test_a_change_within_the_first_period_asks_for_nothing_twice():
    run = audited(changing=True)
    for _ in range(3):
        with run.region("step"):
            pass
    run.changed()
    for _ in range(10):
        with run.region("step"):
            pass
    assert Counter.opened == 3 + 2


def test_an_audit_ends_though_an_epoch_is_shorter_than_a_period():
    run, steps = audited(changing=False), 0
    with pytest.raises(Enough):
        while steps < 50:
            with run.region("step"):
                steps += 1
            run.changed()  # what training says after every epoch
    assert steps == 4


def test_changed_is_nothing_to_a_run_without_probes():
    run = Run(CPU, 0, [], stage="audit")
    with run.region("step"):
        run.changed()
    with run.region("step"):
        pass
    assert Counter.opened == 0


def test_meters_see_what_the_workload_watches():
    class Watching(Counter):
        def stop(self):
            seen.append((self.watched.model, len(self.watched.inputs)))
            return 0

    class Seeing(Turns):
        """Reads what is watched."""

        name = "seeing"
        meter = Watching

    seen, model = [], torch.nn.Linear(1, 1)
    run = Run(CPU, 0, [Wanted(Seeing(), "step")])
    for inputs in (torch.ones(3), (torch.ones(3), torch.ones(1))):
        with run.region("step"):
            run.watch(model=model, inputs=inputs)
    assert seen == [(model, 1), (model, 2)]


@pytest.mark.parametrize("verb", ["sample", "summarise"])
def test_a_probe_may_say_why_its_value_is_missing(verb):
    class Absent(Turns):
        """Has no value here."""

        name = "absent"

    def missing(self, *_):
        raise Missing("no such\ndevice")

    setattr(Absent, verb, missing)
    (measured,) = probed(3, probe=Absent())
    assert math.isnan(measured.value)
    assert measured.why == "no such device"
    assert not measured.samples


def test_the_audit_waits_for_every_audited_region():
    wanted = [Wanted(AuditTurns(), "step"), Wanted(AuditTurns(), "build")]
    run = Run(CPU, 0, wanted, stage="audit")
    for _ in range(10):
        with run.region("step"):
            pass
    with pytest.raises(Enough):
        for _ in range(10):
            with run.region("build"):
                pass


def test_each_pass_opens_its_own_meters_only():
    wanted = [Wanted(AuditTurns(), "step")]
    run = Run(CPU, 0, wanted)
    with run.region("step"):
        pass
    assert Counter.opened == 0
    assert run.measurements() == []


def test_repeated_deliveries_are_a_curve_and_the_last_is_the_value():
    run = Run(CPU, 0, [Wanted(Error(), "gram")])
    for epoch in (1, 2):
        with run.region("step"):
            pass
        run.deliver("gram", Approximation(torch.ones(2), torch.full((2,), 0.5 * epoch)), at=epoch)
    (measured,) = run.measurements()
    assert (list(measured.at), list(measured.samples)) == ([1, 2], [0.5, 0.0])
    assert measured.value == 0.0
    assert 0 < measured.seconds[0] < measured.seconds[1]


def test_a_delivery_without_at_is_the_value():
    run = Run(CPU, 0, [Wanted(Error(), "gram")])
    run.deliver("gram", APART)
    (measured,) = run.measurements()
    assert (measured.value, list(measured.at), measured.direction) == (1.0, [], "lower")


def test_an_outcome_nobody_wants_is_not_even_made():
    made = []
    Run(CPU, 0, []).deliver("gram", lambda: made.append(1))
    Run(CPU, 0, [Wanted(Error(), "gram")], stage="audit").deliver("gram", lambda: made.append(1))
    assert made == []


def test_a_wanted_outcome_may_be_a_function():
    run = Run(CPU, 0, [Wanted(Error(), "gram")])
    run.deliver("gram", lambda: APART)
    assert run.measurements()[0].value == 1.0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_score_that_is_not_finite_ends_the_run_and_is_kept(bad):
    run = Run(CPU, 0, [Wanted(Error(), "gram")])
    with pytest.raises(Diverged, match=f"error@gram is {bad} at 3"):
        run.deliver("gram", Approximation(torch.tensor([bad]), torch.zeros(1)), at=3)
    assert repr(run.measurements()[0].value) == repr(bad)


def test_an_event_needs_no_judge():
    run = Run(CPU, 0, [])
    run.deliver("rank", Event("changed", {"from": 2, "to": 4}), at=7)
    assert run.events == [{"name": "rank", "at": 7, "what": "changed", "from": 2, "to": 4}]


def test_generators_depend_on_seed_and_purpose_alone():
    def draw(seed, purpose):
        return torch.rand(4, generator=Run(CPU, seed).rng(purpose)).tolist()

    state = torch.get_rng_state()
    assert draw(0, "data") == draw(0, "data")
    assert len({tuple(draw(s, p)) for s in (0, 1) for p in ("data", "weights")}) == 4
    assert torch.equal(state, torch.get_rng_state())


def test_places_are_shared_regions_or_matching_outcomes():
    assert places(Work, AuditTurns()) == ("step", "build")
    assert places(Work, Turns()) == ("step",)
    assert places(Work, Error()) == ("gram",)
