"""Plugins that break at import: each is left out with its reason, the others go on."""

GOOD = """
from sketchbench import Optimizer, hookimpl
class Good(Optimizer):
    "Is sound."
    name = "good"
    def build(self, params): ...
@hookimpl
def register_optimizers(): return [Good]
"""
BROKEN = {
    "raises": ("raise ImportError('no such library')", "ImportError: no such library"),
    "segfaults": ("import ctypes; ctypes.string_at(0)", "its import ends the process (SIGSEGV)"),
    "leaves": ("import os; os._exit(7)", "its import ends the process (exit status 7)"),
    "quits": ("raise SystemExit('bye')", "SystemExit: bye"),
    "kernel": (
        "import torch; torch.rand(2000, 2000) @ torch.rand(2000, 2000)",
        "its import starts",
    ),
    "pool": (
        "from threading import Event, Thread; Thread(target=Event().wait, daemon=True).start()",
        "its import starts 1 thread ",
    ),
    "typo": (GOOD.replace("register_optimizers", "register_optimisers"), "unknown hook"),
    "unfit": (GOOD.replace('"Is sound."', ""), "has no docstring"),
    "clash": (GOOD, "already registered by 0good"),
}


def test_each_broken_plugin_is_in_quarantine_and_the_sound_one_works(bench):
    bench.install("0good", GOOD)
    for name, (source, _) in BROKEN.items():
        bench.install(name, source)
    done = bench("plugins", OMP_NUM_THREADS="2")  # with one, a kernel starts no thread
    assert done.returncode == 0, done.stderr
    lines = {line.split("  ")[0]: line for line in done.stdout.splitlines() if line[0] != " "}
    for name, (_, reason) in BROKEN.items():
        assert reason in lines[name], name
        assert "in quarantine" in lines[name]
    assert "in quarantine" not in lines["0good"] + lines["builtin"] + lines["dense"]
    assert "optimizer/good" in done.stdout


def test_a_plugin_that_hangs_at_import_is_found(bench, monkeypatch):
    import sys

    from sketchbench import discovery

    monkeypatch.syspath_prepend(bench.site)
    monkeypatch.setattr(discovery, "IMPORT_SECONDS", 1.0)
    bench.install("hangs", "import time; time.sleep(600)")
    bench.install("sound", GOOD)
    plugins = [p for p in discovery.entry_points() if p.name in ("hangs", "sound")]
    assert discovery.probe(plugins) == {"hangs": "its import does not end within 1 s"}
    assert "hangs" not in sys.modules


def test_a_suite_runs_beside_a_plugin_that_segfaults_at_import(bench):
    bench.install("broken", "import ctypes; ctypes.string_at(0)")
    suite = bench.suite(
        "suite: s\nexperiments:\n- name: e\n  workload: {use: distortion, sketch: {use: gaussian,"
        " out_size: 8}, size: 32, vectors: 4, repeats: 2}\n  metrics: [relative_error@norms]\n"
    )
    done = bench("run", suite)
    assert done.returncode == 0, done.stderr
    assert "plugin 'broken' is in quarantine: its import ends the process (SIGSEGV)" in done.stderr


def test_a_name_from_a_broken_plugin_says_so(bench):
    bench.install("broken", "raise ImportError('x')")
    done = bench("components", "optimizer/lost")
    assert done.returncode == 2
    assert "in quarantine: broken" in done.stderr


def test_hooks_that_end_the_process_are_found_by_the_probe(bench):
    hook = "\nfrom sketchbench import hookimpl\n@hookimpl\ndef register_tasks():\n    "
    bench.install("exits", f"import os{hook}os._exit(0)")
    bench.install("leaves", f"import sys{hook}sys.exit('bye')")
    bench.install("good", GOOD)
    done = bench("plugins")
    assert done.returncode == 0
    assert "exits  in quarantine: its import ends the process (exit status 0)" in done.stdout
    assert "leaves  in quarantine: SystemExit: bye" in done.stdout
    assert "optimizer/good" in done.stdout


def test_two_plugins_of_one_name_are_both_left_out(bench):
    for name in ("one", "two"):
        bench.install(name, GOOD)
        entry = bench.site / f"{name}-1.0.dist-info" / "entry_points.txt"
        entry.write_text(f"[sketchbench]\nshared = {name}\n")
    lines = bench("plugins").stdout.splitlines()
    reason = "one and two both have a plugin of this name; uninstall one"
    assert f"shared  in quarantine: {reason}" in lines


def test_what_a_plugin_prints_at_import_is_not_among_the_results(bench):
    bench.install("chatty", f"print('hello')\n{GOOD}")
    done = bench("plugins")
    assert "hello" not in done.stdout
    assert "hello" in done.stderr
