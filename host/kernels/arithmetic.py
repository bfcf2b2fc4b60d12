"""The contract's arithmetic inside kernels: ``golden.numerics`` in Triton.

Functions take tensors of int32 or int64 as they say; ``ASM`` chooses the machine's own multiply-add
in place of 64-bit arithmetic, which the interpreter needs.
"""

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl

from transept.golden.numerics import tables
from transept.host.kernels import INTERPRETED

__all__ = [
    "ASM",
    "after_those_before",
    "fixed_tables",
    "high",
    "launch_options",
    "quantised",
    "reciprocal",
    "round_shift",
    "row_factors",
    "rsqrt",
    "saturate",
    "wide_round_shift",
]

#: Whether kernels use inline assembly, and what else the interpreter has not.
ASM = not INTERPRETED
#: Up to so many rows a kernel starts while the one before it ends; with more it would only take its
#: place.
FEW_ROWS = 512


@functools.cache
def fixed_tables(device: torch.device) -> torch.Tensor:
    """int32[64, 4]: the rows of RECIPROCAL, then those of RSQRT."""
    rows = [(*row, 0) for row in (*tables.RECIPROCAL, *tables.RSQRT)]
    return torch.tensor(rows, dtype=torch.int32, device=device)


def launch_options(rows: int) -> dict[str, bool]:
    """How a kernel on so many rows is launched."""
    return {} if INTERPRETED else {"launch_pdl": rows <= FEW_ROWS}


@triton.jit
def after_those_before(ASM: tl.constexpr):
    """Wait until what earlier kernels wrote can be read, and let later ones come and wait, too
    (programmatic dependent launch)."""
    if ASM:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()


@triton.jit
def saturate(x, BITS: tl.constexpr):
    """Clamp to ``+-(2**(BITS - 1) - 1)``."""
    limit: tl.constexpr = (1 << (BITS - 1)) - 1
    return tl.minimum(tl.maximum(x, -limit), limit)


@triton.jit
def round_shift(x, SHIFT: tl.constexpr):
    """``floor(x / 2**SHIFT + 1/2)``."""
    half: tl.constexpr = (1 << SHIFT) >> 1
    return (x + half) >> SHIFT


@triton.jit
def wide_round_shift(x, shift):
    """The same of int64 by a tensor of shifts, 0 to 62."""
    one = tl.full((), 1, tl.int64)
    return (x + ((one << shift) >> 1)) >> shift


@triton.jit
def _round_shift(x, shift):
    """The same of int32 by a tensor of shifts, 0 to 30, as long as the sum fits."""
    one = tl.full((), 1, tl.int32)
    return (x + ((one << shift) >> 1)) >> shift


@triton.jit
def high(a, b, c, ASM: tl.constexpr):
    """``(a * b + c) >> 32`` as int32; a, b: int32, c: int64."""
    if ASM:
        return tl.inline_asm_elementwise(
            "{ .reg .u32 low, high, unused; mov.b64 {low, high}, $3; "
            "mad.lo.cc.u32 unused, $1, $2, low; madc.hi.s32 $0, $1, $2, high; }",
            "=r,r,r,l",
            [a, b, c],
            dtype=tl.int32,
            is_pure=True,
            pack=1,
        )
    return ((a.to(tl.int64) * b.to(tl.int64) + c) >> 32).to(tl.int32)


@triton.jit
def _bit_length(x):
    """Bits of a positive int64."""
    length = x * 0 + 1
    for power in tl.static_range(6):
        above = ((x >> (32 >> power)) > 0).to(tl.int64) * (32 >> power)
        length += above
        x = x >> above
    return length


@triton.jit
def _quadratic(rows_ptr, index, position):
    """A segment of a fixed table at ``position`` / 4096 of its width; int32, which holds all."""
    c0 = tl.load(rows_ptr + index * 4)
    c1 = tl.load(rows_ptr + index * 4 + 1)
    c2 = tl.load(rows_ptr + index * 4 + 2)
    slope = c1 + round_shift(c2 * position, 12)
    return c0 + round_shift(slope * position, 18)


@triton.jit
def reciprocal(tables_ptr, n):
    """``numerics.polynomial.reciprocal`` of int32 below 2**24: (mantissa, exponent), which are
    those of a float."""
    bits = tl.maximum(n, 1).to(tl.float32).to(tl.int32, bitcast=True)
    fraction = (bits >> 6) & 0x1FFFF
    mantissa = _quadratic(tables_ptr, fraction >> 12, fraction & 0xFFF)
    return tl.where(n == 0, 0, mantissa), (bits >> 23) - 127


@triton.jit
def row_factors(tables_ptr, largest):
    """Of rows with these largest magnitudes, int32 [m]: the row multipliers, which are within 256
    and 32,767, and factors of ``quantised`` (``numerics.requantise.quantise_row``)."""
    largest = tl.minimum(tl.maximum(largest, 256), 32767)
    mantissa, exponent = reciprocal(tables_ptr, largest)
    scale = _round_shift(127 * mantissa << 1, exponent - 8)
    # scale is below 2**24 (1 + 2**-15), so that 7 bits more fit
    return largest, scale << 7


@triton.jit
def quantised(x, factor, ASM: tl.constexpr):
    """int32 [m, n] as int8, by the factor of each row."""
    factor = tl.broadcast_to(factor[:, None], x.shape)
    return saturate(high(x, factor, tl.full(x.shape, 1 << 31, tl.int64), ASM), 8).to(tl.int8)


@triton.jit
def rsqrt(tables_ptr, v):
    """``numerics.polynomial.rsqrt`` of int64: (mantissa, exponent)."""
    lead = _bit_length(v) - 1
    right, left = tl.maximum(lead - 16, 0), tl.maximum(16 - lead, 0)
    fraction = ((v >> right) << left) & 0xFFFF
    row = (lead & 1) * 16 + (fraction >> 12)
    mantissa = _quadratic(tables_ptr + 128, row.to(tl.int32), (fraction & 0xFFF).to(tl.int32))
    return mantissa.to(tl.int64), lead >> 1
