"""Reciprocals and reciprocal square roots, looked up in lists that ``numerics.polynomial`` made."""

from __future__ import annotations

import functools

import torch

from transept.golden.numerics.polynomial import reciprocal, rsqrt

__all__ = ["reciprocals", "right_shift", "roots"]

#: Bits of the longest list of reciprocals; greater numbers are computed one by one.
LISTED = 20
#: Bits below the leading one that a reciprocal square root depends on.
ROOT_BITS = 16
#: Bits of a float64 and of its fraction, and what an int64 may lose to fit.
FLOAT_BITS, FRACTION_BITS, DROPPED = 53, 52, 1 << 10
_POWERS = torch.tensor([2.0**-bits for bits in range(64)], dtype=torch.float64)


def right_shift(bits: torch.Tensor) -> torch.Tensor:
    """``2**-bits``, float64 of integers from 0 to 63."""
    return _POWERS[bits]


def reciprocals(n: torch.Tensor, most: int) -> torch.Tensor:
    """``mantissa / 2**exponent`` of ``reciprocal``, float64.

    n: integers of any type from 0 to ``most``.
    """
    places = n.long()
    bits = most.bit_length()
    if bits > LISTED:
        return _reciprocals(places)
    return _list(bits).index_select(0, places.flatten()).view(n.shape)


def roots(v: torch.Tensor) -> torch.Tensor:
    """``mantissa / 2**exponent`` of ``rsqrt``, float64[m] of int64[m] from 1 to 2**62 - 1.

    All that it depends on are the bits of a float64: the power of two of ``v``, biased by 1,023,
    and the first of the fraction. Conversion must not round up, so long numbers lose their ends.
    """
    short = torch.where(v >> FLOAT_BITS > 0, v & -DROPPED, v)
    bits = short.double().view(torch.int64) >> FRACTION_BITS - ROOT_BITS
    mantissa = _roots().index_select(0, bits & (2 << ROOT_BITS) - 1)
    return mantissa * right_shift((bits >> ROOT_BITS + 1) - 511)


@functools.cache
def _list(bits: int) -> torch.Tensor:
    """float64[2**bits]: the reciprocals of all integers of so many bits."""
    return _reciprocals(torch.arange(1 << bits))


def _reciprocals(n: torch.Tensor) -> torch.Tensor:
    mantissa, exponent = reciprocal(n)
    return mantissa * right_shift(exponent)


@functools.cache
def _roots() -> torch.Tensor:
    """float64[2**17]: mantissas of odd powers of two, which are even with their bias, then those of
    even ones. Half an odd power is rounded up with its bias, so the first are twice as large."""
    numbers = torch.arange(1 << ROOT_BITS, 2 << ROOT_BITS)
    odd, even = (rsqrt(numbers << shift)[0].double() for shift in (1, 0))
    return torch.cat([2 * odd, even])
