"""From float-scaled int16 rows to int8 operands, and from accumulators back: the linear layer.

Every product is at most signed 25 x 18 bits, so that each is one DSP48E1 slice.
"""

from __future__ import annotations

from dataclasses import dataclass

from transept.golden.numerics.fixed import Array, Saturate, round_shift, saturate, wrap
from transept.golden.numerics.polynomial import reciprocal

__all__ = [
    "ACCUMULATOR_BITS",
    "HALF_BITS",
    "ONE",
    "ROW_MAX_FLOOR",
    "SEGMENTS",
    "ActivationTable",
    "ChannelParameters",
    "activation",
    "join_halves",
    "quantise_halves",
    "quantise_row",
    "quantise_scale",
    "requantise",
]

#: Bits of one accumulator: 4096 products of 127 x 127.
ACCUMULATOR_BITS = 27
#: Row multiplier of static rows (RowScale.ONE).
ONE = 1 << 15
#: Smaller row maxima count as this one: the int8 grid is then at most two int16 steps wide.
ROW_MAX_FLOOR = 256
#: Bits of the lower one of two halves.
HALF_BITS = 7


def quantise_scale(row_max: Array) -> Array:
    """``~ 127 * 2**25 / max(row_max, 256)``, at most 25 bits signed; row_max is taken for 32767 if
    it is greater, for 256 if it is negative."""
    row_max = row_max.clip(ROW_MAX_FLOOR, 32767)
    mantissa, exponent = reciprocal(row_max)
    return round_shift((127 * mantissa) << 1, exponent - 8)


def quantise_row(x: Array, row_max: Array) -> Array:
    """int16 row elements to int8: ``sat8(round(x * 127 / max(row_max, 256)))``.

    x: int16[..., n]; row_max: [...], the maximum magnitude of each row (dynamic quantisation).
    """
    return saturate(round_shift(x * quantise_scale(row_max)[..., None], 25), 8)


def quantise_halves(x: Array, row_max: Array) -> tuple[Array, Array]:
    """int16 row elements to 15 bits, as two int8 operands: high is that of ``quantise_row``, low
    the seven bits behind it, from -64 to 63::

        128 * high + low = floor(x * 127 * 128 / max(row_max, 256))

    Of an element beyond +-127.5 steps of high, low has the bits all the same. Arguments as of
    ``quantise_row``.
    """
    scaled = x * quantise_scale(row_max)[..., None]
    high = saturate(round_shift(scaled, 25), 8)
    return high, wrap(scaled >> (25 - HALF_BITS), HALF_BITS)


def join_halves(high: Array, low: Array) -> Array:
    """The accumulator of rows in halves, from those of either: ``floor((128 * high + low) / 128)``.
    It has the steps of one from ``quantise_row``."""
    return high + (low >> HALF_BITS)


@dataclass(frozen=True)
class ChannelParameters:
    """Per-channel requantisation: multiplier uint16, shift 0..31, bias int24; each int64[n]."""

    multiplier: Array
    shift: Array
    bias: Array


def requantise(
    acc: Array,
    channel: ChannelParameters,
    row_multiplier: Array,
    row_exponent: Array,
    *,
    pre: int,
    row_shift: int,
    out_shift: int,
    bits: int,
    clip: Saturate = saturate,
) -> Array:
    """int32 accumulators to ``bits`` bits: channel multiplier, row multiplier, bias.

    ::

        a = sat25(round(acc / 2**pre))
        v = sat25(round(a * multiplier / 2**shift))
        z = sat25(round(v * row_multiplier / 2**(row_shift + row_exponent)))
        y = sat(round((z + bias) / 2**out_shift))

    acc: int[m, n]; row_multiplier: int[m], 0 to 2**16; row_exponent: int[m], 0 to 23;
    clip: saturates, and may count what it clips (``Clipping``).
    """
    a = clip(round_shift(acc, pre), 25)
    v = clip(round_shift(a * channel.multiplier, channel.shift), 25)
    shift = (row_shift + row_exponent[..., None]).clip(max=62)  # 0 from 44 on; int64 ends at 63
    z = clip(round_shift(v * row_multiplier[..., None], shift), 25)
    return clip(round_shift(z + channel.bias, out_shift), bits)


@dataclass(frozen=True)
class ActivationTable:
    """A loaded piecewise quadratic on int16: 64 segments of ``2**width`` from ``start``.

    c2: int16[64], c1: int24[64], c0: int24[64]. The outer segments extend to +-32767.
    """

    start: int
    width: int
    slope_shift: int
    out_shift: int
    c0: Array
    c1: Array
    c2: Array


SEGMENTS = 64


def activation(x: Array, table: ActivationTable, clip: Saturate = saturate) -> Array:
    """``y = f(x)`` on int16::

    i = clamp((x - start) >> width, 0, 63);  d = x - start - (i << width)
    t = sat25(c1[i] + round(c2[i] * d / 2**slope_shift))
    y = sat16(round((t * d + (c0[i] << 8)) / 2**out_shift))
    """
    offset = x - table.start
    index = (offset >> table.width).clip(0, SEGMENTS - 1)
    d = offset - (index << table.width)
    t = clip(table.c1[index] + round_shift(table.c2[index] * d, table.slope_shift), 25)
    return clip(round_shift(t * d + (table.c0[index] << 8), table.out_shift), 16)
