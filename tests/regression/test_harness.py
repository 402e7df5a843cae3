"""What asv follows besides suites: the transforms, and what the bench itself costs."""

import importlib
import itertools
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def offered(monkeypatch):
    """Import a module of the benchmark folder as asv does."""
    monkeypatch.syspath_prepend(str(ROOT))
    return lambda name: importlib.import_module(f"benchmarks.{name}")


def test_every_number_has_a_unit_and_times_are_told_by_their_names(offered):
    """The thresholds of asv.conf.json go by names."""
    counted = 0
    for module in (offered("harness"), offered("kernels")):
        for made in vars(module).values():
            for name in dir(made) if isinstance(made, type) else ():
                if name.startswith("track_"):
                    counted += 1
                    assert (getattr(made, name).unit == "s") == ("_time" in name), name
    assert counted > 10


@pytest.mark.parametrize("kind", ["WalshHadamard", "Kronecker"])
def test_a_transform_is_timed_and_is_right(offered, kind):
    made = getattr(offered("kernels"), kind)
    for words in itertools.product(*made.params):
        subject = made()
        try:
            subject.setup(*words)
        except NotImplementedError:
            if "compiled" in words:  # without numba
                continue
            raise
        assert 0 < subject.track_relative_error(*words) < 1e-6
        if words[0] == "2^16":
            assert subject.track_cpu_time(*words) > 0


def test_a_version_without_the_kernel_is_not_applicable(offered, monkeypatch):
    monkeypatch.setitem(sys.modules, "sketchbench.linalg", None)
    with pytest.raises(NotImplementedError, match="this version has none: "):
        offered("kernels").Kronecker().setup("2^16")


def test_a_region_costs_the_same_calls_each_time(offered):
    regions = offered("harness").Regions()
    regions.setup()
    assert regions.track_region_calls() == regions.track_region_calls() > 3
    assert regions.track_region_time() > 0


def test_calls_of_python_and_of_c_are_counted(offered):
    count = offered("harness")._calls
    assert count(lambda: None) == 2  # itself, and the call that ends the counting
    assert count(lambda: (len(()), len(()))) == 4


def test_a_thousand_records_are_stored_and_reported(offered, tmp_path):
    found = offered("harness")._recorded(tmp_path)
    assert set(found) == {"store", "bytes", "report"}
    assert all(value > 0 for value in found.values())


def test_help_loads_little_and_recipes_load_all(offered):
    imports = offered("harness").Imports()
    assert 0 < imports.track_help_modules() < imports.track_import_modules()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="orphans are adopted on Linux")
def test_the_cpu_time_of_a_command_has_that_of_its_orphans(offered, tmp_path):
    burn = "import time\nt = time.process_time()\nwhile time.process_time() - t < 0.5: pass"
    leave = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {burn!r}])"
    spent = offered("timing").spent
    assert spent(sys.executable, "-c", leave) >= 0.5
    with pytest.raises(RuntimeError, match="ended with 3"):
        spent(sys.executable, "-c", "raise SystemExit(3)")


def test_the_least_of_a_call_is_what_it_takes(offered, monkeypatch):
    timing = offered("timing")
    monkeypatch.setattr(timing, "PAUSE", 0)
    turns = itertools.cycle([0.001, 0.003])

    def call():
        start, seconds = time.process_time(), next(turns)
        while time.process_time() - start < seconds:
            pass

    assert timing.least(call, 0.02) == pytest.approx(0.002, rel=0.3)


def test_asv_discovers_every_benchmark(tmp_path):
    """As asv would: in a process of its own, by the runner that it ships."""
    asv = pytest.importorskip("asv", reason="asv isn't installed: `pip install -e .[dev]`")
    out = tmp_path / "found.json"
    runner = Path(asv.__file__).parent / "benchmark.py"
    words = [sys.executable, str(runner), "discover", str(ROOT / "benchmarks"), str(out)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    text = out.read_text()
    for name in ("tracked.GradientProducts.track_step_flops", "harness.Cells.track_cell_time"):
        assert f'"{name}"' in text
    assert '"kernels._Kernel' not in text
