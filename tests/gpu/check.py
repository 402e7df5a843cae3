"""Checks every CUDA path on a machine with a GPU, and writes what it finds to docs/gpu.md.

Each check runs in a process of its own, so that one that fails, crashes or hangs takes no other
with it. `make gpu-check` calls it. Status: 0 all checks hold (a figure may be missing, with its
reason), 1 one doesn't, 2 no GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import clock_checks  # noqa: F401  # importing them registers their checks
import device_checks  # noqa: F401
import recipe_checks  # noqa: F401
import suite_checks  # noqa: F401
from register import CHECKS

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "gpu.md"
SECONDS = 300  # that one check may take
MARK = "finding: "


def alone(title: str) -> tuple[str, str]:
    """Run one check in a process of its own; return its outcome and a line."""
    variables = os.environ | dict(CHECKS[title][1])
    words = [sys.executable, str(Path(__file__).resolve()), "--only", title]
    try:
        done = subprocess.run(words, env=variables, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return "failed", f"not done after {SECONDS} s"
    found = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if not found:
        last = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        return "failed", f"ended with status {done.returncode}: {last}"
    outcome, text = json.loads(found[-1].removeprefix(MARK))
    return outcome, text


def finding(title: str) -> tuple[str, str]:
    """Run one check in this process; whatever it raises is its outcome."""
    from sketchbench import Missing

    try:
        return "holds", CHECKS[title][0]()
    except Missing as reason:
        return "missing", str(reason)
    except AssertionError as reason:
        return "failed", str(reason) or "an assertion"
    except (Exception, SystemExit) as error:
        return "failed", f"{type(error).__name__}: {error}"


def page(findings: Mapping[str, tuple[str, str]], machine: Mapping[str, str]) -> str:
    """Return the Markdown page: the machine, then a row for each check."""
    facts = [f"| {name} | {_cell(value)} |" for name, value in machine.items()]
    rows = [
        f"| {_cell(title)} | {'**failed**' if outcome == 'failed' else outcome} | {_cell(text)} |"
        for title, (outcome, text) in findings.items()
    ]
    return "\n".join(
        [
            "# On a GPU",
            "",
            "Written by `make gpu-check` (`tests/gpu/check.py`). Each check runs in a process of",
            "its own; `missing` is a figure that this machine doesn't offer, for the reason given.",
            "",
            "| machine | |",
            "|---|---|",
            *facts,
            "",
            "| check | outcome | numbers |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")[:600]


def _machine() -> dict[str, str]:
    import torch

    from sketchbench import environment

    facts = environment.describe()
    capability = ".".join(map(str, torch.cuda.get_device_capability(0)))
    commit = (facts["commit"] or "unknown")[:12] + (" with changes" if facts["dirty"] else "")
    return {
        "GPU": f"{torch.cuda.get_device_name(0)}, compute capability {capability}",
        "driver": facts["driver"] or "unknown",
        "torch": f"{torch.__version__}, CUDA {torch.version.cuda}",
        "Python": facts["python"],
        "processor": f"{facts['processor']}, {facts['cores']} cores",
        "date": date.today().isoformat(),
        "commit": commit,
    }


def _no_gpu() -> str | None:
    """Return why there is nothing to check here, or None."""
    import torch

    if torch.cuda.is_available():
        return None
    built = "is built without CUDA" if torch.version.cuda is None else "sees no GPU"
    return f"gpu-check: torch {torch.__version__} {built} here; nothing was checked or written"


def main() -> int:
    """Check what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--probe", action="store_true", help="only say whether there is a GPU")
    parser.add_argument("--only", choices=list(CHECKS), help="one check, in this process")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page to write")
    wanted = parser.parse_args()
    reason = _no_gpu()
    if reason:
        print(reason, file=sys.stderr)
        return 2
    if wanted.probe:
        return 0
    if wanted.only:
        print(MARK + json.dumps(finding(wanted.only)))
        return 0
    findings = {}
    for title in CHECKS:
        findings[title] = outcome, text = alone(title)
        print(f"{outcome:8} {title}: {text}", flush=True)
    wanted.out.parent.mkdir(exist_ok=True)
    wanted.out.write_text(page(findings, _machine()))
    print(f"written: {wanted.out}")
    return int(any(outcome == "failed" for outcome, _ in findings.values()))


if __name__ == "__main__":
    sys.exit(main())
