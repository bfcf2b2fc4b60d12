"""Attention in two passes over the keys: the maximum of every row, then its levels and context.

Scores of both passes are products of tiles of keys, which are read as they are needed; sequences of
a few hundred keys have a kernel of their own, which holds them (``attention_short``).
"""

from __future__ import annotations

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
    launch_options,
    saturate,
)
from transept.host.kernels.attention_forms import AttentionBlocks, ContextForm, ScoreForm
from transept.host.kernels.attention_short import attend_short, is_short
from transept.host.kernels.softmax import (
    DISTANCE_BITS,
    FAR,
    LEAST_MAXIMUM,
    NOTHING,
    column_maxima,
    context_rows,
    distances,
    dither,
    fours,
    from_fours,
    key_of_slot,
    levels,
    score,
    store_row,
)
from transept.host.kernels.tiles import KeptTiles, threshold_tiles

__all__ = ["AttentionBlocks", "AttentionKernel"]

CAUSAL, WINDOW = tl.constexpr(int(Filter.CAUSAL)), tl.constexpr(int(Filter.WINDOW))


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
    """V of one head and key tile transposed, keys in the order of slots, zero where no key exists,
    and 127 times its sums."""
    after_those_before(ASM)
    tile, head, sequence = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    slot, element = tl.arange(0, BN), tl.arange(0, BD)
    key = tile * BN + key_of_slot(fours(slot, BN))
    keys = tl.load(keys_ptr + sequence)
    start = (sequence.to(tl.int64) * length + key) * stride + head * D
    inside = (key < keys)[:, None] & (element < D)[None, :]
    v = from_fours(tl.load(v_ptr + start[:, None] + element[None, :], mask=inside, other=0), BN, BD)
    place = (sequence * tl.num_programs(1) + head).to(tl.int64)
    to = (place * BD + element)[:, None] * (tiles * BN) + (tile * BN + slot)[None, :]
    tl.store(t_ptr + to, tl.trans(v))
    sums = tl.dot(tl.full((64, BN), 127, tl.int8), v, out_dtype=tl.int32)
    store_row(sums_ptr + (place * tiles + tile) * BD, sums, BD)


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
    CONTEXT_CLIP: tl.constexpr,
    CONTEXT_LEFT: tl.constexpr,
    CONTEXT_UP: tl.constexpr,
    CONTEXT_ROW_SHIFT: tl.constexpr,
    CONTEXT_OUT_SHIFT: tl.constexpr,
    TMA: tl.constexpr,
    LEVEL_SCALE: tl.constexpr,
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

    partial = tl.full((BM, 4), NOTHING, tl.int32)
    for index in range(first, whole):
        tile = index
        if LISTED:
            tile = tl.load(list_ptr + index)
        acc = _products(
            q, k_desc, k_ptr, k_stride, start, tile, column, keys, False, D, BD, BN, TMA
        )
        partial = tl.maximum(partial, column_maxima(acc, BM, BN))
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
            acc = tl.where(seen, acc, NOTHING)
            # what is loaded brings a layout in which quarters of a row are of several threads
            of_rows = tl.max(acc, 1)[:, None] if FINE > 0 else column_maxima(acc, BM, BN)
            partial = tl.maximum(partial, of_rows)

    largest = tl.max(partial, 1)
    largest = tl.where(largest == NOTHING, 0, largest)
    largest = score(largest, multiplier, shift, half, MERGED, LEFT, ROW_SHIFT, ASM)
    base = DISTANCE_BITS - saturate(largest, 16)
    if CLIP:  # a block in which no score that counts saturates needs no care
        safe = (tl.max(largest, 0) <= 32767) & (tl.min(largest, 0) > LEAST_MAXIMUM)
        whole = tl.where(safe, whole, first)
    # rounds a score, takes the maximum away, and makes a float of it
    addend = tl.broadcast_to(((base.to(tl.int64) << 32) + half)[:, None], (BM, BN))
    factor = tl.zeros((BM, BN), tl.int32) + multiplier
    added = dither(0, BN, ASM)

    context = tl.zeros((BM, BE), tl.int32)
    sums = tl.zeros((BM, 4), tl.int32)
    value = tl.arange(0, BE)
    values = tl.zeros((BE,), tl.int32)
    for index in range(first, whole):
        tile = index
        if LISTED:
            tile = tl.load(list_ptr + index)
        acc = _products(
            q, k_desc, k_ptr, k_stride, start, tile, column, keys, False, D, BD, BN, TMA
        )
        bits = distances(
            acc,
            factor,
            addend,
            multiplier,
            shift,
            base,
            MERGED,
            False,
            LEFT,
            ROW_SHIFT,
            ASM,
        )
        p, of_tile = levels(bits, added, LEVEL_SCALE, ASM, BM, BN)
        sums += of_tile
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
            bits = distances(
                acc,
                factor,
                addend,
                multiplier,
                shift,
                base,
                MERGED,
                CLIP,
                LEFT,
                ROW_SHIFT,
                ASM,
            )
            bits = tl.where(seen, bits, DISTANCE_BITS - FAR)
            p, of_tile = levels(bits, added, LEVEL_SCALE, ASM, BM, BN)
            sums += of_tile
            context = tl.dot(
                p, t_desc.load([kv_head * BE, tile * BN]).T, context, out_dtype=tl.int32
            )
            values += tl.load(sums_ptr + tile * BE + value)

    known = value < E
    y = context_rows(
        context,
        values,
        tl.sum(sums, 1) + 127 * BN * tl.maximum(last - first, 0),
        channel_ptr + head * E + value,
        known,
        channels,
        tables_ptr,
        CONTEXT_CLIP,
        CONTEXT_LEFT,
        CONTEXT_UP,
        CONTEXT_ROW_SHIFT,
        CONTEXT_OUT_SHIFT,
        ASM,
    )
    to = (sequence.to(tl.int64) * queries + query) * out_stride + head * E
    mask = (query < queries)[:, None] & known[None, :]
    tl.store(out_ptr + to[:, None] + value[None, :], y.to(tl.int16), mask=mask)


class AttentionKernel:
    """An ``Attention`` with its constants on a device."""

    def __init__(self, op: Attention, device: torch.device) -> None:
        self._op, self._device = op, device
        self._context = ContextForm(op, device)
        self._score_forms: dict[int, ScoreForm] = {}

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
        form, context = self._score_form(q.shape[2] // op.heads), self._context
        if blocks.parts and kept is None and is_short(op, q, k, v, out, form, context):
            attend_short(op, q, k, v, out, keys, form, context, blocks, whole)
            return
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
            form.parameters,
            form.half,
            context.channel,
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
            MERGED=form.merged,
            CLIP=form.clip,
            LEFT=form.left,
            ROW_SHIFT=op.score_row_shift,
            CONTEXT_CLIP=context.clip(length),
            CONTEXT_LEFT=context.left,
            CONTEXT_UP=context.up(length),
            CONTEXT_ROW_SHIFT=op.context_row_shift,
            CONTEXT_OUT_SHIFT=op.context_out_shift,
            TMA=tma,
            LEVEL_SCALE=FLOAT_LEVELS,
            ASM=ASM,
            num_warps=blocks.warps,
            num_stages=blocks.stages,
            **({} if INTERPRETED else {"maxnreg": blocks.registers}),
            **launch_options(batch * queries),
        )

    def _score_form(self, depth: int) -> ScoreForm:
        if depth not in self._score_forms:
            self._score_forms[depth] = ScoreForm.of(self._op, depth, self._device)
        return self._score_forms[depth]
