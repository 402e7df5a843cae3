"""A plugin whose workload ends in whatever way it is told to."""

import ctypes
import os
import signal
import subprocess
import sys
import time

import torch

from sketchbench import (
    Approximation,
    Diverged,
    Event,
    Field,
    Score,
    Skip,
    Workload,
    hookimpl,
)


class Faulty(Workload):
    """Ends as told."""

    name = "faulty"
    outcomes = {"gram": Approximation}
    how: str = Field("ok", description="In which way.")
    size: int = Field(1, description="Whatever.")
    pause: float = Field(0.0, description="Seconds before.")

    def run(self, run):
        with run.region("step"):
            time.sleep(self.pause)
        print(f"about to end: {self.how}", flush=True)
        getattr(self, f"_{self.how.replace(' ', '_')}", lambda run: None)(run)
        noise = torch.rand(1, generator=run.rng("noise"))
        run.deliver("gram", Approximation(torch.ones(1) + noise, torch.ones(1)))

    def _raise(self, run):
        raise ValueError("this cell\nis broken")

    def _segfault(self, run):
        ctypes.string_at(0)

    def _exit(self, run):
        os._exit(3)

    def _sysexit(self, run):
        sys.exit("leaving")

    def _kill(self, run):
        os.kill(os.getpid(), signal.SIGKILL)

    def _hang(self, run):
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(6543)"])
        while True:
            time.sleep(3600)

    def _nan(self, run):
        run.deliver("gram", Approximation(torch.tensor([float("nan")]), torch.ones(1)))

    def _diverge(self, run):
        raise Diverged("training loss is inf at epoch 2")

    def _overflow(self, run):
        raise FloatingPointError("optimizer: a gradient isn't finite")

    def _memory(self, run):
        torch.empty(2**60, dtype=torch.uint8)

    def _python_memory(self, run):
        raise MemoryError

    def _skip(self, run):
        raise Skip("toys: no data in nowhere; set SKETCHBENCH_DATA")

    def _odd_event(self, run):
        run.deliver("odd", Event("odd", {"x": torch.ones(1)}))

    def _silent(self, run):
        run.deliver = lambda *_, **__: None

    def _huge_answer(self, run):
        print("x" * 100_000)
        raise ValueError("y" * 100_000)


class Error(Score):
    """The mean error."""

    name = "error"
    unit, direction, margin = "1", "lower", 0.1
    consumes = Approximation

    def __call__(self, outcome):
        return float((outcome.exact - outcome.approx).mean())


@hookimpl
def register_workloads():
    return [Faulty]


@hookimpl
def register_metrics():
    return [Error]
