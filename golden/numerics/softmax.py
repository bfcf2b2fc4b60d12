"""Softmax in base 2 on int16 scores with 8 fractional bits; no result depends on how a row is cut.

Two phases: the maximum of the whole kept row is known before the first exponential is taken, so no
running rescale ever drops bits. Probabilities stay unnormalised, 255 levels; the division is the
row multiplier of the product with V.

Levels are rounded with an ordered dither (Bayer 1973): of four neighbouring keys each rounds up
from another fraction. Where many keys of a row have the same small probability, as in text of one
repeated token, rounding to nearest would lose or double all of them.
"""

from __future__ import annotations

from transept.golden.numerics import tables
from transept.golden.numerics.fixed import Array
from transept.golden.numerics.namespaces import array_namespace, device
from transept.golden.numerics.polynomial import evaluate
from transept.golden.numerics.requantise import ACCUMULATOR_BITS

__all__ = [
    "CONTEXT_KEYS",
    "DITHER",
    "DITHER_BITS",
    "FLOAT_LEVELS",
    "LEVELS",
    "MASKED",
    "OFFSET",
    "exponential",
    "levels",
    "softmax_rows",
]

#: Score of a key that the filter does not keep. ``saturate`` never produces it.
MASKED = -32768
#: Largest probability level; operands are ``level - OFFSET``, in -127..127.
LEVELS = 254
OFFSET = 127
#: Keys of one row whose products of 127 x 127 an accumulator holds.
CONTEXT_KEYS = 1 << (ACCUMULATOR_BITS - 15)
#: The same levels at every distance as ``floor(FLOAT_LEVELS 2**-x + dither)`` with any error of the
#: power below a millionth (``tables.EXP2`` is chosen so).
FLOAT_LEVELS = 254 * (1 + 2.5e-6)
FRACTION_BITS = 9  # of a level in the exponential's own output
#: What is added to a level before its fraction is dropped, in eighths, by ``key % 4``: no two keys
#: of the same parity are neighbours, so that keys which alternate are dithered evenly too.
DITHER = (1, 7, 5, 3)
DITHER_BITS = 3


def exponential(score: Array, maximum: Array) -> tuple[Array, Array]:
    """``254 * 512 * 2**((score - maximum) / 256)`` as (mantissa, right shift), score <= maximum.

    The mantissa is in (65024, 130048]; a quadratic in four segments, largest error 6.0 of 130,048.
    The distance from the maximum has 16 bits: a score above it counts as one far below.
    """
    distance = (maximum - score) & 0xFFFF
    fraction = (distance & 0xFF) << 6  # 2 bits segment, 12 bits position
    return evaluate(tables.EXP2, fraction >> 12, fraction & 0xFFF), distance >> 8


def levels(score: Array, maximum: Array) -> Array:
    """Unnormalised probability levels 0..254 of int16 scores [..., keys]; masked scores give 0.

    ::

        level = floor(254 * 2**((score - maximum) / 256) + DITHER[key % 4] / 8)

    maximum: the largest kept score of the row, broadcastable to ``score``. Parts of a row begin at
    multiples of four keys.
    """
    kept = score != MASKED
    mantissa, octave = exponential(score * kept + maximum * (1 - kept * 1), maximum)
    shift = FRACTION_BITS - DITHER_BITS + octave.clip(0, 20)
    return (((mantissa >> shift) + _dither(score)) >> DITHER_BITS) * kept


def _dither(score: Array) -> Array:
    """What every key of the last axis has added."""
    xp = array_namespace(score)
    keys = score.shape[-1]
    pattern = xp.asarray(DITHER, dtype=score.dtype, device=device(score))
    return xp.tile(pattern, (-(-keys // len(DITHER)),))[:keys]


def softmax_rows(score: Array, maximum: Array) -> tuple[Array, Array]:
    """Operands ``level - 127`` (int8[..., n]) and row sums of levels (int[...]).

    score: int16[..., n], maximum: int16[...].
    """
    level = levels(score, maximum[..., None])
    return level - OFFSET, level.sum(-1)
