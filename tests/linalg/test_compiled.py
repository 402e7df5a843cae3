import re
import subprocess
import sys

import pytest
import torch

from sketchbench.linalg import block_fold, compiled, fwht

needs_numba = pytest.mark.skipif(not compiled().used, reason=compiled().reason)


@pytest.fixture
def without_numba(monkeypatch):
    """As where it isn't installed."""
    monkeypatch.setitem(sys.modules, "numba", None)
    compiled.cache_clear()
    yield
    compiled.cache_clear()


def test_all_works_without_numba_and_says_so(without_numba):
    x = torch.ones(2**13)
    torch.testing.assert_close(fwht(fwht(x)), x)
    ones = torch.ones(2**13, dtype=torch.int8)
    folded = block_fold(x, ones, torch.ones(2, 2**12), torch.zeros(16))
    torch.testing.assert_close(folded, 2**7 * (torch.arange(16) == 0).float())
    assert not compiled().used
    assert "pip install 'sketchbench[compiled]'" in compiled().reason
    with pytest.raises(ValueError, match="fwht: the compiled kernel can't be used: .*numba"):
        fwht(x, kernel="compiled")


def test_numba_is_imported_when_it_is_needed_and_not_before():
    script = "import sys, torch; import sketchbench, sketchbench.linalg as room;"
    script += " room.fwht(torch.ones(64)); print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


@needs_numba
def test_what_cannot_run_compiled_says_why():
    for x, said in (
        (torch.ones(64, requires_grad=True), "x is differentiated or mapped"),
        (torch.ones(64, device="meta"), "x is on meta"),
    ):
        with pytest.raises(ValueError, match=f"fwht: the compiled kernel can't be used: {said}"):
            fwht(x, kernel="compiled")


@needs_numba
def test_what_is_used_names_its_version_and_its_vectors():
    assert re.fullmatch(r"Numba \d+\.\d+\S*, vectors of (16|32|64) bytes", compiled().reason)
