"""Rounding and saturation: the two rules that everything else is made of.

All functions take integer arrays (NumPy or torch, int64) or Python integers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transept.golden.numerics.namespaces import array_namespace

__all__ = [
    "Array",
    "Clipping",
    "Saturate",
    "bit_length",
    "integers",
    "product",
    "round_shift",
    "saturate",
    "wrap",
]

#: A NumPy array or a torch tensor of int64. Functions of ``golden.numerics`` accept both.
Array = Any
#: A rule with the arguments and the result of ``saturate``.
Saturate = Callable[[Array, int], Array]


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


class Clipping:
    """A ``Saturate`` that remembers which elements it has changed, at any step of their way.

    ``elements`` is a boolean array of the broadcast shape of all steps; False before the first.
    """

    def __init__(self) -> None:
        self.elements: Array = False

    def __call__(self, x: Array, bits: int) -> Array:
        y = saturate(x, bits)
        self.elements = self.elements | (x != y)
        return y


def wrap(x: Array, bits: int) -> Array:
    """The low ``bits`` of an integer as a signed number: what a register of that width keeps."""
    half = 1 << (bits - 1)
    return ((x + half) & ((1 << bits) - 1)) - half


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
