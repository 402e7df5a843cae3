"""Random signs, normals, permutations and orthogonal matrices, block by block from one seed.

Each block's generator comes from a hash of (seed, method, block), never from a sum of them: two
sketches, or two blocks of one, share no stream. (`RandomMatrix`, for which torch's generator draws,
has 32 bits for that: two matrices of T tiles share one with probability 2T/2³².) All is drawn on
the CPU, so one seed is one sketch on every device.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Generator, Tensor


def seed_of(rng: Generator) -> int:
    """Draw the seed of a sketch, 63 bits."""
    return int(torch.randint(2**63 - 1, (), generator=rng))


def stream(seed: int, method: str, block: int = 0) -> np.random.Generator:
    """Return the generator of one block of a sketch, from all 128 bits of a hash."""
    words = f"{seed}/{method}/{block}".encode()
    digest = hashlib.blake2b(words, digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def signs(rng: np.random.Generator, size: int) -> Tensor:
    """Return random signs ±1 (size,), as int8."""
    drawn = np.frombuffer(rng.bytes(-(-size // 8)), np.uint8)
    bits = np.unpackbits(drawn, count=size).astype(np.int8)
    return _owned(bits * 2 - 1)


def normals(rng: np.random.Generator, *shape: int) -> Tensor:
    """Return independent N(0, 1) numbers (*shape), in float32."""
    return _owned(rng.standard_normal(shape, dtype=np.float32))


def permutation(rng: np.random.Generator, size: int) -> Tensor:
    """Return a random permutation of 0 … size − 1, as int64."""
    return _owned(rng.permutation(size))


def orthogonal(rng: np.random.Generator, size: int, rows: int | None = None) -> Tensor:
    """Return the first `rows` rows of a Haar orthogonal matrix: (rows, size), in float64.

    Q of a Gaussian matrix alone isn't Haar; with the signs of R's diagonal it is. [Mezzadri 2007]
    """
    rows = size if rows is None else rows
    drawn = torch.from_numpy(rng.standard_normal((size, rows)))
    q, r = torch.linalg.qr(drawn)
    haar: Tensor = q * r.diagonal().sign()
    return haar.mT.contiguous()


def _owned(drawn: np.ndarray) -> Tensor:
    """Return a copy in torch's own memory: only what torch allocates is seen, and counted."""
    return torch.from_numpy(drawn).clone()
