import pytest

from sketchbench.linalg import compiled


@pytest.fixture(params=["torch", "compiled"])
def kernel(request):
    """Both kernels; the compiled one where Numba is."""
    if request.param == "compiled" and not compiled().used:
        pytest.skip(f"no compiled kernels: {compiled().reason}")
    return request.param
