"""What a number was measured on is stored with it."""

import json
import subprocess

import pytest

from sketchbench import environment

SUITE = """
suite: small
experiments:
  - name: e
    workload: {use: distortion, sketch: {use: gaussian, out_size: 8}, size: 32, vectors: 4,
               repeats: 2}
    metrics: [relative_error@norms]
"""


def test_the_facts_are_plain_json_and_name_the_machine_and_the_software():
    facts = environment.describe(["sketchbench-dense", "no-such-distribution"])
    assert json.loads(json.dumps(facts)) == facts
    assert facts["cores"] >= 1
    assert facts["torch"].startswith("2.")
    assert facts["distributions"]["sketchbench-dense"] == "0.1.0"
    assert facts["distributions"]["no-such-distribution"] is None
    assert {"cuda", "driver", "gpus", "processor", "python", "memory_bytes"} <= set(facts)


def test_commit_and_dirty_flag_are_those_of_the_checkout(tmp_path):
    def git(*words):
        subprocess.run(
            ["git", "-c", "user.name=x", "-c", "user.email=x@x", *words],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )

    git("init")
    (tmp_path / "file").write_text("1")
    git("add", ".")
    git("commit", "-m", "one")
    clean = environment._checkout(tmp_path)
    assert (len(clean["commit"]), clean["dirty"]) == (40, False)
    (tmp_path / "file").write_text("2")
    assert environment._checkout(tmp_path) == {"commit": clean["commit"], "dirty": True}


def test_outside_a_checkout_commit_and_flag_are_unknown(tmp_path):
    assert environment._checkout(tmp_path) == {"commit": None, "dirty": None}
    installed = tmp_path / "site-packages" / "sketchbench"
    assert environment._checkout(installed) == {"commit": None, "dirty": None}


def test_every_session_is_stored_with_its_environment(bench):
    from sketchbench.store import Store

    assert bench("run", bench.suite(SUITE), "--jobs", "2").returncode == 0
    with Store.open(bench.folder / "results") as store:
        (session,) = store.sessions().values()
    assert session.machine == environment.machine()
    facts = session.environment
    assert facts["jobs"] == 2
    assert facts["threads"] == environment.threads(2)
    assert facts["device"] == "cpu"
    assert "--jobs 2" in facts["command"]
    assert set(facts["distributions"]) == {
        "sketchbench",
        "sketchbench-affd",
        "sketchbench-afjl",
        "sketchbench-dense",
        "sketchbench-frequent-directions",
        "sketchbench-qk",
        "sketchbench-tri-sketch",
    }


def test_a_cell_has_its_share_of_the_cores_or_what_the_environment_says(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert environment.threads(1) == environment.cores()
    assert environment.threads(10**6) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert environment.threads(1) == environment.threads(2) == 3


@pytest.mark.parametrize("asked", ["0", "-1", "many", "1,2"])
def test_a_number_of_threads_that_is_none_is_refused(bench, asked):
    done = bench("plan", bench.suite(SUITE), OMP_NUM_THREADS=asked)
    assert done.returncode == 2
    assert f"OMP_NUM_THREADS: '{asked}' is no number of threads" in done.stderr


@pytest.mark.parametrize("threads", [1, 2])
def test_the_key_follows_threads_and_configuration_not_labels(threads, tmp_path):
    from sketchbench.execute.keys import Keys
    from sketchbench.registry import Registry
    from sketchbench.suite import Suite

    registry = Registry.load()

    def key(text, count=threads, **options):
        path = tmp_path / "suite.yaml"
        path.write_text(text)
        return Keys(count).of(Suite.read(path, registry, **options).cells[0])

    assert key(SUITE) == key(SUITE.replace("name: e", "name: other").replace("small", "large"))
    metrics = SUITE.replace("[relative_error@norms]", "[relative_error@norms, build_time]")
    assert key(SUITE) == key(metrics)
    different = {
        key(SUITE),
        key(SUITE, count=threads + 1),
        key(SUITE, device="cuda"),
        key(SUITE, sets=["workload.size=33"]),
        key(SUITE, sets=["workload.sketch.out_size=9"]),
    }
    assert len(different) == 5
