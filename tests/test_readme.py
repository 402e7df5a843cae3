"""The README's commands and code blocks, run as they stand there."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [text for name, text in BLOCKS if name == language]


def words(line: str) -> str:
    """Return a line without its numbers, units, marks and spacing: what another machine prints."""
    line = re.sub(r"[-+]?\d[\d.,]*(e[-+]\d+)?|±|\*|!|[\[\]–]|\b(m|µ|n)?s\b", " ", line)
    return " ".join(line.split())


def test_make_run_prints_what_the_readme_shows(tmp_path):
    """In the checkout that is being tested, whose installation `make` finds done."""
    if not (ROOT / ".venv" / ".installed").exists():
        pytest.skip("the tests don't run from the .venv that `make` installs into")
    variables = os.environ | {"SKETCHBENCH_RESULTS": str(tmp_path)}
    done = subprocess.run(
        ["make", "run"], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    printed = set(words(done.stdout).split())  # by word: how wide a table is, numbers decide
    (shown,) = blocks("text")
    lines = [line for line in shown.splitlines() if line.strip() and " ok " not in line]
    assert len(lines) > 15
    # Which methods differ from which is the machine's to say; what is said of them is not.
    told = [line for line in lines if not line.startswith(("  ", "results", "$", "…"))]
    missing = [line for line in told if not set(words(line).split()) <= printed]
    assert not missing


def test_make_test_is_what_ci_runs():
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    planned = subprocess.run(["make", "-n", "test"], cwd=ROOT, capture_output=True, text=True)
    assert "-m pytest" in planned.stdout


def test_every_command_line_is_known():
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert lines
    for line in lines:
        made = r"make (run|test|asv|asv-check BASE=main)$"
        known = rf"({made}|(\.venv/bin/)?sketchbench (run|plan|predict|audit) )"
        assert re.match(known, line), line
        for suite in re.findall(r"suites/\w+\.yaml", line):
            assert (ROOT / suite).exists()


@pytest.mark.parametrize("block", blocks("console"))
def test_consoles_print_what_is_shown(bench, block):
    command, shown = block.removeprefix("$ sketchbench ").split("\n", 1)
    words = [w if not w.startswith("suites/") else ROOT / w for w in shlex.split(command)]
    done = bench(*words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip("\n") == shown.strip("\n")


def test_the_suite_of_the_readme_runs(bench):
    suite, _ = blocks("yaml")
    bench.suite(suite, "widths.yaml")
    commands = next(block for block in blocks("sh") if "widths.yaml" in block)
    for command in commands.splitlines():
        done = bench(*command.split()[1:])
        assert done.returncode == 0, done.stderr
    assert "control (control)" in done.stdout


def test_the_plugin_of_the_readme_installs_obeys_its_laws_and_is_measured(bench, monkeypatch):
    (project,) = blocks("toml")
    plugin, law = blocks("python")
    _, suite = blocks("yaml")
    assert 'feature-hashing = "sketchbench_feature_hashing"' in project
    bench.install("sketchbench_feature_hashing", plugin)
    assert "D, buckets." in bench("components", "gradient_sketch/feature-hashing").stdout
    test = bench.folder / "test_feature_hashing.py"
    test.write_text(law)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)],
        env=os.environ | {"PYTHONPATH": str(bench.site)},
        cwd=bench.folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 5
    ran = bench("run", bench.suite(suite))
    assert ran.returncode == 0, ran.stderr
    assert "feature-hashing" in ran.stdout


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_links_lead_somewhere(link):
    assert (ROOT / link).exists()


def test_the_listed_commands_are_all_there_are():
    from sketchbench.cli import COMMANDS

    assert set(re.findall(r"^\| `sketchbench (\w+)", README, re.MULTILINE)) == set(COMMANDS)
