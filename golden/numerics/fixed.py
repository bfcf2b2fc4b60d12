"""Rounding and saturation: the two rules that everything else is made of.

All functions take integer arrays (NumPy or torch, int64) or Python integers.
"""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace

__all__ = ["Array", "bit_length", "integers", "product", "round_shift", "saturate"]

#: A NumPy array or a torch tensor of int64. Functions of ``golden.numerics`` accept both.
Array = Any


def round_shift(x: Array, shift: Array) -> Array:
    """``floor(x / 2**shift + 1/2)``: the nearest integer, ties up; ``shift`` >= 0."""
    return (x + ((1 << shift) >> 1)) >> shift


def saturate(x: Array, bits: int) -> Array:
    """Clamp to ``+-(2**(bits-1) - 1)``. The lowest code is never produced: packed products need
    +-127, and -32768 marks a masked score."""
    limit = (1 << (bits - 1)) - 1
    if isinstance(x, int):
        return max(-limit, min(limit, x))
    return x.clip(-limit, limit)


def bit_length(x: Array) -> Array:
    """Bits of a positive integer: ``floor(log2(x)) + 1``; x from 1 to 2**62."""
    length = x * 0
    for step in (32, 16, 8, 4, 2, 1):
        high = (x >> step) > 0
        length = length + step * high
        x = x >> (step * high)
    return length + 1


def integers(x: Array) -> Array:
    """The same values as int64."""
    xp = array_namespace(x)
    return xp.astype(x, xp.int64)


def product(a: Array, b: Array) -> Array:
    """``a @ b`` of int64, exact while every sum stays below 2**53: in float64, which both libraries
    multiply much faster than integers."""
    xp = array_namespace(a)
    return integers(xp.astype(a, xp.float64) @ xp.astype(b, xp.float64))
