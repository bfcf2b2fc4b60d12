"""Sums and products of the elements of two int16 rows: what gated layers and rotary embeddings are
made of."""

from __future__ import annotations

from transept.golden.isa import Operation
from transept.golden.numerics.fixed import Array, Saturate, round_shift, saturate

__all__ = ["ROTARY_SHIFT", "combine", "rotate"]

#: Fractional bits of the cosines and sines of a rotary embedding.
ROTARY_SHIFT = 14


def combine(
    y: Array, x: Array, operation: Operation, *, shift: int, bits: int, clip: Saturate = saturate
) -> Array:
    """``sat(round((y + x) / 2**shift))``, or of ``y * x``.

    y, x: int16 of any shapes that broadcast; shift: 0..15; bits: of the result, 8 or 16; clip:
    saturates, and may count what it clips.
    """
    total = y * x if operation == Operation.PRODUCT else y + x
    return clip(round_shift(total, shift), bits)


def rotate(x: Array, partner: Array, cos: Array, sin: Array, *, shift: int) -> Array:
    """Rotary position embedding (Su et al. 2021) of int16 elements::

        direct = sat16(round(x * cos / 2**14)), crossed = sat16(round(partner * sin / 2**14))
        out = sat8(round((direct + crossed) / 2**shift))

    partner: the other element of each pair; cos, sin: int16 with 14 fractional bits, the sine of a
    pair's first element negative; shift: 0..15.
    """
    product = Operation.PRODUCT
    direct = combine(x, cos, product, shift=ROTARY_SHIFT, bits=16)
    crossed = combine(partner, sin, product, shift=ROTARY_SHIFT, bits=16)
    return combine(direct, crossed, Operation.SUM, shift=shift, bits=8)
