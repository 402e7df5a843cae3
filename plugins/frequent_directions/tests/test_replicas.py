"""Two processes under DistributedDataParallel stay equal to the bit, states included."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("replica.py")


RECIPES = [
    {"rank": 3, "lr": 0.01, "update_every": 2, "nonfinite": "skip"},
    {"rank": 3, "lr": 0.01, "solver": "subspace", "skipped": "averaged", "graft": "adafactor"},
]


def test_replicas_stay_equal(tmp_path):
    files = [tmp_path / f"{rank}.pt" for rank in range(2)]
    processes = [
        subprocess.Popen(
            [sys.executable, SCRIPT, str(rank), tmp_path / "meeting", file, json.dumps(RECIPES)],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for rank, file in enumerate(files)
    ]
    try:
        errors = [process.communicate(timeout=120)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    if any(process.returncode == 77 for process in processes):
        pytest.skip("this torch has no gloo")
    assert [process.returncode for process in processes] == [0, 0], "".join(errors)
    runs = [torch.load(file, weights_only=True) for file in files]
    for first, second in zip(*runs, strict=True):
        assert not torch.equal(first["seen"], second["seen"])
        pairs = zip(first["params"], second["params"], strict=True)
        assert all(torch.equal(p, q) for p, q in pairs)
        assert first["state"].keys() == second["state"].keys() == set(range(6))
        for index, kept in first["state"].items():
            assert int(kept["step"]) == 5
            for key, value in kept.items():
                assert torch.equal(value, second["state"][index][key]), key
