"""What attention kernels share: from products to the levels of softmax, and from contexts to rows.

A score is monotone in its product, so a maximum of products comes first. Then a product becomes its
distance from the maximum in one multiply-add, whose result holds the bits of the float ``49152 -
distance / 256``; the level follows by the machine's own power of two, which is close enough to the
contract's table at every distance (``numerics.softmax.FLOAT_LEVELS``).

In a tile of products a thread holds pairs of neighbouring columns; of the next product's depth it
needs fours. So keys have another order there, in *slots*: sixteen keys ``8 h + 2 m + l`` are slots
``4 m + 2 l + h``, and nothing moves between threads.
"""

from __future__ import annotations

import triton
import triton.language as tl

from transept.host.kernels.arithmetic import high, reciprocal, saturate, wide_round_shift

__all__ = [
    "DISTANCE_BITS",
    "FAR",
    "LEAST_MAXIMUM",
    "NOTHING",
    "column_maxima",
    "context_rows",
    "distances",
    "dither",
    "fours",
    "from_fours",
    "key_of_slot",
    "levels",
    "score",
    "store_row",
]

#: Bits of the float 49152, whose last place is 1 / 256.
DISTANCE_BITS = tl.constexpr(0x47400000)
#: Distance of what is not seen: its level is 0.
FAR = tl.constexpr(1 << 14)
#: Above this, scores below -32767 have level 0 whether they saturate or not.
LEAST_MAXIMUM = tl.constexpr(-29_000)
#: Product of what is not seen.
NOTHING = tl.constexpr(-(1 << 30))
#: Of a level in eighths, by the key's place modulo four, a digit each.
DITHER = tl.constexpr(0x3571)
#: A float whose last place is 1 / 256, less 127: bits 8 to 15 of its sum with a level are the
#: operand.
OPERAND_BASE = tl.constexpr(1.5 * 2**15 - 127)


@triton.jit
def key_of_slot(slot):
    """The key whose operand is in a slot."""
    return (slot & ~15) + (slot & 1) * 8 + ((slot & 12) >> 1) + ((slot & 2) >> 1)


@triton.jit
def fours(slot, BN: tl.constexpr):
    """Slots in the order in which the rows of a tile are loaded, so that a thread, which has every
    ``BN / 4``-th of them, gets four neighbours: bytes of one word once the tile is transposed."""
    return slot % (BN // 4) * 4 + slot // (BN // 4)


@triton.jit
def from_fours(x, BN: tl.constexpr, BD: tl.constexpr):
    """Rows [BN, BD] loaded in the order of ``fours``, in order."""
    return tl.reshape(tl.permute(tl.reshape(x, (4, BN // 4, BD)), (1, 0, 2)), (BN, BD))


@triton.jit
def store_row(ptr, x, BN: tl.constexpr):
    """The first of 64 equal rows [64, BN]; of 32 at once, which need half the shared memory."""
    x, _ = tl.split(tl.permute(tl.reshape(x, (4, 2, 8, BN)), (0, 2, 3, 1)))
    row = tl.arange(0, 32)[:, None]
    place = ptr + row * 0 + tl.arange(0, BN)[None, :]
    tl.store(place, tl.reshape(x, (32, BN)), mask=row == 0)


@triton.jit
def score(
    acc,
    multiplier,
    shift,
    half,
    MERGED: tl.constexpr,
    LEFT: tl.constexpr,
    ROW_SHIFT: tl.constexpr,
    ASM: tl.constexpr,
):
    """Scores of products before they are clipped to 16 bits."""
    if MERGED:
        factor = tl.zeros_like(acc) + multiplier
        found = high(acc << LEFT, factor, tl.zeros_like(acc).to(tl.int64) + half, ASM)
    else:
        v = wide_round_shift(acc.to(tl.int64) * multiplier, shift.to(tl.int64))
        half_row: tl.constexpr = (1 << ROW_SHIFT) >> 1
        z = saturate(((saturate(v, 25) << 15) + half_row) >> ROW_SHIFT, 25)
        found = z.to(tl.int32)
    return found


@triton.jit
def distances(
    acc,
    factor,
    addend,
    multiplier,
    shift,
    base,
    MERGED: tl.constexpr,
    CLIP: tl.constexpr,
    LEFT: tl.constexpr,
    ROW_SHIFT: tl.constexpr,
    ASM: tl.constexpr,
):
    """Bits of the float ``49152 - distance / 256`` for products; base: those of a score of 0 in
    each row; CLIP: scores may saturate, the upper ones at the row's maximum, which does, too."""
    if MERGED:
        bits = high(acc << LEFT, factor, addend, ASM)
    else:
        scores = score(acc, multiplier, shift, 0, False, LEFT, ROW_SHIFT, ASM)
        bits = tl.minimum(tl.maximum(scores, -65536), 65536) + base[:, None]
    if CLIP:
        bits = tl.minimum(tl.maximum(bits, (base - 32767)[:, None]), DISTANCE_BITS)
    return bits


@triton.jit
def dither(first, BN: tl.constexpr, ASM: tl.constexpr):
    """What ``levels`` adds to each of BN keys, from key ``first`` on; float32[1, BN]."""
    place = ((tl.arange(0, BN) & 3) + first) & 3
    eighths = (tl.full((BN,), DITHER, tl.int32) >> (place * 4)) & 7
    added = eighths.to(tl.float32) * 0.125
    if ASM:
        added += OPERAND_BASE
    return added[None, :]


@triton.jit
def levels(bits, added, SCALE: tl.constexpr, ASM: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    """Levels less 127 of distances, int8[BM, BN] in the order of slots, and their sums int32[BM, 4]
    of a quarter of the columns each; added: of ``dither``."""
    power = _by_slots(tl.math.exp2(bits.to(tl.float32, bitcast=True) - 49152.0), BM, BN)
    added = _by_slots(tl.broadcast_to(added, bits.shape), BM, BN)
    if ASM:
        operand, sums = tl.inline_asm_elementwise(
            """{
            .reg .b32 a, b, c, d;
            fma.rz.f32 a, $5, $9, $13;
            fma.rz.f32 b, $6, $10, $14;
            fma.rz.f32 c, $7, $11, $15;
            fma.rz.f32 d, $8, $12, $16;
            prmt.b32 a, a, b, 0x0051;
            prmt.b32 c, c, d, 0x0051;
            prmt.b32 $0, a, c, 0x5410;
            dp4a.s32.s32 $1, $0, 0x01010101, 0;
            mov.b32 $2, 0;
            mov.b32 $3, 0;
            mov.b32 $4, 0;
            }""",
            "=&r,=&r,=&r,=&r,=&r,r,r,r,r,r,r,r,r,r,r,r,r",
            [power, tl.full(power.shape, SCALE, tl.float32), added],
            dtype=(tl.int8, tl.int32),
            is_pure=True,
            pack=4,
        )
    else:
        sums = (power * SCALE + added).to(tl.int32) - 127
        operand = sums.to(tl.int8)
    sums = tl.reshape(tl.permute(sums, (0, 2, 1, 3, 4)), (BM, 4, BN // 4))
    return tl.reshape(operand, (BM, BN)), tl.sum(sums, 2)


@triton.jit
def _by_slots(x, BM: tl.constexpr, BN: tl.constexpr):
    """Columns in the order of slots, [BM, BN / 16, m, l, h]; the last four are of one thread."""
    x = tl.permute(tl.reshape(x, (BM, BN // 16, 2, 4, 2)), (0, 1, 3, 4, 2))
    low, upper = tl.split(x)
    return tl.join(_neighbours(low), _neighbours(upper))


@triton.jit
def _neighbours(x):
    """The same, the last axis within a thread, as what is joined is."""
    left, right = tl.split(x)
    return tl.join(left, right)


@triton.jit
def column_maxima(x, BM: tl.constexpr, BN: tl.constexpr):
    """Maxima of rows over a quarter of the columns each, [BM, 4]: those of one thread."""
    x = tl.permute(tl.reshape(x, (BM, BN // 8, 4, 2)), (0, 2, 1, 3))
    return tl.max(tl.reshape(x, (BM, 4, BN // 4)), 2)


@triton.jit
def context_rows(
    context,
    values,
    sums,
    channel,
    known,
    channels,
    tables_ptr,
    CLIP: tl.constexpr,
    LEFT: tl.constexpr,
    UP: tl.constexpr,
    ROW_SHIFT: tl.constexpr,
    OUT_SHIFT: tl.constexpr,
    ASM: tl.constexpr,
):
    """int16 rows of the output, as int32[m, n].

    context: int32[m, n], sums of (level - 127) v; values: int32[n], 127 times the sums of v, None
    where the context has them; sums: int32[m], of levels; channel: pointers to the multipliers of
    the columns that are known, shifts and biases each ``channels`` further. The rest are of
    ``ContextForm``.
    """
    mantissa, exponent = reciprocal(tables_ptr, sums)
    scale = tl.load(channel, mask=known, other=0)[None, :]
    if values is not None:
        context += values[None, :]
    if CLIP:
        context = saturate(context, 25)
    if LEFT >= 0:
        context <<= LEFT
        rounding = tl.full(context.shape, 1 << 31, tl.int64)
        v = high(context, tl.broadcast_to(scale, context.shape), rounding, ASM)
        if CLIP:
            v = saturate(v, 25)
        y = _divided(v, mantissa, exponent, UP, ROW_SHIFT, OUT_SHIFT, ASM)
    else:
        right = tl.load(channel + channels, mask=known, other=0).to(tl.int64)[None, :]
        bias = tl.load(channel + 2 * channels, mask=known, other=0).to(tl.int64)[None, :]
        v = saturate(wide_round_shift(context.to(tl.int64) * scale, right), 25)
        down = tl.minimum(ROW_SHIFT + exponent, 62).to(tl.int64)[:, None]
        z = saturate(wide_round_shift(v * mantissa[:, None], down), 25)
        half_out: tl.constexpr = (1 << OUT_SHIFT) >> 1
        y = saturate((z + bias + half_out) >> OUT_SHIFT, 16).to(tl.int32)
    return y


@triton.jit
def _divided(
    v,
    mantissa,
    exponent,
    UP: tl.constexpr,
    ROW_SHIFT: tl.constexpr,
    OUT_SHIFT: tl.constexpr,
    ASM: tl.constexpr,
):
    """``v`` by the reciprocal of each row's sum and its two shifts, whose roundings are one."""
    half_out: tl.constexpr = (1 << OUT_SHIFT) >> 1
    down = ROW_SHIFT + exponent
    if UP >= 0:  # every row's multiplier has room for the rest of 32 bits, and so the same rounding
        row = mantissa << (32 - UP - OUT_SHIFT - down)
        rounding: tl.constexpr = (half_out << (32 - OUT_SHIFT)) + (1 << (31 - OUT_SHIFT))
        added = tl.full(v.shape, rounding, tl.int64)
        y = high(v << UP, tl.broadcast_to(row[:, None], v.shape), added, ASM)
    else:
        one = tl.full(down.shape, 1, tl.int64)
        up = tl.maximum(32 - OUT_SHIFT - down, 0)
        right = tl.maximum(down + OUT_SHIFT - 32, 0)
        # mantissas have 17 bits, so that of the shift 14 fit
        part = tl.minimum(up, 14)
        row = tl.broadcast_to((mantissa << part)[:, None], v.shape)
        added = ((one << down) >> 1) + (one * half_out << down) << up
        v = v << (up - part)[:, None]
        y = high(v, row, tl.broadcast_to(added[:, None], v.shape), ASM) >> right[:, None]
    return saturate(y, 16)
