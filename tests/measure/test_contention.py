import json
import os

import pytest
import torch

from sketchbench.measure.contention import (
    OTHERS,
    PRESSURE,
    SLOWER,
    STEAL,
    SWITCHES,
    Contention,
    Sources,
    involuntary_switches,
    reference_seconds,
)

TICK = os.sysconf("SC_CLK_TCK")
NUMBERS = {"pressure", "steal", "involuntary_per_second", "reference_ratio"}


class Machine:
    """A machine with two cores that is told what happens on it; its sources are real files."""

    def __init__(self, folder):
        self.pressure, self.stat = folder / "pressure", folder / "stat"
        self.clock = self.own = 100.0
        self.waited = self.others = self.stolen = 50.0
        self.switches = 1000
        self.kernel = 0.0004
        self.calls = []
        self.write()

    def write(self):
        self.pressure.write_text(
            f"some avg10=0.11 avg60=0.00 avg300=0.00 total={round(self.waited * 1e6)}\n"
            "full avg10=9.99 avg60=9.99 avg300=9.99 total=999999999999\n"
        )
        used, stolen = round((self.own + self.others) * TICK), round(self.stolen * TICK)
        half = used // 2
        self.stat.write_text(
            f"cpu  {half} 0 {used - half} 123456 7890 0 0 {stolen} 55 0\n"
            f"cpu0 {half} 0 0 61728 3945 0 0 0 0 0\n"
            "intr 1 2 3\n"
        )

    def works(
        self, seconds=10.0, own=20.0, waited=0.0, others=0.0, stolen=0.0, switches=900, slower=1.0
    ):
        self.clock += seconds
        self.own += own
        self.waited += waited
        self.others += others
        self.stolen += stolen
        self.switches += switches
        self.kernel *= slower
        self.write()

    def sources(self, **other):
        def seen(name, value):
            self.calls.append(name)
            return value

        given = {
            "pressure": self.pressure,
            "stat": self.stat,
            "switches": lambda: self.switches,
            "own_seconds": lambda: self.own,
            "seconds": lambda: seen("look", self.clock),
            "reference": lambda: seen("reference", self.kernel),
        }
        return Sources(**{**given, **other})

    def judged(self, sources=None, **events):
        contention = Contention(sources or self.sources())
        contention.begin()
        self.works(**events)
        return contention.end()


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


BUSY = {"own": 13.0, "waited": 3.8, "others": 7.0}


def test_a_pass_that_has_the_machine_to_itself_is_quiet(machine):
    assert machine.judged(waited=0.1, others=0.1) == {
        "what": "quiet",
        "busy": False,
        "pressure": pytest.approx(0.01),
        "steal": 0.0,
        "involuntary_per_second": 90.0,
        "reference_ratio": 1.0,
    }


def test_waiting_while_others_had_the_cores_is_busy(machine):
    found = machine.judged(**BUSY)
    assert found["busy"]
    assert found["what"] == (
        "busy: tasks waited for a core 38 % of the time, others used 0.7 cores"
    )
    assert found["pressure"] == pytest.approx(0.38)


def test_waiting_for_ones_own_threads_is_quiet(machine):
    found = machine.judged(own=20.0, waited=8.5, others=0.0, switches=500_000)
    assert (found["what"], found["busy"]) == ("quiet", False)
    assert found["pressure"] == pytest.approx(0.85)


def test_others_of_low_priority_who_only_wait_are_no_disturbance(machine):
    assert not machine.judged(own=19.5, waited=7.5, others=0.5)["busy"]


def test_others_on_cores_that_were_free_are_no_disturbance(machine):
    assert not machine.judged(own=10.0, waited=0.2, others=10.0)["busy"]


def test_a_pass_that_was_never_put_off_its_cores_was_not_disturbed(machine):
    assert not machine.judged(**BUSY, switches=10)["busy"]


@pytest.mark.parametrize("missing", ["waited", "others", "switches"])
def test_each_sign_of_others_has_its_threshold(machine, missing):
    at = {"waited": PRESSURE, "others": OTHERS, "switches": SWITCHES}
    events = {name: 10 * (least + 0.02) for name, least in at.items()}
    assert machine.judged(own=10.0, **events)["busy"]
    assert not machine.judged(own=10.0, **events | {missing: 10 * (at[missing] - 0.02)})["busy"]


def test_time_that_the_hypervisor_took_is_busy(machine):
    found = machine.judged(own=18.0, stolen=2.0)
    assert found["what"] == "busy: the hypervisor withheld the cores 10 % of the time (steal)"
    assert found["steal"] == pytest.approx(0.1)
    assert not machine.judged(own=20.0, stolen=20.0 * STEAL * 0.9)["busy"]


def test_a_tick_or_two_of_steal_in_a_short_pass_mean_nothing(machine):
    short = {"seconds": 0.2, "own": 20 / TICK, "switches": 9}
    assert not machine.judged(**short, stolen=2 / TICK)["busy"]
    assert machine.judged(**short, stolen=3 / TICK)["busy"]


def test_steal_is_a_part_of_the_time_that_was_wanted_not_of_idle_cores(machine):
    assert machine.judged(own=0.9, stolen=0.1)["steal"] == pytest.approx(0.1)


@pytest.mark.parametrize(("slower", "end"), [(1.6, "at the end"), (1 / 1.6, "at the beginning")])
def test_a_machine_that_changed_its_speed_is_busy(machine, slower, end):
    found = machine.judged(slower=slower)
    assert found["what"] == f"busy: the reference kernel ran 1.6 times slower {end}"
    assert found["reference_ratio"] == pytest.approx(slower)


@pytest.mark.parametrize("slower", [SLOWER * 0.99, 1 / (SLOWER * 0.99)])
def test_a_small_change_of_speed_is_quiet(machine, slower):
    assert not machine.judged(slower=slower)["busy"]


def test_every_cause_is_named_in_one_line(machine):
    found = machine.judged(**BUSY, stolen=5.0, slower=2.0)
    assert found["what"].startswith("busy: tasks waited")
    assert "; the hypervisor withheld" in found["what"]
    assert found["what"].endswith("; the reference kernel ran 2.0 times slower at the end")
    assert "\n" not in found["what"]


@pytest.mark.parametrize(
    ("lost", "gone"),
    [("pressure", {"pressure"}), ("stat", {"steal"})],
)
@pytest.mark.parametrize("text", [None, "", "some nonsense", "cpu  1 2", "cpu a b c d e f g h"])
def test_a_figure_that_the_system_does_not_offer_is_null_and_no_reason(machine, lost, gone, text):
    path = machine.pressure.with_name("elsewhere")
    if text is not None:
        path.write_text(text)
    found = machine.judged(machine.sources(**{lost: path}), **BUSY, stolen=0.0)
    assert {name for name in NUMBERS if found[name] is None} == gone
    assert (found["what"], found["busy"]) == ("quiet", False)


def test_a_figure_that_vanishes_during_the_pass_is_null(machine):
    contention = Contention(machine.sources())
    contention.begin()
    machine.works(**BUSY)
    machine.pressure.unlink()
    found = contention.end()
    assert found["pressure"] is None
    assert not found["busy"]


def test_without_a_count_of_switches_the_other_signs_decide(machine):
    found = machine.judged(machine.sources(switches=lambda: None), **BUSY)
    assert found["involuntary_per_second"] is None
    assert found["busy"]


def test_counters_that_step_back_give_zero(machine):
    found = machine.judged(waited=-3.0, others=-30.0, stolen=-1.0, switches=-5)
    assert [found[name] for name in ("pressure", "steal", "involuntary_per_second")] == [0, 0, 0]


def test_a_pass_of_no_time_has_no_rates(machine):
    found = machine.judged(seconds=0.0, own=0.0, switches=0)
    assert found["pressure"] is None
    assert found["involuntary_per_second"] is None
    assert not found["busy"]


def test_a_reference_that_took_no_time_gives_no_ratio(machine):
    machine.kernel = 0.0
    assert machine.judged()["reference_ratio"] is None


def test_the_reference_kernel_lies_outside_what_is_judged(machine):
    machine.judged()
    assert machine.calls == ["reference", "look", "look", "reference"]


def test_an_end_needs_a_beginning(machine):
    contention = Contention(machine.sources())
    with pytest.raises(RuntimeError, match="nothing has begun"):
        contention.end()
    contention.begin()
    contention.end()
    with pytest.raises(RuntimeError, match="nothing has begun"):
        contention.end()


def test_one_instrument_judges_several_passes(machine):
    contention = Contention(machine.sources())
    found = []
    for events in (BUSY, {}):
        contention.begin()
        machine.works(**events)
        found.append(contention.end()["busy"])
    assert found == [True, False]


def test_on_this_machine_the_event_is_plain_json():
    contention = Contention()
    contention.begin()
    found = contention.end()
    assert set(found) == NUMBERS | {"what", "busy"}
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert all(found[name] is None or isinstance(found[name], float) for name in NUMBERS)
    assert found["reference_ratio"] > 0


def test_the_count_of_switches_only_grows():
    before = involuntary_switches()
    assert before is None or involuntary_switches() >= before >= 0


@pytest.mark.parametrize("threads", [1, 2])
def test_the_reference_kernel_leaves_randomness_and_threads_alone(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        state = torch.get_rng_state()
        assert reference_seconds() > 0
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_the_reference_kernel_is_the_same_whatever_torchs_defaults_are():
    with torch.device("meta"):
        assert reference_seconds() > 0
    torch.set_default_dtype(torch.float64)
    try:
        assert reference_seconds() > 0
    finally:
        torch.set_default_dtype(torch.float32)
