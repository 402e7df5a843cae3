"""A symmetric matrix seen through a gradient sketch: v -> S(A(Sᵀv)), of D entries instead of N."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from sketchbench import LinearSketch
    from sketchbench.curvature.operators import Product


class Sketched:
    """SASᵀ (D, D) for a sketch S (D, N) of products with a symmetric A (N, N).

    Symmetric as A is, with the trace of A on average. Its spectrum isn't quite A's: eigenvalues
    that are small beside ‖A‖_F/√D are moved by about as much, and a bulk of one sign moves all by
    its trace over D. It has no more negative eigenvalues than A, and no more positive ones.
    [arXiv 2402.03994, §3]
    """

    def __init__(self, product: Product, sketch: LinearSketch) -> None:
        self._product = product
        self._sketch = sketch
        self.size: int = sketch.shape[0]

    def __call__(self, vector: Tensor) -> Tensor:
        """Return the product with a vector (D,)."""
        lifted = self._sketch.adjoint(vector)
        return self._sketch.apply(self._product(lifted))
