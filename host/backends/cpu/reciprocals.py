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
#: Of an int64 that float64 holds without its last ten bits.
EXACT_BITS, DROPPED = 53, 1 << 10
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


def roots(v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mantissa, float64, and exponent of ``rsqrt``, of int64[m] from 1 to 2**62 - 1.

    Conversion to float64 must not round up to the next power of two.
    """
    short = torch.where(v >> EXACT_BITS > 0, v & -DROPPED, v)
    fraction, power = torch.frexp(short.double())  # fraction from 1/2 to 1
    lead = power.long() - 1
    place = (fraction * (2 << ROOT_BITS)).long() - (1 << ROOT_BITS)
    return _roots().index_select(0, place + ((lead & 1) << ROOT_BITS)), lead >> 1


@functools.cache
def _list(bits: int) -> torch.Tensor:
    """float64[2**bits]: the reciprocals of all integers of so many bits."""
    return _reciprocals(torch.arange(1 << bits))


def _reciprocals(n: torch.Tensor) -> torch.Tensor:
    mantissa, exponent = reciprocal(n)
    return mantissa * right_shift(exponent)


@functools.cache
def _roots() -> torch.Tensor:
    """float64[2**17]: mantissas of numbers of 17 bits, then those of 18 bits."""
    numbers = torch.arange(1 << ROOT_BITS, 2 << ROOT_BITS)
    return rsqrt(torch.cat([numbers, numbers << 1]))[0].double()
