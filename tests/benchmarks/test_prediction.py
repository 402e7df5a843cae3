"""What it costs to predict a model that no machine here holds. Figures, and the bytes as a law.

A child of its own predicts each: its CPU seconds and its resident memory stand in `extra_info`.
"""

import json
import os
import subprocess
import sys
import tempfile

import pytest

CHILD = """
import json, resource, sys
import torch
from sketchbench.builtin import Train
from sketchbench.predict import predict, told
from sketchbench.registry import Registry
torch.set_num_threads(1)
fields = json.loads(sys.argv[1])
found = told(predict(Train.of({"use": "train", **fields}, Registry.load())))
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps(found["step"] | {"cpu": used.ru_utime + used.ru_stime, "kib": used.ru_maxrss}))
"""
GPT = {
    "task": {"use": "random-tokens", "context": 1024, "vocabulary": 32_000, "examples": 128},
    "model": {"use": "gpt", "layers": 50, "width": 2048, "heads": 16},
    "optimizer": {"use": "adam"},
    "batch_size": 32,
}
CASES = {
    "fp32": {},
    "fp32, checkpoint": {"activation": {"use": "checkpoint", "every": 1}},
    "bf16": {"precision": "bf16"},
}


@pytest.mark.parametrize("case", CASES)
def test_prediction_of_fifty_layers(benchmark, case):
    found = {}

    def child():
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [sys.executable, "-c", CHILD, json.dumps(GPT | CASES[case])],
                check=True,
                capture_output=True,
                text=True,
                cwd=folder,
                env=os.environ,
            )
        found.update(json.loads(done.stdout))

    benchmark.pedantic(child, rounds=1)
    assert sum(found["at_peak"].values()) == found["peak"]
    benchmark.extra_info |= {
        "peak_gib": found["peak"] / 2**30,
        "simulated_reserved_gib": found["simulated_reserved"] / 2**30,
        "cpu_s": found["cpu"],
        "resident_gib": found["kib"] / 2**20,
    }
