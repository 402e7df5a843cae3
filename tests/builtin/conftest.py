import functools
import os
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
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


class _Adam(Optimizer):
    """Adam, of the tests."""

    name = "test-adam"
    lr: float = Field(1e-3)

    def build(self, params):
        return torch.optim.Adam(list(params), lr=self.lr)


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
def adam():
    return _Adam


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
def server(tmp_path, cache):
    """A folder, and the address at which a server of the test's own gives its files."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{serving.server_address[1]}"
        serving.shutdown()
        thread.join()


def _data(monkeypatch, *names):
    given = os.environ.get("SKETCHBENCH_DATA")
    folder = Path(given) if given else Path(__file__).parents[3] / "shared" / "data"
    lacking = [name for name in names if not (folder / name).is_dir()]
    if lacking:
        pytest.skip(
            f"no {', '.join(lacking)} in {folder}; set SKETCHBENCH_DATA to a folder that holds it"
        )
    monkeypatch.setenv("SKETCHBENCH_DATA", str(folder))
    return folder


@pytest.fixture
def real_data(monkeypatch):
    """The folder with real images, unpacked once into the user's cache."""
    return _data(monkeypatch, "cifar10", "mnist")


@pytest.fixture
def real_text(monkeypatch):
    """The folder with the real text."""
    return _data(monkeypatch, "text")
