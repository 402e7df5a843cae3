"""asv for real on a throw-away repository with planted regressions; minutes, so nightly."""

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SHARED = ROOT / ".asv" / "shared"
BIN = Path(sys.executable).parent
SUITE = """
suite: planted
seeds: 1
experiments:
  - name: products
    workload: {use: throughput, size: 4096, repeats: 2}
    metrics: [sketch_bytes@step, step_flops@step]
    matrix:
      workload.sketch:
        qk: {use: qk, out_size: 64}
        count-sketch: {use: count-sketch, out_size: 64}
  - name: norms
    workload: {use: distortion, size: 64, vectors: 4, repeats: 4}
    metrics: [relative_error@norms]
    matrix:
      workload.sketch:
        gaussian: {use: gaussian, out_size: 16}
        qk: {use: qk, out_size: 16}
"""
TWICE = (
    "        mixed = first[:, :whole] @ wide[..., : whole * rest].unflatten(-1, (whole, rest))\n"
)
HELD = "            self._rows = torch.cat([rows for _, rows in drawn], 1).to(device)\n"
PLANTED = {  # what is reported: the file, what stands there, what takes its place
    ("Products.track_step_flops", "qk"): (
        "plugins/qk/sketchbench_qk/qk.py",
        TWICE,
        2 * TWICE,
    ),
    ("Products.track_sketch_bytes", "count-sketch"): (
        "plugins/dense/sketchbench_dense/hashing.py",
        HELD,
        HELD.replace(".to(device)", ".to(device, torch.int64)"),
    ),
    ("Norms.track_relative_error", "gaussian"): (
        "sketchbench/linalg/random_matrix.py",
        "return product.mul_(self.shape[0] ** -0.5).to(x.dtype)",
        "return product.mul_(1.5 * self.shape[0] ** -0.5).to(x.dtype)",
    ),
}


def run(folder, *words, status=(0,)):
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert done.returncode in status, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A copy of what a commit is made of, with a regression planted in every second commit."""
    if not (SHARED / ".installed").exists():
        pytest.skip("torch for asv's environments isn't there: `make asv-setup`")
    folder = tmp_path_factory.mktemp("planted")
    tracked = run(
        ROOT,
        "git",
        "ls-files",
        "-co",
        "--exclude-standard",
        "sketchbench",
        "plugins",
        "benchmarks",
        "tools",
    )
    for name in [*tracked.split(), "pyproject.toml", "README.md", "LICENSE", "asv.conf.json"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    suites = folder / "suites" / "tracked"
    suites.mkdir(parents=True)
    (suites / "planted.yaml").write_text(SUITE)
    (folder / ".gitignore").write_text(".asv\n__pycache__\nbuild\n*.egg-info\n")
    (folder / ".asv").mkdir()
    (folder / ".asv" / "shared").symlink_to(SHARED)

    def commit(message):
        run(folder, "git", "add", "-A")
        name = ["-c", "user.name=x", "-c", "user.email=x@x"]
        run(folder, "git", *name, "commit", "-q", "-m", message)
        return run(folder, "git", "rev-parse", "HEAD").strip()

    run(folder, "git", "init", "-q", "-b", "main")
    commit("begin")
    planted = {}
    for number, (what, (file, before, after)) in enumerate(PLANTED.items()):
        (folder / "README.md").write_text(f"harmless {number}\n")
        commit("harmless")
        text = (folder / file).read_text()
        assert text.count(before) == 1
        (folder / file).write_text(text.replace(before, after))
        planted[what] = commit(f"planted in {file}")
    (folder / "README.md").write_text("harmless at last\n")
    commit("harmless")
    run(folder, BIN / "asv", "machine", "--yes")
    run(folder, BIN / "asv", "run", "--bench", "^tracked", "--show-stderr", "ALL")
    run(folder, BIN / "asv", "publish")
    return folder, planted


@pytest.mark.nightly
def test_each_planted_regression_is_reported_at_its_commit_and_no_other(repository):
    folder, planted = repository
    published = folder / ".asv" / "html"
    found = json.loads((published / "regressions.json").read_text())["regressions"]
    commits = json.loads((published / "index.json").read_text())["revision_to_hash"]
    reported = {}
    for entry in found:
        name, cell = entry[0].removeprefix("tracked.").split("(")
        at = entry[6][-1][1]  # of its jumps the last: from a revision, to one, before and after
        reported[name, cell.rstrip(")").strip("'\"").partition(" #")[0]] = commits[str(at)]
    assert reported == planted


@pytest.mark.nightly
def test_the_gate_of_a_pull_request_tells_a_regression_by_its_status(repository):
    folder, planted = repository
    words = [BIN / "asv", "continuous", "--factor", "1.001", "--bench", "^tracked"]
    bad = planted["Norms.track_relative_error", "gaussian"]
    assert "Norms.track_relative_error" in run(folder, *words, f"{bad}~1", bad, status=(1,))
    run(folder, *words, bad, f"{bad}~0", status=(0,))


@pytest.mark.nightly
def test_the_page_shows_them_with_the_network_off(repository, tmp_path):
    if not (chromium := shutil.which("chromium")) or not shutil.which("npm"):
        pytest.skip("Chromium looks at the page, and npm brings its scripts: one isn't installed")
    folder, planted = repository
    html = folder / ".asv" / "html"
    run(folder, sys.executable, ROOT / "tools" / "asv_offline.py", html, ROOT / ".asv" / "npm")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=html)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run"
    closed = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"
    page = f"http://127.0.0.1:{server.server_address[1]}/#/regressions"
    words = [*flags.split(), closed, f"--user-data-dir={tmp_path}", "--virtual-time-budget=20000"]
    shown = run(folder, chromium, *words, "--dump-dom", page)
    server.shutdown()
    for name, cell in planted:
        assert name in shown
        assert cell in shown
    assert "failed to load" not in shown.split("<body")[1].split("display: none")[0]


def test_wheels_of_a_commit_lie_in_a_folder_of_their_own(tmp_path):
    """asv takes several wheels in the cache itself for a mistake."""
    build = tmp_path / "build"
    for name in ("", "plugins/one"):
        (build / name).mkdir(parents=True)
        project = (
            f"[project]\nname = 'x{len(name)}'\nversion = '1'\n[tool.setuptools]\npy-modules=[]\n"
        )
        (build / name / "pyproject.toml").write_text(project)
    (build / "plugins" / "empty").mkdir()
    cache = tmp_path / "cache"
    cache.mkdir()
    words = [sys.executable, ROOT / "tools" / "asv_build.py", build, cache]
    done = subprocess.run(words, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names = sorted(path.name.partition("-")[0] for path in (cache / "wheels").glob("*.whl"))
    assert names == ["x0", "x11"]
    assert not list(cache.glob("*.whl"))
