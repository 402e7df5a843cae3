"""Whole steps and suites: live bytes against the allocator's, and the command line."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

from register import check, expect

SUITE = """
suite: gpu
experiments:
  - name: train
    workload: {use: train, task: digits, model: {use: mlp, hidden: [128]}, optimizer: adam,
               epochs: 2}
    metrics: [accuracy, step_time, peak_bytes, requested_bytes, allocated_bytes, reserved_bytes,
              device_total_bytes]
"""

GREEDY = """
from sketchbench import Workload, hookimpl


class Greedy(Workload):
    '''Asks for more than the GPU has.'''

    name = "greedy"

    def run(self, run):
        import torch

        size = 2 * torch.cuda.get_device_properties(0).total_memory
        with run.region("step"):
            torch.empty(size, dtype=torch.uint8, device=run.device)


@hookimpl
def register_workloads():
    return [Greedy]
"""


@check()
def live_bytes_against_requested_bytes_of_an_MLP_step() -> str:
    import torch
    from torch import nn

    from sketchbench.measure import Memory
    from sketchbench.protocols import Watched

    device = torch.device("cuda")
    sizes = [784, 512, 512, 10]
    layers = [part for shape in pairwise(sizes) for part in (nn.Linear(*shape), nn.ReLU())]
    model = nn.Sequential(*layers[:-1]).to(device)
    optimizer = torch.optim.Adam(model.parameters())
    inputs, targets = torch.ones(128, 784, device=device), torch.arange(128, device=device) % 10
    memory = Memory(device, Watched(model, optimizer, (inputs, targets)))
    workspaces = []
    for _ in range(4):
        memory.start()
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        usage = memory.stop()
        workspaces.append(usage.requested_peak - usage.footprint.peak)
    expect(workspaces[-1] >= 0, f"more bytes live than requested: {workspaces}")
    expect(workspaces[-1] == workspaces[-2], f"workspaces of equal steps: {workspaces}")
    return (
        f"live peak {usage.footprint.peak:,} B, requested peak {usage.requested_peak:,} B, "
        f"workspaces of four steps {workspaces} B"
    )


@check()
def a_suite_by_the_command_line() -> str:
    rows = _ran(SUITE, status=0)
    expect({row["status"] for row in rows} == {"ok"}, f"statuses {[r['status'] for r in rows]}")
    found = {
        row["metric"] + (f".{row['part']}" if row["part"] else ""): row["value"]
        for row in rows
        if not row["at"]
    }
    expect("step_time.wall" in found, f"step_time has no part 'wall': {sorted(found)}")
    shown = ("accuracy", "step_time", "step_time.wall", "step_time.cpu", "peak_bytes")
    memory = ("requested_bytes", "allocated_bytes", "reserved_bytes", "device_total_bytes")
    return ", ".join(f"{name} {found.get(name) or 'missing'}" for name in (*shown, *memory))


@check()
def a_cell_that_runs_out_has_status_oom() -> str:
    suite = "suite: gpu\nexperiments:\n  - {name: e, workload: greedy, metrics: [step_time]}\n"
    rows = _ran(suite, status=1, plugin=GREEDY)
    statuses = [row["status"] for row in rows]
    expect(statuses == ["oom"], f"statuses {statuses}")
    return "status oom"


def _ran(suite: str, status: int, plugin: str = "") -> list[dict[str, str]]:
    """Run a suite with --device cuda, as a user does; return the exported rows."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        also = [path for path in (os.environ.get("PYTHONPATH"),) if path]
        (folder / "suite.yaml").write_text(suite)
        if plugin:
            (folder / "greedy.py").write_text(plugin)
            info = folder / "greedy-1.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greedy\nVersion: 1.0\n")
            (info / "entry_points.txt").write_text("[sketchbench]\ngreedy = greedy\n")

        def call(*words: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-m", "sketchbench", *words],
                cwd=folder,
                env=os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *also])},
                capture_output=True,
                text=True,
            )

        run = call("run", "suite.yaml", "--device", "cuda", "--results", "results")
        said = " ".join((run.stdout + run.stderr).split())[-400:]
        expect(run.returncode == status, f"run ended with {run.returncode}: {said}")
        export = call("export", "results", "--format", "csv")
        expect(export.returncode == 0, f"export: {export.stderr}")
    return list(csv.DictReader(io.StringIO(export.stdout)))
