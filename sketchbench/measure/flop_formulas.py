"""FLOP formulas of products, transforms and scattered sums, by the operation's qualified name.

A multiplication and an addition count as one operation each, on real numbers; on complex ones as
6 and 2 (LAPACK Working Note 41). A formula is called as its operation was, with the result as
`out_val`; it reads shapes, types and layouts, never the data, so that fake tensors do as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sketchbench.protocols import Missing

Formula = Callable[..., int]

FORMULAS: dict[str, Formula] = {}
COMPRESSED = (torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)
TRANSPOSED = 4  # in a convolution's options, after bias or its sizes, stride, padding, dilation


def formula(*names: str) -> Callable[[Formula], Formula]:
    """Make the function the formula of torch's own operations of these names."""

    def add(function: Formula) -> Formula:
        FORMULAS.update({f"aten::{name}": function for name in names})
        return function

    return add


def real_flops(like: Tensor, multiplications: int, additions: int) -> int:
    """Return the operations on real numbers, given those on numbers of `like`'s type."""
    if like.is_complex():
        return 6 * multiplications + 2 * additions
    return multiplications + additions


# ---------------------------------------------------------------- for structured operators


def hadamard_flops(size: int) -> int:
    """Return the N log₂ N additions of a fast Walsh-Hadamard transform of one vector.

    Raises `ValueError` where N is no power of two. [Fino Algazi 1976]
    """
    if size < 1 or size & (size - 1):
        raise ValueError(f"hadamard_flops: {size} is no power of two; pad the vector to one")
    return size * (size.bit_length() - 1)


def kronecker_flops(shapes: Sequence[tuple[int, int]], columns: int = 1) -> int:
    """Return the operations of (A₁ ⊗ … ⊗ Aₖ) X, with X (q₁ ⋯ qₖ, columns), factor by factor.

    `shapes` are the factors' (pᵢ, qᵢ), in the order in which they are applied: for rectangular
    factors the order matters. 2 pᵢ qᵢ for each of the other modes' entries at that time.
    [Golub Van Loan 2013, §12.3]
    """
    entries = math.prod(inner for _, inner in shapes) * columns
    total = 0
    for rows, inner in shapes:
        total += 2 * rows * entries
        entries = entries // inner * rows if inner else 0
    return total


# ---------------------------------------------------------------- products


@formula("mm", "bmm", "mv", "_int_mm", "hspmm", "_sparse_mm_reduce_impl")
def product(a: Tensor, b: Tensor, *_: Any, **__: Any) -> int:
    """2mkn of A (…, m, k) by B (…, k, n), or 2mk by a vector; of a sparse one, what it stores.

    [Golub Van Loan 2013, §1.1.11]. Differs from torch's own formula, which takes a sparse matrix
    for a dense one and a complex number for a real one.
    """
    columns = b.shape[-1] if b.ndim == a.ndim else 1
    if not _sparse(b):
        pairs = _stored(a) * columns
    elif not _sparse(a):
        pairs = _stored(b) * a.shape[-2]
    else:
        raise Missing("the FLOPs of a product of two sparse matrices depend on where they meet")
    return real_flops(a, pairs, pairs)


@formula("addmm", "addmm_", "baddbmm", "baddbmm_", "addbmm", "addbmm_", "addmv", "addmv_")
@formula("_addmm_activation", "_sparse_addmm")
def added_product(_: Tensor, a: Tensor, b: Tensor, *__: Any, **___: Any) -> int:
    """As the product of A and B; the sum with what is there is not counted, as in torch's own."""
    return product(a, b)


@formula("_foreach_mm")
def products(a: Sequence[Tensor], b: Sequence[Tensor], **_: Any) -> int:
    """As many products as there are pairs."""
    return sum(map(product, a, b))


@formula("dot", "vdot")
def inner_product(a: Tensor, _: Tensor, **__: Any) -> int:
    """2n of two vectors (n,). [Golub Van Loan 2013, §1.1.11]"""
    return real_flops(a, a.numel(), a.numel())


@formula("addr", "addr_")
def rank_one_update(_: Tensor, a: Tensor, b: Tensor, **__: Any) -> int:
    """2mn of a vector (m,) by one (n,), added to a matrix. [Golub Van Loan 2013, §1.1.11]"""
    pairs = a.numel() * b.numel()
    return real_flops(a, pairs, pairs)


@formula("sparse_sampled_addmm")
def sampled_product(kept: Tensor, a: Tensor, _: Tensor, **__: Any) -> int:
    """2k for each entry that is stored of A (m, k) by B (k, n)."""
    pairs = _stored(kept) * a.shape[-1]
    return real_flops(a, pairs, pairs)


@formula("convolution", "_convolution", "convolution_overrideable")
def convolution(x: Tensor, weight: Tensor, *options: Any, out_val: Tensor, **_: Any) -> int:
    """2 · batch · places · entries of the weight (out, in / groups, …).

    Places are those of the output, or of the input where the convolution is transposed.
    """
    return _convolved(x if options[TRANSPOSED] else out_val, weight)


@formula("convolution_backward")
def convolution_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, *options: Any, **_: Any
) -> int:
    """Once what the convolution took for each of the gradients by input and by weight.

    Differs from torch's own formula, which forgets the groups in the gradient by the weight.
    """
    by_input, by_weight, _bias = options[-1]
    return (int(by_input) + int(by_weight)) * _convolved(
        x if options[TRANSPOSED] else gradient, weight
    )


@formula("_scaled_dot_product_flash_attention_for_cpu")
def attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    """QKᵀ and its product with V, for (…, heads, tokens, size); masks don't lessen it."""
    pairs = math.prod(query.shape[:-1]) * key.shape[-2]
    return 2 * pairs * (query.shape[-1] + value.shape[-1])


@formula("_scaled_dot_product_flash_attention_for_cpu_backward")
def attention_backward(
    _: Tensor, query: Tensor, key: Tensor, value: Tensor, *__: Any, **___: Any
) -> int:
    """Five products: QKᵀ again, and the gradients by weights, V, Q and K."""
    pairs = math.prod(query.shape[:-1]) * key.shape[-2]
    return 2 * pairs * (3 * query.shape[-1] + 2 * value.shape[-1])


# ---------------------------------------------------------------- transforms


@formula("_fft_c2c")
def complex_transform(x: Tensor, dim: Sequence[int], *_: Any, **__: Any) -> int:
    """5 N log₂ N for each complex transform of N points, over all of `dim` together.

    Exact for Cooley-Tukey of radix 2, a convention for every other size. [Cooley Tukey 1965;
    Frigo Johnson 2005, §VI]
    """
    points = math.prod(x.shape[d] for d in dim)
    return x.numel() * _points_flops(points) // points if points else 0


@formula("_fft_r2c")
def real_transform(x: Tensor, dim: Sequence[int], *_: Any, **__: Any) -> int:
    """Half of the complex transform of as many points. [Frigo Johnson 2005, §VI]"""
    return complex_transform(x, dim) // 2


@formula("_fft_c2r")
def inverse_real_transform(
    _: Tensor, dim: Sequence[int], *__: Any, out_val: Tensor, **___: Any
) -> int:
    """Half of the complex transform of as many points as come out. [Frigo Johnson 2005, §VI]"""
    return complex_transform(out_val, dim) // 2


# ---------------------------------------------------------------- scattered sums


@formula("index_add", "index_add_")
def index_add(
    _: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Any = 1, **__: Any
) -> int:
    """One addition for each entry of the source, and a multiplication where it is scaled."""
    scaled = source.numel() if alpha != 1 else 0
    return real_flops(source, scaled, source.numel())


@formula("scatter_add", "scatter_add_", "scatter_reduce", "scatter_reduce_")
def scatter_add(x: Tensor, dim: int, index: Tensor, *_: Any, **__: Any) -> int:
    """One addition (or other reduction) for each entry of the index."""
    return real_flops(x, 0, index.numel())


@formula("index_reduce", "index_reduce_")
def index_reduce(x: Tensor, dim: int, index: Tensor, source: Tensor, *_: Any, **__: Any) -> int:
    """One reduction for each entry of the source."""
    return real_flops(x, 0, source.numel())


@formula("index_put", "index_put_", "_index_put_impl_", "_unsafe_index_put")
def index_put(
    x: Tensor,
    indices: Sequence[Tensor | None],
    values: Tensor,
    accumulate: bool = False,
    *_: Any,
    **__: Any,
) -> int:
    """One addition for each entry addressed where it accumulates, none where it replaces.

    Under a mask, which only the data could count, as many as there are values.
    """
    if not accumulate:
        return 0
    given = [index for index in indices if index is not None]
    if any(index.dtype in (torch.bool, torch.uint8) for index in given):
        return real_flops(x, 0, values.numel())
    shapes = (index.shape for index in given)
    places = math.prod(torch.broadcast_shapes(*shapes))
    whole = [d for d in range(x.ndim) if d >= len(indices) or indices[d] is None]
    return real_flops(x, 0, places * math.prod(x.shape[d] for d in whole))


@formula("embedding_dense_backward")
def embedding_backward(gradient: Tensor, *_: Any, **__: Any) -> int:
    """One addition for each entry of the gradient."""
    return gradient.numel()


@formula("_embedding_bag", "_embedding_bag_forward_only")
def embedding_bag(weight: Tensor, indices: Tensor, *options: Any, **_: Any) -> int:
    """One addition for each entry that is looked up, and a multiplication where it is weighted."""
    weighted = options[4:5] not in ((), (None,))  # after offsets, scale_grad, mode, sparse
    return (1 + weighted) * indices.numel() * weight.shape[-1]


@formula("_embedding_bag_backward", "_embedding_bag_dense_backward")
def embedding_bag_backward(gradient: Tensor, indices: Tensor, *_: Any, **__: Any) -> int:
    """One addition for each entry that was looked up."""
    return indices.numel() * gradient.shape[-1]


@formula("bincount")
def bincount(_: Tensor, weights: Tensor | None = None, *__: Any, **___: Any) -> int:
    """One addition for each weight; without weights nothing but integers."""
    return 0 if weights is None else weights.numel()


# ---------------------------------------------------------------- counts of entries


def _sparse(x: Tensor) -> bool:
    return x.is_sparse or x.layout in COMPRESSED


def _stored(x: Tensor) -> int:
    if x.is_sparse:
        return x._values().numel()
    if x.layout in COMPRESSED:
        x = x.values()
    return x.numel()


def _convolved(places: Tensor, weight: Tensor) -> int:
    pairs = places.shape[0] * math.prod(places.shape[2:]) * weight.numel()
    return real_flops(weight, pairs, pairs)


def _points_flops(points: int) -> int:
    """5 N log₂ N, exact for powers of two, and rounded for the others."""
    if points & (points - 1) == 0:
        return 5 * points * (points.bit_length() - 1)
    return round(5 * points * math.log2(points))
