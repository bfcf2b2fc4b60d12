"""Piecewise quadratics: the arithmetic of every non-linear function in the accelerator.

One segment is two multiply-adds, Horner's rule on a cascade of two DSP slices:
``t = c1 + round(c2 d / 2**s)``, ``y = c0 + round(t d / 2**r)``. The fixed tables (exponential,
reciprocal, reciprocal square root) have 12-bit positions d; the activation table is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence

from transept.golden.numerics import tables
from transept.golden.numerics.fixed import Array, bit_length, round_shift

__all__ = ["GUARD_BITS", "POSITION_BITS", "evaluate", "gather", "reciprocal", "rsqrt"]

POSITION_BITS = 12
GUARD_BITS = 6


def gather(table: Sequence[int], index: Array) -> Array:
    """``table[index]`` for an index array of either library."""
    if isinstance(index, int):
        return table[index]
    if hasattr(index, "new_tensor"):
        return index.new_tensor(list(table))[index]
    import numpy as np

    return np.asarray(table, dtype=np.int64)[index]


def evaluate(rows: Sequence[tuple[int, int, int]], index: Array, position: Array) -> Array:
    """Segment ``index`` of a fixed table at ``position`` / 4096 of its width."""
    c0, c1, c2 = (gather([row[k] for row in rows], index) for k in range(3))
    slope = c1 + round_shift(c2 * position, POSITION_BITS)
    return c0 + round_shift(slope * position, POSITION_BITS + GUARD_BITS)


def reciprocal(n: Array) -> tuple[Array, Array]:
    """``1 / n ~ mantissa * 2**-(16 + exponent)`` for n from 1 to 2**24 - 1.

    mantissa is 2**15 to 2**16, exponent is floor(log2 n); the relative error is below 2**-15 up to
    2**18 - 1 (no row sum is greater) and below 2**-14.9 everywhere. n = 0 gives mantissa 0:
    a row without kept keys becomes zero.
    """
    empty = n == 0
    n = n + empty * 1
    exponent = bit_length(n) - 1
    fraction = ((n << (24 - exponent)) >> 7) & 0x1FFFF  # 17 bits below the leading one
    mantissa = evaluate(tables.RECIPROCAL, fraction >> 12, fraction & 0xFFF)
    return mantissa * (1 - empty * 1), exponent


def rsqrt(v: Array) -> tuple[Array, Array]:
    """``1 / sqrt(v) ~ mantissa * 2**-(16 + exponent)`` for v from 1 to 2**62 - 1.

    mantissa is 2**15 to 2**16, exponent is floor(log2 v) // 2; relative error below 2**-15.
    """
    lead = bit_length(v) - 1
    shift = lead - 16  # 16 bits below the leading one
    fraction = ((v >> shift.clip(0)) << (-shift).clip(0)) & 0xFFFF
    mantissa = evaluate(tables.RSQRT, (lead & 1) * 16 + (fraction >> 12), fraction & 0xFFF)
    return mantissa, lead >> 1
