"""Vector instructions for compiled kernels, written as LLVM's: butterflies, signs, products.

Numba's own loops vectorise badly at strides below a vector's width, which cost more than all
others together; here they are shuffles inside of registers.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_FEATURES = llvmlite.binding.get_host_cpu_features()
WIDTH = 64 if _FEATURES.get("avx512f") else 32 if _FEATURES.get("avx") else 16  # bytes of a vector
RADIX = 8  # vectors of a butterfly; 16 are slower by a tenth, for all that memory is passed less


class _Vectors:
    """The memory of an array argument, as vectors."""

    def __init__(self, context: Any, builder: Any, kind: Any, value: Any) -> None:
        self.lanes = _lanes(kind)
        self._builder = builder
        self._data = context.make_array(kind)(context, builder, value).data
        self._type = ir.VectorType(context.get_data_type(kind.dtype), self.lanes)
        self._align = kind.dtype.bitwidth // 8

    def load(self, index: Any, lanes: int | None = None) -> Any:
        kind = ir.VectorType(self._type.element, lanes or self.lanes)
        return self._builder.load(self._at(index, kind), align=self._align, typ=kind)

    def store(self, index: Any, vector: Any) -> None:
        self._builder.store(vector, self._at(index, self._type), align=self._align)

    def _at(self, index: Any, kind: Any) -> Any:
        place = self._builder.gep(self._data, [index])
        return self._builder.bitcast(place, kind.as_pointer())


def _lanes(kind: Any) -> int:
    return WIDTH * 8 // kind.dtype.bitwidth


def _offset(builder: Any, index: Any, stride: Any, step: int) -> Any:
    return builder.add(index, builder.mul(stride, ir.Constant(ir.IntType(64), step)))


def _next(builder: Any, index: Any, step: int) -> Any:
    return builder.add(index, ir.Constant(ir.IntType(64), step))


def _across(builder: Any, vectors: Any) -> Any:
    """Transform between vectors."""
    found, half = list(vectors), 1
    while half < len(found):
        for low in range(len(found)):
            if not low & half:
                a, b = found[low], found[low + half]
                found[low], found[low + half] = builder.fadd(a, b), builder.fsub(a, b)
        half *= 2
    return found


def _within(builder: Any, vector: Any) -> Any:
    """Transform between the lanes of a vector: for each bit ±v + (v with lanes exchanged)."""
    kind, half = vector.type, 1
    nothing = ir.Constant(kind, ir.Undefined)
    exact = {"flags": ["contract"]}  # the product with ±1 is exact, so it may be fused
    while half < kind.count:
        lanes = ir.VectorType(ir.IntType(32), kind.count)
        swap = ir.Constant(lanes, [lane ^ half for lane in range(kind.count)])
        signs = ir.Constant(kind, [-1.0 if lane & half else 1.0 for lane in range(kind.count)])
        swapped = builder.shuffle_vector(vector, nothing, swap)
        vector = builder.fadd(builder.fmul(vector, signs, **exact), swapped, **exact)
        half *= 2
    return vector


def _splat(builder: Any, scalar: Any, lanes: int) -> Any:
    kind = ir.VectorType(scalar.type, lanes)
    nothing = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(nothing, scalar, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(first, nothing, zeros)


def _signed(builder: Any, signs: Any, index: Any, kind: Any) -> Any:
    return builder.sitofp(signs.load(index, kind.count), kind)


def _butterfly(radix: int) -> Any:
    """Return the pass of one radix, of one vector's width: from src[s + i·ss] to dst[d + i·ds]."""

    @intrinsic
    def butterfly(typing: Any, src: Any, s: Any, ss: Any, dst: Any, d: Any, ds: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            source = _Vectors(context, builder, signature.args[0], args[0])
            target = _Vectors(context, builder, signature.args[3], args[3])
            loaded = [source.load(_offset(builder, args[1], args[2], i)) for i in range(radix)]
            for i, vector in enumerate(_across(builder, loaded)):
                target.store(_offset(builder, args[4], args[5], i), vector)
            return context.get_dummy_value()

        index = types.intp
        return types.void(src, index, index, dst, index, index), build

    return butterfly


two, four, eight = (_butterfly(radix) for radix in (2, 4, 8))


def _tile_pass(load_signs: bool, store_signs: bool) -> Any:
    """Return the pass over `RADIX` vectors in a row, times signs before or after, and `scale`."""

    @intrinsic
    def tile_pass(
        typing: Any, src: Any, s: Any, signs: Any, j: Any, dst: Any, d: Any, scale: Any
    ) -> Any:
        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            source = _Vectors(context, builder, signature.args[0], args[0])
            flips = _Vectors(context, builder, signature.args[2], args[2])
            target = _Vectors(context, builder, signature.args[4], args[4])
            lanes, loaded = source.lanes, []
            factor = _splat(builder, args[6], lanes)
            for i in range(RADIX):
                vector = source.load(_next(builder, args[1], i * lanes))
                if load_signs:
                    index = _next(builder, args[3], i * lanes)
                    vector = builder.fmul(vector, _signed(builder, flips, index, vector.type))
                loaded.append(_within(builder, builder.fmul(vector, factor)))
            for i, vector in enumerate(_across(builder, loaded)):
                if store_signs:
                    index = _next(builder, args[3], i * lanes)
                    vector = builder.fmul(vector, _signed(builder, flips, index, vector.type))
                target.store(_next(builder, args[5], i * lanes), vector)
            return context.get_dummy_value()

        index = types.intp
        return types.void(src, index, signs, index, dst, index, dst.dtype), build

    return tile_pass


tile, tile_of_signed, tile_to_signed = (
    _tile_pass(*which) for which in ((False, False), (True, False), (False, True))
)


def _product(adds: bool) -> Any:
    """Return dst[d…] = (dst[d…] +) src[s…]·by[j…] of one vector's width."""

    @intrinsic
    def product(typing: Any, dst: Any, d: Any, src: Any, s: Any, by: Any, j: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            target = _Vectors(context, builder, signature.args[0], args[0])
            source = _Vectors(context, builder, signature.args[2], args[2])
            factors = _Vectors(context, builder, signature.args[4], args[4])
            vector, factor = source.load(args[3]), factors.load(args[5], source.lanes)
            if factor.type != vector.type:
                factor = builder.fpext(factor, vector.type)
            vector = builder.fmul(vector, factor, flags=["contract"])
            if adds:
                vector = builder.fadd(target.load(args[1]), vector, flags=["contract"])
            target.store(args[1], vector)
            return context.get_dummy_value()

        index = types.intp
        return types.void(dst, index, src, index, by, index), build

    return product


multiply, multiply_add = _product(False), _product(True)


def _lanes_of(typing: Any, array: Any) -> Any:
    """Return how many entries of an array a vector holds, a constant."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.get_constant(types.intp, _lanes(signature.args[0]))

    return types.intp(array), build


lanes_of: Any = intrinsic(_lanes_of)
