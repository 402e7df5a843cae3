"""The recipe of AFFD as a sum over blocks: one transform each, and one fold of the vector."""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import model_validator
from torch import Generator

from sketchbench import Field, GradientSketch, Guarantee
from sketchbench.linalg import expect_power_of_two, seed_of
from sketchbench_affd.blocks import BlockSketch, segments

OUT_SIZE = "D, length of the sketch: a power of two."


class BlockAFFD(GradientSketch):
    """y = fold_D(P Σ_b G_b H_M B_b x_b), over blocks x_b of M entries. [Schioppa 2024, eq. 6, B.4]

    B_b are random signs, H_M is the orthonormal Hadamard matrix, G_b a Gaussian diagonal, P a
    random permutation of M entries, and fold_D(z)_c = Σ_k z[c + kD].

    Differs from the paper:
    1. Its second transform is left out. R_D √(M/D) H_M v = H_D fold_D(v), and H_D changes no inner
       product, so one block without P has the Gram matrix of AFFD.
    2. Vectors are cut into blocks and their sketches added, as the paper adds those of shards
       (B.4): nothing of size N is allocated, and only the last block is padded.
    3. P permutes all M entries, once a vector: blocks are added up before they are folded, so it
       costs one gather of M numbers, 4·M bytes of state, and nothing a block. The paper permutes
       inside the Kronecker factors. A fold that isn't permuted is, in law, that of blocks of D
       entries: with p_i = x_i² and ‖x‖ = 1, κ(x) = 1 + 2(Σ_chunks ‖x_chunk‖⁴ − Σ p_i²), up to 3.
       With P it is 1 + 2(D − 1)/(M − 1) · (Σ_b ‖x_b‖⁴ − Σ p_i²): up to 1.13 at M = 16·D.
    4. A vector's last block is transformed at the least order that holds it, and 16·D or M.
    """

    name = "block-affd"
    out_size: int = Field(256, ge=1, description=OUT_SIZE)
    block_size: int = Field(
        2**16, ge=1, description="M, entries of a block: a power of two; D, where that is more."
    )
    permuted: bool = Field(True, description="Permute before folding; else κ may reach 3.")
    regenerate: bool = Field(
        False, description="Draw signs and Gaussians anew for each product; changes no number."
    )
    kernel: Literal["auto", "torch", "compiled"] = Field(
        "auto",
        description="Which transform computes; `sketchbench.linalg.compiled()` says of auto.",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        expect_power_of_two(f"gradient_sketch '{self.name}'", "out_size", self.out_size)
        expect_power_of_two(f"gradient_sketch '{self.name}'", "block_size", self.block_size)
        return self

    def build(self, size: int, rng: Generator, device: torch.device) -> BlockSketch:
        """Draw the seed of S (D, size), and from it all blocks unless they are regenerated."""
        return BlockSketch(
            (self.out_size, size),
            seed_of(rng),
            device,
            block_size=self.block_size,
            permuted=self.permuted,
            regenerate=self.regenerate,
            kernel=self.kernel,
        )

    def guarantee(self, size: int) -> Guarantee:
        """Return the largest κ(x): that of an x which is flat over one block.

        The sketch is Gaussian given B and P, with variances S_c, so that D·Var‖y‖²/2 = D·E Σ S_c².
        Two rows of H_M that share a group of M/D correlate entries i and j of x alone; averaged
        over P, of all pairs a share (D − 1)/(M − 1). Blocks are independent.
        """
        out = self.out_size
        if not self.permuted:
            return Guarantee(3 - 2 / min(out, size))
        return Guarantee(
            max(
                1 + 2 * (out - 1) / max(1, s.order - 1) * (1 - 1 / s.block_length)
                for s in segments(size, out, self.block_size)
            )
        )

    def state_bytes(self, size: int) -> int:
        """Return int8 signs, float32 Gaussians, int32 permutations; these alone if regenerated."""
        parts = segments(size, self.out_size, self.block_size)
        places = sum(4 * part.order for part in parts) if self.permuted else 0
        held = size + sum(4 * part.order * part.blocks for part in parts)
        return places if self.regenerate else places + held
