"""Attention in two passes over the keys: the maximum of every row, then its levels and context.

A score is monotone in its product, so the first pass is a maximum of products. In the second one a
product becomes its distance from the maximum in one multiply-add, whose result holds the bits of
the float ``49152 - distance / 256``; the level follows by the machine's own power of two, which is
close enough to the contract's table at every distance (``numerics.softmax.FLOAT_LEVELS``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from transept.golden.filters import TileThreshold, Window
from transept.golden.isa import Filter
from transept.golden.numerics.softmax import FLOAT_LEVELS
from transept.golden.ops import Attention
from transept.host.kernels import INTERPRETED
from transept.host.kernels.arithmetic import (
    ASM,
    after_those_before,
    fixed_tables,
    high,
    launch_options,
    reciprocal,
    saturate,
    wide_round_shift,
)
from transept.host.kernels.matmul import left_shift
from transept.host.kernels.tiles import KeptTiles, threshold_tiles

__all__ = ["AttentionBlocks", "AttentionKernel"]

#: Bits of the float 49152, whose last place is 1 / 256.
DISTANCE_BITS = tl.constexpr(0x47400000)
#: A float whose last place is 1, less 127: the low byte of its sum with a level is the operand.
OPERAND_BASE = tl.constexpr(1.5 * 2**23 - 127)
OPERAND_BITS = 0x4B400000 - 127
#: Distance of what is not seen: its level is 0.
FAR = tl.constexpr(1 << 14)
#: Above this, scores below -32767 have level 0 whether they saturate or not.
LEAST_MAXIMUM = tl.constexpr(-29_000)
#: Product of what is not seen.
NOTHING = tl.constexpr(-(1 << 30))
CAUSAL, WINDOW = tl.constexpr(int(Filter.CAUSAL)), tl.constexpr(int(Filter.WINDOW))
LIMIT25 = (1 << 24) - 1


@triton.jit
def _slots(p, BM: tl.constexpr, BN: tl.constexpr):
    """Columns in another order of their sixteens, in which a thread holds of a product's columns
    what it needs of the next one's depth: nothing moves between threads."""
    p = tl.reshape(p, (BM, BN // 16, 2, 4, 2))
    return tl.reshape(tl.permute(p, (0, 1, 3, 2, 4)), (BM, BN))


@triton.jit
def _transpose(
    v_ptr,
    t_ptr,
    sums_ptr,
    keys_ptr,
    length,
    stride,
    tiles,
    D: tl.constexpr,
    BD: tl.constexpr,
    BN: tl.constexpr,
    ASM: tl.constexpr,
):
    """V of one head and key tile transposed, keys in the order of ``_slots``, zero where no key
    exists, and its sums."""
    after_those_before(ASM)
    tile, head, sequence = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    key, element = tile * BN + tl.arange(0, BN), tl.arange(0, BD)
    keys = tl.load(keys_ptr + sequence)
    start = (sequence.to(tl.int64) * length + key) * stride + head * D
    inside = (key < keys)[:, None] & (element < D)[None, :]
    v = tl.load(v_ptr + start[:, None] + element[None, :], mask=inside, other=0)
    place = (sequence * tl.num_programs(1) + head).to(tl.int64)
    to = (place * BD + element)[:, None] * (tiles * BN) + key[None, :]
    tl.store(t_ptr + to, _slots(tl.trans(v), BD, BN))
    tl.store(sums_ptr + (place * tiles + tile) * BD + element, tl.sum(v.to(tl.int32), 0))


@triton.jit
def _products(
    q,
    k_desc,
    k_ptr,
    k_stride,
    first,
    tile,
    column,
    keys,
    MASKED: tl.constexpr,
    D: tl.constexpr,
    BD: tl.constexpr,
    BN: tl.constexpr,
    TMA: tl.constexpr,
):
    """int32 products of a tile of keys; first: row of the first key, column: of the head."""
    if TMA:
        return tl.dot(q, k_desc.load([first + tile * BN, column]).T, out_dtype=tl.int32)
    element, key = tl.arange(0, BD), tile * BN + tl.arange(0, BN)
    place = k_ptr + key.to(tl.int64)[None, :] * k_stride + element[:, None]
    if MASKED:
        k = tl.load(place, mask=(key < keys)[None, :] & (element < D)[:, None], other=0)
    elif D < BD:
        k = tl.load(place, mask=(element < D)[:, None], other=0)
    else:
        k = tl.load(place)
    return tl.dot(q, k, out_dtype=tl.int32)


@triton.jit
def _seen(
    query,
    key,
    queries,
    keys,
    before,
    after,
    fine_ptr,
    fine_columns,
    KIND: tl.constexpr,
    FINE: tl.constexpr,
):
    """Which pairs of a tile the filter keeps; FINE: rows and keys of a block of ``fine_ptr``."""
    seen = (key < keys)[None, :] & (query < queries)[:, None]
    if FINE > 0:
        place = query[:, None] // FINE * fine_columns + key[None, :] // FINE
        seen = seen & (tl.load(fine_ptr + place, mask=seen, other=0) != 0)
    if KIND == CAUSAL:
        seen = seen & (key[None, :] <= query[:, None])
    elif KIND == WINDOW:
        near = (key[None, :] >= query[:, None] - before) & (key[None, :] <= query[:, None] + after)
        seen = seen & near
    return seen


@triton.jit
def _score(
    acc,
    multiplier,
    shift,
    half,
    MERGED: tl.constexpr,
    LEFT: tl.constexpr,
    ROW_SHIFT: tl.constexpr,
    ASM: tl.constexpr,
):
    """Scores before they are clipped to 16 bits."""
    if MERGED:
        factor = tl.zeros_like(acc) + multiplier
        return high(acc << LEFT, factor, tl.zeros_like(acc).to(tl.int64) + half, ASM)
    v = wide_round_shift(acc.to(tl.int64) * multiplier, shift.to(tl.int64))
    half_row: tl.constexpr = (1 << ROW_SHIFT) >> 1
    z = saturate(((saturate(v, 25) << 15) + half_row) >> ROW_SHIFT, 25)
    return z.to(tl.int32)


@triton.jit
def _distances(
    acc,
    factor,
    addend,
    multiplier,
    shift,
    base,
    lowest,
    MERGED: tl.constexpr,
    CLIP: tl.constexpr,
    LEFT: tl.constexpr,
    ROW_SHIFT: tl.constexpr,
    ASM: tl.constexpr,
):
    """Bits of the float ``49152 - distance / 256`` for products; CLIP: scores may saturate, the
    upper ones at the row's maximum, which does, too."""
    if MERGED:
        bits = high(acc << LEFT, factor, addend, ASM)
    else:
        score = _score(acc, multiplier, shift, 0, False, LEFT, ROW_SHIFT, ASM)
        bits = tl.minimum(tl.maximum(score, -65536), 65536) + base[:, None]
    if CLIP:
        bits = tl.minimum(tl.maximum(bits, lowest), DISTANCE_BITS)
    return bits


@triton.jit
def _operands(bits, dither, LEVEL_SCALE: tl.constexpr):
    """int32 whose low byte is the level less 127, the bits of a float."""
    power = tl.math.exp2(bits.to(tl.float32, bitcast=True) - 49152.0)
    level = (power * LEVEL_SCALE + dither) + OPERAND_BASE
    return level.to(tl.int32, bitcast=True)


@triton.jit
def _attention(
    q_ptr,
    k_desc,
    k_ptr,
    t_desc,
    sums_ptr,
    out_ptr,
    keys_ptr,
    score_ptr,
    half_ptr,
    channel_ptr,
    tables_ptr,
    count_ptr,
    list_ptr,
    fine_ptr,
    queries,
    length,
    q_stride,
    k_stride,
    out_stride,
    tiles,
    fine_rows,
    fine_columns,
    channels,
    before,
    after,
    SHARE: tl.constexpr,
    D: tl.constexpr,
    E: tl.constexpr,
    BD: tl.constexpr,
    BE: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    KIND: tl.constexpr,
    LISTED: tl.constexpr,
    FINE: tl.constexpr,
    WHOLE: tl.constexpr,
    MERGED: tl.constexpr,
    CLIP: tl.constexpr,
    LEFT: tl.constexpr,
    ROW_SHIFT: tl.constexpr,
    CONTEXT_LEFT: tl.constexpr,
    CONTEXT_ROW_SHIFT: tl.constexpr,
    CONTEXT_OUT_SHIFT: tl.constexpr,
    TMA: tl.constexpr,
    LEVEL_SCALE: tl.constexpr,
    SUM_BITS: tl.constexpr,
    ASM: tl.constexpr,
):
    after_those_before(ASM)
    block, head, sequence = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    heads = tl.num_programs(1)
    query, element = block * BM + tl.arange(0, BM), tl.arange(0, BD)
    keys = tl.load(keys_ptr + sequence)
    place = (sequence.to(tl.int64) * queries + query) * q_stride + head * D
    inside = (query < queries)[:, None] & (element < D)[None, :]
    q = tl.load(q_ptr + place[:, None] + element[None, :], mask=inside, other=0)
    k_ptr += sequence.to(tl.int64) * length * k_stride + head // SHARE * D
    start, column = sequence * length, head // SHARE * D
    kv_head = sequence * (heads // SHARE) + head // SHARE
    sums_ptr += kv_head.to(tl.int64) * tiles * BE
    multiplier, shift = tl.load(score_ptr + head), tl.load(score_ptr + heads + head)
    half = tl.load(half_ptr + head)
    keys_of_tile = tl.arange(0, BN)
    program = (sequence * heads + head).to(tl.int64)

    # tiles first to whole - 1 need no mask, those from whole to last - 1 do
    first, last = 0, tl.cdiv(keys, BN)
    whole = keys // BN
    if KIND == CAUSAL:
        last = tl.minimum(last, tl.cdiv(block * BM + BM, BN))
        whole = tl.minimum(whole, block * BM // BN)
    elif KIND == WINDOW:
        first = tl.maximum(block * BM - before, 0) // BN
        last = tl.minimum(last, tl.cdiv(block * BM + BM + after, BN))
        whole = first
    if LISTED:
        row = program * tl.num_programs(0) + block
        first, last = 0, tl.load(count_ptr + row)
        list_ptr += row * tiles
        whole = tl.where(keys == tiles * BN, last, 0)
    if FINE > 0:
        whole = first
        fine_ptr += program * fine_rows * fine_columns

    largest = tl.full((BM,), NOTHING, tl.int32)
    for index in range(first, whole):
        tile = index
        if LISTED:
            tile = tl.load(list_ptr + index)
        acc = _products(
            q, k_desc, k_ptr, k_stride, start, tile, column, keys, False, D, BD, BN, TMA
        )
        largest = tl.maximum(largest, tl.max(acc, 1))
    if not WHOLE:
        for index in range(whole, last):
            tile = index
            if LISTED:
                tile = tl.load(list_ptr + index)
            key = tile * BN + keys_of_tile
            acc = _products(
                q, k_desc, k_ptr, k_stride, start, tile, column, keys, True, D, BD, BN, TMA
            )
            seen = _seen(
                query, key, queries, keys, before, after, fine_ptr, fine_columns, KIND, FINE
            )
            largest = tl.maximum(largest, tl.max(tl.where(seen, acc, NOTHING), 1))

    largest = tl.where(largest == NOTHING, 0, largest)
    largest = _score(largest, multiplier, shift, half, MERGED, LEFT, ROW_SHIFT, ASM)
    base = DISTANCE_BITS - saturate(largest, 16)
    lowest = (base - 32767)[:, None]
    if CLIP:  # a block in which no score that counts saturates needs no care
        safe = (tl.max(largest, 0) <= 32767) & (tl.min(largest, 0) > LEAST_MAXIMUM)
        whole = tl.where(safe, whole, first)
    # rounds a score, takes the maximum away, and makes a float of it
    addend = tl.broadcast_to(((base.to(tl.int64) << 32) + half)[:, None], (BM, BN))
    factor = tl.zeros((BM, BN), tl.int32) + multiplier
    # 1, 7, 5, 3 eighths by the key's place modulo four; less one half, because the next sum rounds
    # to the nearest
    place4 = keys_of_tile & 3
    eighths = tl.where(
        place4 == 0, 1.0, tl.where(place4 == 1, 7.0, tl.where(place4 == 2, 5.0, 3.0))
    )
    dither = (eighths * 0.125 - 0.5)[None, :]

    context = tl.zeros((BM, BE), tl.int32)
    sums = tl.zeros((BM,), tl.int32)
    value = tl.arange(0, BE)
    values = tl.zeros((BE,), tl.int32)
    for index in range(first, whole):
        tile = index
        if LISTED:
            tile = tl.load(list_ptr + index)
        acc = _products(
            q, k_desc, k_ptr, k_stride, start, tile, column, keys, False, D, BD, BN, TMA
        )
        bits = _distances(
            acc,
            factor,
            addend,
            multiplier,
            shift,
            base,
            lowest,
            MERGED,
            False,
            LEFT,
            ROW_SHIFT,
            ASM,
        )
        operand = _operands(bits, dither, LEVEL_SCALE)
        sums += tl.sum(operand, 1) - SUM_BITS
        p = _slots(operand.to(tl.int8), BM, BN)
        context = tl.dot(p, t_desc.load([kv_head * BE, tile * BN]).T, context, out_dtype=tl.int32)
        values += tl.load(sums_ptr + tile * BE + value)
    if CLIP or not WHOLE:
        for index in range(whole, last):
            tile = index
            if LISTED:
                tile = tl.load(list_ptr + index)
            key = tile * BN + keys_of_tile
            acc = _products(
                q, k_desc, k_ptr, k_stride, start, tile, column, keys, True, D, BD, BN, TMA
            )
            seen = _seen(
                query, key, queries, keys, before, after, fine_ptr, fine_columns, KIND, FINE
            )
            bits = _distances(
                acc,
                factor,
                addend,
                multiplier,
                shift,
                base,
                lowest,
                MERGED,
                CLIP,
                LEFT,
                ROW_SHIFT,
                ASM,
            )
            operand = _operands(tl.where(seen, bits, DISTANCE_BITS - FAR), dither, LEVEL_SCALE)
            sums += tl.sum(operand, 1) - SUM_BITS
            p = _slots(operand.to(tl.int8), BM, BN)
            context = tl.dot(
                p, t_desc.load([kv_head * BE, tile * BN]).T, context, out_dtype=tl.int32
            )
            values += tl.load(sums_ptr + tile * BE + value)

    context = saturate(context + 127 * values[None, :], 25)
    mantissa, exponent = reciprocal(tables_ptr, sums.to(tl.int64))
    known = value < E
    channel = channel_ptr + head * E + value
    scale = tl.load(channel, mask=known, other=0)[None, :]
    half_out: tl.constexpr = (1 << CONTEXT_OUT_SHIFT) >> 1
    if CONTEXT_LEFT >= 0:  # as of linear layers, with a shift of each row
        rounding = tl.zeros((BM, BE), tl.int64) + (1 << 31)
        factor = tl.broadcast_to(scale, (BM, BE))
        v = saturate(high(context << CONTEXT_LEFT, factor, rounding, ASM), 25)
        down = CONTEXT_ROW_SHIFT + exponent
        one = tl.full((BM,), 1, tl.int64)
        added = ((one << down) >> 1) + (one * half_out << down)
        up = tl.maximum(32 - CONTEXT_OUT_SHIFT - down, 0)
        right = tl.maximum(down + CONTEXT_OUT_SHIFT - 32, 0).to(tl.int32)
        # mantissas have 17 bits, so that of the shift 14 fit
        part = tl.minimum(up, 14)
        row = tl.broadcast_to((mantissa << part).to(tl.int32)[:, None], (BM, BE))
        v = v << (up - part).to(tl.int32)[:, None]
        y = high(v, row, tl.broadcast_to((added << up)[:, None], (BM, BE)), ASM)
        y = saturate(y >> right[:, None], 16)
    else:
        right = tl.load(channel + channels, mask=known, other=0).to(tl.int64)[None, :]
        bias = tl.load(channel + 2 * channels, mask=known, other=0).to(tl.int64)[None, :]
        v = saturate(wide_round_shift(context.to(tl.int64) * scale, right), 25)
        down = tl.minimum(CONTEXT_ROW_SHIFT + exponent, 62)[:, None]
        z = saturate(wide_round_shift(v * mantissa[:, None], down), 25)
        y = saturate((z + bias + half_out) >> CONTEXT_OUT_SHIFT, 16).to(tl.int32)
    to = (sequence.to(tl.int64) * queries + query) * out_stride + head * E
    mask = (query < queries)[:, None] & known[None, :]
    tl.store(out_ptr + to[:, None] + value[None, :], y.to(tl.int16), mask=mask)


@dataclass(frozen=True)
class AttentionBlocks:
    """Queries and keys of a program's tile, and how it runs; registers: of a thread at most, as
    many as there are by default."""

    m: int = 128
    n: int = 128
    warps: int = 4
    stages: int = 3
    registers: int | None = None


class AttentionKernel:
    """An ``Attention`` with its constants on a device."""

    def __init__(self, op: Attention, device: torch.device) -> None:
        self._op, self._device = op, device
        self._depth = 0
        self._channel, self._context_left = self._context()
        self._forms: dict[int, tuple] = {}

    def __call__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        out: torch.Tensor,
        keys: torch.Tensor,
        kept: KeptTiles | None = None,
        blocks: AttentionBlocks | None = None,
        whole: bool = False,
    ) -> None:
        """q: int8[batch, queries, heads * d], k, v: int8[batch, length, ..], out: int16[batch,
        queries, heads * e], rows of any stride; keys: int32[batch], real ones of each sequence;
        kept: in place of what the filter keeps; whole: every sequence has all ``length`` keys."""
        op, blocks = self._op, blocks or AttentionBlocks()
        batch, queries = q.shape[:2]
        length = k.shape[1]
        d, e = q.shape[2] // op.heads, v.shape[2] // op.kv_heads
        bd, be = max(32, triton.next_power_of_2(d)), max(16, triton.next_power_of_2(e))
        tiles = triton.cdiv(length, blocks.n)
        turned = torch.empty(
            batch, op.kv_heads, be, tiles * blocks.n, dtype=torch.int8, device=q.device
        )
        sums = torch.empty(batch, op.kv_heads, tiles, be, dtype=torch.int32, device=q.device)
        _transpose[tiles, op.kv_heads, batch](
            v,
            turned,
            sums,
            keys,
            length,
            v.stride(1),
            tiles,
            D=e,
            BD=be,
            BN=blocks.n,
            ASM=ASM,
            **launch_options(batch * queries),
        )
        if kept is None and isinstance(op.filter, TileThreshold):
            kept = threshold_tiles(op, q, k, keys, blocks.m, blocks.n)
        fine = kept.fine if kept else None
        merged, clip, left, score, half = self._form(d)
        plain = fine is None and op.filter.kind == Filter.DENSE
        window = op.filter if isinstance(op.filter, Window) else None
        unused = keys
        rows = k.view(-1, k.shape[2])
        tma = d == bd and d % 16 == 0 and k.stride(1) % 16 == 0
        box = [blocks.n, bd] if tma else [blocks.n, 16]
        _attention[triton.cdiv(queries, blocks.m), op.heads, batch](
            q,
            TensorDescriptor.from_tensor(rows if tma else turned.view(-1, turned.shape[3]), box),
            k,
            TensorDescriptor.from_tensor(turned.view(-1, turned.shape[3]), [be, blocks.n]),
            sums,
            out,
            keys,
            score,
            half,
            self._channel,
            fixed_tables(q.device),
            unused if kept is None else kept.count,
            unused if kept is None else kept.tiles,
            unused if fine is None else fine,
            queries,
            length,
            q.stride(1),
            k.stride(1),
            out.stride(1),
            tiles,
            0 if fine is None else fine.shape[2],
            0 if fine is None else fine.shape[3],
            op.heads * e,
            window.before if window else 0,
            window.after if window else 0,
            SHARE=op.heads // op.kv_heads,
            D=d,
            E=e,
            BD=bd,
            BE=be,
            BM=blocks.m,
            BN=blocks.n,
            KIND=int(op.filter.kind),
            LISTED=kept is not None,
            WHOLE=whole and length % blocks.n == 0 and plain,
            FINE=0 if fine is None or kept is None else kept.block,
            MERGED=merged,
            CLIP=clip,
            LEFT=left,
            ROW_SHIFT=op.score_row_shift,
            CONTEXT_LEFT=self._context_left,
            CONTEXT_ROW_SHIFT=op.context_row_shift,
            CONTEXT_OUT_SHIFT=op.context_out_shift,
            TMA=tma,
            LEVEL_SCALE=FLOAT_LEVELS,
            SUM_BITS=(blocks.n * OPERAND_BITS + (1 << 31)) % (1 << 32) - (1 << 31),
            ASM=ASM,
            num_warps=blocks.warps,
            num_stages=blocks.stages,
            **({} if INTERPRETED else {"maxnreg": blocks.registers}),
            **launch_options(batch * queries),
        )

    def _context(self) -> tuple[torch.Tensor, int]:
        """Multipliers, shifts and biases of the context [3, heads * e], and the bits by which it is
        shifted first if two roundings are one; -1 if they are not."""
        op, channel = self._op, self._op.context
        multiplier, shift = channel.multiplier, channel.shift
        left = left_shift(multiplier, shift, LIMIT25)
        # a row's largest level is 254, so the exponent of its sum is at least 7
        short = 7 + op.context_row_shift + op.context_out_shift < 32 - 14 - 6
        long = op.context_row_shift + 23 > 38
        hidden = LIMIT25 >> op.context_out_shift >= 32767
        fits = hidden and not (short or long or channel.bias.any())
        if left is None or not fits:
            left = -1
        else:
            multiplier = multiplier << (32 - shift - left)
        constants = torch.as_tensor(np.stack([multiplier, shift, channel.bias]))
        return constants.to(self._device, torch.int32), left

    def _form(self, depth: int) -> tuple[bool, bool, int, torch.Tensor, torch.Tensor]:
        """(whether the two roundings of a score are one, whether it may be clipped, bits that a
        product is shifted by, multipliers and shifts [2, heads], rounding [heads])."""
        if depth not in self._forms:
            self._forms[depth] = self._find_form(depth)
        return self._forms[depth]

    def _find_form(self, depth: int) -> tuple[bool, bool, int, torch.Tensor, torch.Tensor]:
        op = self._op
        multiplier, shift = op.score_multiplier, op.score_shift
        later = op.score_row_shift - 15  # the row multiplier of scores is 2**15
        largest = depth * 127 * 127
        total = shift + later
        left = left_shift(multiplier, total, largest)
        v = (largest * multiplier >> shift) + 1
        fits, clip = later >= 0 and left is not None and v.max() <= LIMIT25, True
        half = np.zeros_like(shift)
        if left is not None and fits:
            clip = bool(((v >> later) + 1).max() > 32767)
            half = ((1 << shift) >> 1) + (((1 << later) >> 1) << shift) << (32 - total)
            multiplier = multiplier << (32 - total - left)
        constants = torch.as_tensor(np.stack([multiplier, shift])).to(self._device, torch.int32)
        return bool(fits), clip, left or 0, constants, torch.as_tensor(half).to(self._device)
