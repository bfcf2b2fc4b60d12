"""Arithmetic inside kernels is that of the golden model, for every size of number."""

import numpy as np
import torch
import triton
import triton.language as tl

from transept.golden.numerics import polynomial
from transept.golden.numerics.requantise import quantise_row
from transept.host.kernels import INTERPRETED, arithmetic
from transept.host.kernels.arithmetic import ASM, fixed_tables

DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
SIZE = 1024


@triton.jit
def _reciprocals(n_ptr, mantissa_ptr, exponent_ptr, tables_ptr, SIZE: tl.constexpr):
    place = tl.arange(0, SIZE)
    mantissa, exponent = arithmetic.reciprocal(tables_ptr, tl.load(n_ptr + place))
    tl.store(mantissa_ptr + place, mantissa)
    tl.store(exponent_ptr + place, exponent)


@triton.jit
def _roots(v_ptr, mantissa_ptr, exponent_ptr, tables_ptr, SIZE: tl.constexpr):
    place = tl.arange(0, SIZE)
    mantissa, exponent = arithmetic.rsqrt(tables_ptr, tl.load(v_ptr + place))
    tl.store(mantissa_ptr + place, mantissa)
    tl.store(exponent_ptr + place, exponent)


@triton.jit
def _rows(x_ptr, largest_ptr, q_ptr, tables_ptr, ASM: tl.constexpr, SIZE: tl.constexpr):
    place = tl.arange(0, SIZE)
    largest, factor = arithmetic.row_factors(tables_ptr, tl.load(largest_ptr + place))
    q = arithmetic.quantised(tl.load(x_ptr + place)[:, None], factor, ASM)
    tl.store(largest_ptr + place, largest)
    tl.store(q_ptr + place[:, None], q)


@triton.jit
def _shifts(x_ptr, shift_ptr, y_ptr, z_ptr, ASM: tl.constexpr, SIZE: tl.constexpr):
    place = tl.arange(0, SIZE)
    x, shift = tl.load(x_ptr + place), tl.load(shift_ptr + place)
    tl.store(y_ptr + place, arithmetic.wide_round_shift(x, shift))
    a, b = (x >> 31).to(tl.int32), shift.to(tl.int32) * 33_333_333
    tl.store(z_ptr + place, arithmetic.high(a, b, x, ASM))


def drawn(bits):
    """Numbers of every length up to ``bits``, zero and all ones among them."""
    rng = np.random.default_rng(0)
    lengths = np.arange(SIZE) % (bits + 1)
    found = (rng.random(SIZE) * 2.0**lengths).astype(np.int64)
    found[: bits + 1] = (1 << np.arange(bits + 1)) - 1
    found[bits + 1 : 2 * bits + 1] = 1 << np.arange(bits)
    return found


def empty(kind):
    return torch.empty(SIZE, dtype=kind, device=DEVICE)


def test_reciprocals_and_roots():
    tables = fixed_tables(DEVICE)
    for bits, kernel, golden, kind in (
        (24, _reciprocals, polynomial.reciprocal, torch.int32),
        (62, _roots, polynomial.rsqrt, torch.int64),
    ):
        n = drawn(bits)
        n = n if bits == 24 else n.clip(1)
        found = empty(kind), empty(kind)
        kernel[(1,)](torch.as_tensor(n).to(DEVICE, kind), *found, tables, SIZE=SIZE)
        for x, wanted in zip(found, golden(n), strict=True):
            assert np.array_equal(x.cpu().numpy(), wanted), kernel.__name__


def test_rows_of_any_maximum():
    """Row multipliers are within 256 and 32,767, and so are the numbers of a row that counts."""
    largest = np.concatenate([drawn(17)[: SIZE // 2], np.arange(-2, SIZE // 2 - 2)])
    kept = largest.clip(256, 32767)
    x = np.rint(kept * np.random.default_rng(1).uniform(-1, 1, SIZE)).astype(np.int64)
    x[::7] = kept[::7]
    told = torch.as_tensor(largest).to(DEVICE, torch.int32)
    q = empty(torch.int8)
    _rows[(1,)](
        torch.as_tensor(x).to(DEVICE, torch.int32), told, q, fixed_tables(DEVICE), ASM, SIZE
    )
    assert np.array_equal(told.cpu().numpy(), kept)
    assert np.array_equal(q.cpu().numpy(), quantise_row(x[:, None], kept)[:, 0])


def test_shifts_and_upper_halves():
    rng = np.random.default_rng(2)
    x, shift = rng.integers(-1 << 61, 1 << 61, SIZE), np.arange(SIZE) % 63
    y, z = empty(torch.int64), empty(torch.int32)
    given = (torch.as_tensor(a).to(DEVICE) for a in (x, shift))
    _shifts[(1,)](*given, y, z, ASM, SIZE)
    wanted = [(int(a) + (1 << s >> 1)) >> s for a, s in zip(x, shift.tolist(), strict=True)]
    assert y.tolist() == wanted
    assert z.tolist() == [
        ((int(a) >> 31) * s * 33_333_333 + int(a)) >> 32
        for a, s in zip(x, shift.tolist(), strict=True)
    ]
