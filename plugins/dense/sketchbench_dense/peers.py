"""The CPU projectors of trak and dattri, for side-by-side runs; both packages are optional."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, ClassVar, Literal

import torch
from torch import Generator, Tensor

from sketchbench import Field, GradientSketch, Guarantee, LinearSketch, Skip
from sketchbench.linalg import expect_length, seed_of

ROWS = 100  # of S in a block, the default of both: only one block is held, the others are redrawn


class _Peer(GradientSketch):
    """What the two have in common, which is most of it."""

    package: ClassVar[str]
    module: ClassVar[str]

    out_size: int = Field(256, ge=1, description="D, length of the sketch.")
    entries: Literal["normal", "rademacher"] = Field("normal", description="Entries of S.")

    def build(self, size: int, rng: Generator, device: torch.device) -> LinearSketch:
        """Make the projector; raise `Skip` where its package isn't installed."""
        try:
            projectors = import_module(self.module)
        except ImportError as error:
            raise Skip(
                f"{self.name}: {self.package} can't be imported ({error}); "
                "pip install 'sketchbench-dense[peers]'"
            ) from None
        return self._of(projectors, size, seed_of(rng) % 2**31, device)

    @abstractmethod
    def _of(self, projectors: Any, size: int, seed: int, device: torch.device) -> Projector:
        """Return the package's projector, with its scale."""

    def guarantee(self, size: int) -> Guarantee:
        """Promise κ ≤ 1 of one sketch. Of two, see the class: their seeds may collide."""
        return Guarantee(kappa=1.0)

    def state_bytes(self, size: int) -> int:
        """Return the bytes of a block of S, and of a generator's state a block."""
        blocks = -(-self.out_size // ROWS)
        return 4 * size * min(ROWS, self.out_size) + blocks * len(torch.Generator().get_state())


class TrakBasic(_Peer):
    """`BasicProjector` of trak 0.3.2, a dense matrix. [Park et al. 2023]

    Draws S anew for each product, 100 rows at a time, so that a batch costs little more than one
    vector. Autograd doesn't follow it.
    Differs from trak: 1. Scaled by 1/√D: its own E‖Sx‖² is D·‖x‖². 2. An adjoint, from its blocks,
    and products in float64 with them: its own are in float32.

    Block i is drawn from seed + 1000·i + 100000·model, so blocks of two sketches whose seeds are
    1000 apart are equal, and beyond D = 10,000 those of two models: seeds drawn at random, as here,
    hide that, and it holds for seeds counted in thousands.
    """

    name = "trak-basic"
    package = "trak"
    module = "trak.projectors"

    def _of(self, projectors: Any, size: int, seed: int, device: torch.device) -> Projector:
        kind = projectors.ProjectionType(self.entries)
        made = projectors.BasicProjector(size, self.out_size, seed, kind, device)
        return Projector(made, made.generate_sketch_matrix, (self.out_size, size), scaled=False)


class DattriBasic(_Peer):
    """`BasicProjector` of dattri 0.3.0, a dense matrix. [Deng et al. 2024]

    Draws S anew for each product, 100 rows at a time, so that a batch costs little more than one
    vector. Autograd doesn't follow it.
    Differs from dattri: 1. An adjoint, from its blocks, and products in float64 with them: its own
    are in float32.

    Blocks have the seeds of `trak-basic`, which see.
    """

    name = "dattri-basic"
    package = "dattri"
    module = "dattri.func.projection"

    def _of(self, projectors: Any, size: int, seed: int, device: torch.device) -> Projector:
        kind = projectors.ProjectionType(self.entries)
        made = projectors.BasicProjector(size, self.out_size, seed, kind, device)
        return Projector(made, made._gen_randomness_dense, (self.out_size, size), scaled=True)


class Projector:
    """A peer's projector as a linear sketch S (D, N)."""

    def __init__(
        self, made: Any, draw: Callable[[Tensor], None], shape: tuple[int, int], *, scaled: bool
    ) -> None:
        """Take its method `draw`, which fills its block of S from a generator's state."""
        self.shape = shape
        self._made = made
        self._draw = draw
        self._scale = 1.0 if scaled else shape[0] ** -0.5

    def apply(self, x: Tensor) -> Tensor:
        """Map x (..., N) to Sx (..., D)."""
        expect_length("a peer's projector", x, self.shape[1])
        flat = x.detach().reshape(x.shape[:-1].numel(), self.shape[1])
        if x.dtype == torch.float64:
            parts = [flat @ block.double() for _, block in self._blocks()]
            product = torch.cat(parts, 1) * self.shape[0] ** -0.5
        else:
            product = self._made.project(flat.float(), 0) * self._scale
        return product.reshape(*x.shape[:-1], self.shape[0]).to(x.dtype)

    def adjoint(self, y: Tensor) -> Tensor:
        """Map y (..., D) to Sᵀy (..., N), with the blocks that the projector draws for itself."""
        expect_length("a peer's projector", y, self.shape[0])
        wide = y.detach().to(torch.promote_types(y.dtype, torch.float32)) * self.shape[0] ** -0.5
        product = wide.new_zeros(*y.shape[:-1], self.shape[1])
        for rows, block in self._blocks():
            product += wide[..., rows] @ block.mT.to(wide.dtype)
        return product.to(y.dtype)

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield stretches of rows of S, unscaled, as columns (N, n)."""
        for index, state in enumerate(self._made.generator_states):
            if self._made.num_blocks > 1:
                self._draw(state)
            low = index * self._made.block_size
            high = min(low + self._made.block_size, self.shape[0])
            yield slice(low, high), self._made.proj_matrix[:, : high - low]
