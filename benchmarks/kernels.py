"""The transforms that sketches are made of: CPU seconds, and the error against float64."""

from __future__ import annotations

import torch

from benchmarks.timing import least

SIZES = {"2^16": 2**16, "2^20": 2**20}


class _Kernel:
    """A linear map of a Gaussian vector of the size that the parameter tells."""

    timeout = 120.0

    def _vector(self, size: str) -> torch.Tensor:
        torch.set_num_threads(1)
        return torch.randn(SIZES[size], generator=torch.Generator().manual_seed(0))


class WalshHadamard(_Kernel):
    """`fwht` by products with factors and, where numba is, compiled."""

    params = (list(SIZES), ["torch", "compiled"])
    param_names = ("size", "kernel")

    def setup(self, size: str, kernel: str) -> None:
        """Draw what is multiplied; not applicable to a version that lacks the kernel."""
        try:
            from sketchbench.linalg import Workspace, compiled, fwht
        except ImportError as reason:
            raise NotImplementedError(f"this version has none: {reason}") from None
        if kernel == "compiled" and not compiled().used:
            raise NotImplementedError(compiled().reason)
        x, space = self._vector(size), Workspace()
        out = torch.empty_like(x)
        self.exact = fwht(x.double(), kernel="torch")
        self.call = lambda: fwht(x, space, out=out, kernel=kernel)

    def track_cpu_time(self, size: str, kernel: str) -> float:
        """Seconds of one transform."""
        return least(self.call)

    def track_relative_error(self, size: str, kernel: str) -> float:
        """Error of one transform in float32."""
        return float((self.call() - self.exact).norm() / self.exact.norm())

    track_cpu_time.unit = "s"  # type: ignore[attr-defined]
    track_relative_error.unit = "fraction"  # type: ignore[attr-defined]


class Kronecker(_Kernel):
    """`apply_kronecker` of two factors, each with half as many rows as columns."""

    params = (list(SIZES),)
    param_names = ("size",)

    def setup(self, size: str) -> None:
        """Draw what is multiplied; not applicable to a version that lacks the kernel."""
        try:
            from sketchbench.linalg import Workspace, apply_kronecker
        except ImportError as reason:
            raise NotImplementedError(f"this version has none: {reason}") from None
        x, space = self._vector(size), Workspace()
        rng = torch.Generator().manual_seed(1)
        columns = (2**8, SIZES[size] // 2**8)
        factors = [torch.randn(each // 2, each, generator=rng) for each in columns]
        self.exact = apply_kronecker(x.double(), [each.double() for each in factors])
        self.call = lambda: apply_kronecker(x, factors, space)

    def track_cpu_time(self, size: str) -> float:
        """Seconds of one product."""
        return least(self.call)

    def track_relative_error(self, size: str) -> float:
        """Error of one product in float32."""
        return float((self.call() - self.exact).norm() / self.exact.norm())

    track_cpu_time.unit = "s"  # type: ignore[attr-defined]
    track_relative_error.unit = "fraction"  # type: ignore[attr-defined]
