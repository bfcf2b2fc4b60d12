"""``golden.numerics.requantise`` in float64, whose 53 bits hold every number before a floor.

Where nothing between the last two roundings saturates in a way that can be seen, they are one::

    v = floor(a multiplier / 2**shift + 1/2)
    y = floor((v row / 2**row_shift + bias + half(out_shift) + 1/2) / 2**out_shift)

The first sum has at most 41 bits, and the second one as many as its addend is above the last place
of its product. With a bias of 24 bits, that place must not be too far below: right shifts of a row
are at most 28 together. Without one, the addend is below one; where the last place is more than 52
bits below that, products are under 2**-12, and any rounding of the sum has the floor 0.
"""

from __future__ import annotations

import numpy as np
import torch

from transept.golden.numerics.fixed import Array
from transept.golden.numerics.requantise import ChannelParameters

__all__ = ["LIMIT16", "LIMIT25", "Requantiser", "half"]

LIMIT16, LIMIT25 = (1 << 15) - 1, (1 << 24) - 1
#: Right shifts of a row at which float64 holds the sum with a bias.
FARTHEST = 28


class Requantiser:
    """Accumulators [.., n] to ``bits`` bits.

    largest: magnitude of each channel's accumulators, int64[n]; most: of ``row``; exponent: the
    largest of a row.
    """

    def __init__(
        self,
        channel: ChannelParameters,
        *,
        row_shift: int,
        out_shift: int,
        bits: int,
        largest: Array,
        most: int,
        exponent: int = 0,
    ) -> None:
        self._limit = (1 << bits - 1) - 1
        v = (np.minimum(largest, LIMIT25) * channel.multiplier >> channel.shift) + 1
        z = (np.minimum(v, LIMIT25) * most >> row_shift) + 1
        self._clip_first = bool(np.max(largest) > LIMIT25)
        self._clip_second = bool(v.max() > LIMIT25)
        # where the result saturates as well, nobody sees the third
        lowest = int(np.abs(channel.bias).max()) - LIMIT25 + half(out_shift) >> out_shift
        self._clip_third = bool(z.max() > LIMIT25) and lowest > -self._limit
        near = row_shift + exponent <= FARTHEST or not channel.bias.any()
        self._merged = near and not self._clip_third
        self._multiplier = torch.tensor(channel.multiplier * 2.0**-channel.shift)
        self._halves = torch.full_like(self._multiplier, 0.5)
        self._row, self._out = 2.0**-row_shift, 2.0**-out_shift
        half_row = 0.5 if self._merged else 0
        self._addend = torch.tensor((channel.bias + half(out_shift) + half_row) * self._out)

    def __call__(
        self, acc: torch.Tensor, row: torch.Tensor, channels: slice = slice(None)
    ) -> torch.Tensor:
        """acc: float64[.., m, n], overwritten by the result; row: float64, broadcastable to it, row
        multiplier / 2**(row exponent); channels: those of ``acc``."""
        if self._clip_first:
            acc.clamp_(-LIMIT25, LIMIT25)
        halves, multiplier = self._halves[channels], self._multiplier[channels]
        torch.addcmul(halves, acc, multiplier, out=acc).floor_()
        if self._clip_second:
            acc.clamp_(-LIMIT25, LIMIT25)
        addend = self._addend[channels]
        if self._merged:
            torch.addcmul(addend, acc, row * (self._row * self._out), out=acc)
        else:
            acc.mul_(row * self._row).add_(0.5).floor_().clamp_(-LIMIT25, LIMIT25)
            acc.mul_(self._out).add_(addend)
        return acc.floor_().clamp_(-self._limit, self._limit)


def half(shift: Array) -> Array:
    """What is added before a right shift that rounds."""
    return (1 << shift) >> 1
