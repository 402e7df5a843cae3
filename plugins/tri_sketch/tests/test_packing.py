"""Packing keeps what it says, in as few bytes as it says."""

import pytest
import torch
from sketchbench_tri_sketch.packing import pack_bits, pack_rows, unpack_bits, unpack_rows
from torch import Generator


def normal(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (8,), (9, 3), (2, 3, 5), (128, 64)])
def test_booleans_come_back_from_an_eighth_of_their_bytes(shape):
    flags = normal(*shape) > 0
    packed = pack_bits(flags)
    assert packed.dtype == torch.uint8
    assert packed.untyped_storage().nbytes() == -(-flags.numel() // 8)
    assert torch.equal(unpack_bits(packed, flags.shape), flags)


def test_each_byte_comes_back():
    every = torch.arange(256).to(torch.uint8)
    flags = unpack_bits(every, (256, 8))
    assert torch.equal(pack_bits(flags), every)
    assert len({tuple(row) for row in flags.tolist()}) == 256


def test_booleans_that_are_a_view_come_back():
    flags = (normal(16, 24) > 0).T[1::2]
    assert torch.equal(unpack_bits(pack_bits(flags), flags.shape), flags)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_in_eight_bits_are_off_by_half_a_step(dtype):
    rows = normal(50, 33, dtype=dtype) * torch.logspace(-3, 3, 50, dtype=dtype).unsqueeze(1)
    codes, ranges = pack_rows(rows)
    steps = (rows.amax(1) - rows.amin(1)) / 255
    rounding = 8 * torch.finfo(dtype).eps * rows.abs().amax(1)
    off = (unpack_rows(codes, ranges) - rows).abs().amax(1)
    assert codes.dtype == torch.uint8
    assert (off <= steps / 2 + rounding).all()


def test_rows_of_one_value_come_back_as_they_are():
    rows = torch.tensor([[0.0, 0.0], [2.5, 2.5], [-1e30, -1e30]])
    assert torch.equal(unpack_rows(*pack_rows(rows)), rows)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_rows_in_eight_bits_are_off_by_half_a_step(dtype):
    rows = (100 + normal(50, 33)).to(dtype)
    found = unpack_rows(*pack_rows(rows))
    steps = (rows.float().amax(1) - rows.float().amin(1)) / 255
    rounding = 8 * torch.finfo(torch.float32).eps * rows.float().abs().amax(1)
    assert found.dtype == torch.float32
    assert ((found - rows.float()).abs().amax(1) <= steps / 2 + rounding).all()
