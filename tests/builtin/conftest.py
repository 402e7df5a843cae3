import os
from pathlib import Path

import pytest
import torch

from sketchbench import Field, Optimizer


class _SGD(Optimizer):
    """Plain SGD, of the tests."""

    name = "test-sgd"
    lr: float = Field(0.1)
    momentum: float = Field(0.9)

    def build(self, params):
        return torch.optim.SGD(list(params), lr=self.lr, momentum=self.momentum)


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors and busy machines: threads would only wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def sgd():
    return _SGD


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, no data folder, and no proxy between the test and its own server."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("SKETCHBENCH_CACHE", str(folder))
    monkeypatch.delenv("SKETCHBENCH_DATA", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def real_data(monkeypatch):
    """The folder with real data, unpacked once into the user's cache."""
    given = os.environ.get("SKETCHBENCH_DATA")
    folder = Path(given) if given else Path(__file__).parents[3] / "shared" / "data"
    if not (folder / "cifar10").is_dir() or not (folder / "mnist").is_dir():
        pytest.skip(f"no data in {folder}; set SKETCHBENCH_DATA to a folder that holds it")
    monkeypatch.setenv("SKETCHBENCH_DATA", str(folder))
    return folder
