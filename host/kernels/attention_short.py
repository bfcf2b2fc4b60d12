"""Attention over a few hundred keys: a program holds all keys and values of a head.

They are read once, for many blocks of queries, and every tile of them is a step of straight code.
Where a sequence has fewer keys than rows, its first tile takes what is left of whole ones, so that
it alone has places without a key: there the last key before them stands in, which changes no
maximum, and neither sums of levels nor values count them.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

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
from transept.host.kernels.softmax import (
    DISTANCE_BITS,
    LEAST_MAXIMUM,
    column_maxima,
    context_rows,
    distances,
    dither,
    key_of_slot,
    levels,
    score,
    store_row,
)

__all__ = ["attend_short", "is_short"]

#: Most keys of a sequence, and the widths of a head.
MOST_KEYS, WIDTHS = 512, (32, 64, 128)
#: Equal columns of the product that sums levels of keys that exist.
COUNTERS = tl.constexpr(16)


@triton.jit
def _places(order, rest, TILE: tl.constexpr, WHOLE: tl.constexpr, BN: tl.constexpr):
    """Keys of a tile in an order of its places; the first tile has ``rest`` keys."""
    if WHOLE or TILE == 0:
        order += TILE * BN
    else:
        order += rest + (TILE - 1) * BN
    return order


@triton.jit
def _keys(
    ptr,
    stride,
    rest,
    keys,
    TILE: tl.constexpr,
    WHOLE: tl.constexpr,
    D: tl.constexpr,
    BN: tl.constexpr,
):
    """int8[BN, D], a tile of keys."""
    key = _places(tl.arange(0, BN), rest, TILE, WHOLE, BN)
    if not WHOLE:
        key = tl.maximum(tl.minimum(key, (rest if TILE == 0 else keys) - 1), 0)
    return tl.load(ptr + (key * stride)[:, None] + tl.arange(0, D)[None, :])


@triton.jit
def _values(
    ptr,
    stride,
    rest,
    keys,
    TILE: tl.constexpr,
    WHOLE: tl.constexpr,
    E: tl.constexpr,
    BN: tl.constexpr,
):
    """int8[BN, E], a tile of values in the order of slots, zero where no key exists; ptr: to words
    of four values, so that a thread gets four by four of them, and keeps them."""
    first = _bytes(_words(ptr, stride, rest, keys, 0, TILE, WHOLE, E, BN))
    second = _bytes(_words(ptr, stride, rest, keys, 1, TILE, WHOLE, E, BN))
    third = _bytes(_words(ptr, stride, rest, keys, 2, TILE, WHOLE, E, BN))
    fourth = _bytes(_words(ptr, stride, rest, keys, 3, TILE, WHOLE, E, BN))
    v = tl.join(tl.join(first, third), tl.join(second, fourth))
    v = tl.permute(tl.reshape(v, (BN // 4, E // 4, 4, 4)), (0, 3, 1, 2))
    return tl.reshape(v, (BN, E))


@triton.jit
def _words(
    ptr,
    stride,
    rest,
    keys,
    SLOT: tl.constexpr,
    TILE: tl.constexpr,
    WHOLE: tl.constexpr,
    E: tl.constexpr,
    BN: tl.constexpr,
):
    """int32[BN / 4, E / 4], values of every fourth slot from ``SLOT`` on."""
    key = _places(key_of_slot(4 * tl.arange(0, BN // 4) + SLOT), rest, TILE, WHOLE, BN)
    place = ptr + (key * stride)[:, None] + tl.arange(0, E // 4)[None, :]
    if WHOLE:
        words = tl.load(place)
    else:
        words = tl.load(place, mask=(key < (rest if TILE == 0 else keys))[:, None], other=0)
    return words


@triton.jit
def _bytes(x):
    """int32[m, n] as int8[m, n, 2, 2]."""
    even = tl.join(x.to(tl.int8), (x >> 16).to(tl.int8))
    return tl.join(even, tl.join((x >> 8).to(tl.int8), (x >> 24).to(tl.int8)))


@triton.jit
def _rows(ptr, stride, first, queries, BM: tl.constexpr, D: tl.constexpr):
    """int32[BM, D / 4], queries from ``first`` on; ptr: to words of four elements."""
    row = first + tl.arange(0, BM)
    place = ptr + (row * stride)[:, None] + tl.arange(0, D // 4)[None, :]
    return tl.load(place, mask=(row < queries)[:, None], other=0)


@triton.jit
def _queries(words, PASS: tl.constexpr, ASM: tl.constexpr):
    """int8[BM, D] of words, in registers. The compiler does not know that another pass has the
    same: it would keep the first one's products, for which there is no room."""
    x = tl.reshape(_bytes(words), (words.shape[0], 4 * words.shape[1]))
    if ASM:
        if PASS == 1:
            x = tl.inline_asm_elementwise("mov.b32 $0, $1; // 1", "=r,r", [x], tl.int8, True, 4)
        else:
            x = tl.inline_asm_elementwise("mov.b32 $0, $1; // 2", "=r,r", [x], tl.int8, True, 4)
    return x


@triton.jit
def _context(
    q,
    k,
    v,
    values,
    counters,
    tiles,
    multiplier,
    half,
    base,
    added,
    WHOLE: tl.constexpr,
    CLIP: tl.constexpr,
    LEFT: tl.constexpr,
    SCALE: tl.constexpr,
    ASM: tl.constexpr,
):
    """Sums of (level - 127) v beside ``values``, int32[BM, E], and of level - 127, int32[BM];
    added: what ``levels`` adds in the first tile, and in others."""
    BM: tl.constexpr = q.shape[0]
    BN: tl.constexpr = k[0].shape[0]
    # rounds a score, takes the maximum away, and makes a float of it
    addend = tl.broadcast_to(((base.to(tl.int64) << 32) + half)[:, None], (BM, BN))
    factor = tl.zeros((BM, BN), tl.int32) + multiplier
    p, sums = _levels(q, k[0], factor, addend, base, added[0], CLIP, LEFT, SCALE, ASM)
    counted = tl.zeros((BM,), tl.int32)
    if not WHOLE:
        sums = tl.zeros((BM, 4), tl.int32)
        counted = tl.max(tl.dot(p, counters, out_dtype=tl.int32), 1)
    context = tl.dot(p, v[0], values, out_dtype=tl.int32)
    for tile in tl.static_range(1, len(k)):
        if tile < tiles:
            p, of_tile = _levels(q, k[tile], factor, addend, base, added[1], CLIP, LEFT, SCALE, ASM)
            sums += of_tile
            context = tl.dot(p, v[tile], context, out_dtype=tl.int32)
    return context, tl.sum(sums, 1) + counted


@triton.jit
def _levels(
    q,
    k,
    factor,
    addend,
    base,
    added,
    CLIP: tl.constexpr,
    LEFT: tl.constexpr,
    SCALE: tl.constexpr,
    ASM: tl.constexpr,
):
    """Levels less 127 of a tile of keys, and their sums, as ``levels`` gives them."""
    acc = tl.dot(q, k.T, out_dtype=tl.int32)
    bits = distances(acc, factor, addend, 0, 0, base, True, CLIP, LEFT, 0, ASM)
    return levels(bits, added, SCALE, ASM, q.shape[0], k.shape[0])


@triton.jit
def _short(
    q_ptr,
    k_ptr,
    v_ptr,
    sums_ptr,
    out_ptr,
    keys_ptr,
    score_ptr,
    half_ptr,
    channel_ptr,
    tables_ptr,
    queries,
    length,
    q_stride,
    k_stride,
    v_stride,
    out_stride,
    blocks,
    SHARE: tl.constexpr,
    D: tl.constexpr,
    E: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    TILES: tl.constexpr,
    WHOLE: tl.constexpr,
    CLIP: tl.constexpr,
    LEFT: tl.constexpr,
    CONTEXT_CLIP: tl.constexpr,
    CONTEXT_LEFT: tl.constexpr,
    CONTEXT_UP: tl.constexpr,
    CONTEXT_ROW_SHIFT: tl.constexpr,
    CONTEXT_OUT_SHIFT: tl.constexpr,
    SCALE: tl.constexpr,
    ASM: tl.constexpr,
):
    after_those_before(ASM)
    part, head, sequence = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    heads = tl.num_programs(1)
    keys = tl.load(keys_ptr + sequence)
    tiles = tl.maximum(tl.cdiv(keys, BN), 1)
    rest = keys - (tiles - 1) * BN
    q_ptr += sequence.to(tl.int64) * queries * q_stride + head * (D // 4)
    k_ptr += sequence.to(tl.int64) * length * k_stride + head // SHARE * D
    v_ptr += sequence.to(tl.int64) * length * v_stride + head // SHARE * (E // 4)
    counters = (key_of_slot(tl.arange(0, BN)) < rest).to(tl.int8)[:, None]
    counters = tl.broadcast_to(counters, (BN, COUNTERS))
    k = (_keys(k_ptr, k_stride, rest, keys, 0, WHOLE, D, BN),)
    v = (_values(v_ptr, v_stride, rest, keys, 0, WHOLE, E, BN),)
    for tile in tl.static_range(1, TILES):
        k += (_keys(k_ptr, k_stride, rest, keys, tile, WHOLE, D, BN),)
        v += (_values(v_ptr, v_stride, rest, keys, tile, WHOLE, E, BN),)
    # rows of 127 times the sums of V, for which there is no room in registers
    totals = tl.zeros((64, E), tl.int32)
    for tile in tl.static_range(TILES):
        totals = tl.dot(tl.full((64, BN), 127, tl.int8), v[tile], totals, out_dtype=tl.int32)
    value = tl.arange(0, E)
    sums_ptr += ((sequence * heads + head) * tl.num_programs(0) + part).to(tl.int64) * E
    store_row(sums_ptr, totals, E)
    tl.debug_barrier()

    multiplier, half = tl.load(score_ptr + head), tl.load(half_ptr + head)
    added = (dither(0, BN, ASM), dither(0 if WHOLE else rest, BN, ASM))
    start = part * blocks
    following = _rows(q_ptr, q_stride, start * BM, queries, BM, D)
    for block in range(start, tl.minimum(start + blocks, tl.cdiv(queries, BM))):
        words = following
        following = _rows(q_ptr, q_stride, block * BM + BM, queries, BM, D)
        q = _queries(words, 1, ASM)
        partial = column_maxima(tl.dot(q, k[0].T, out_dtype=tl.int32), BM, BN)
        for tile in tl.static_range(1, TILES):
            if tile < tiles:
                acc = tl.dot(q, k[tile].T, out_dtype=tl.int32)
                partial = tl.maximum(partial, column_maxima(acc, BM, BN))
        largest = score(tl.max(partial, 1), multiplier, 0, half, True, LEFT, 0, ASM)
        base = DISTANCE_BITS - saturate(largest, 16)
        q = _queries(words, 2, ASM)
        values = tl.broadcast_to(tl.load(sums_ptr + value)[None, :], (BM, E))
        if _is_safe(largest, CLIP):
            context, sums = _context(
                q,
                k,
                v,
                values,
                counters,
                tiles,
                multiplier,
                half,
                base,
                added,
                WHOLE,
                False,
                LEFT,
                SCALE,
                ASM,
            )
        else:
            context, sums = _context(
                q,
                k,
                v,
                values,
                counters,
                tiles,
                multiplier,
                half,
                base,
                added,
                WHOLE,
                True,
                LEFT,
                SCALE,
                ASM,
            )
        y = context_rows(
            context,
            None,
            sums + 127 * keys,
            channel_ptr + head * E + value,
            value < E,
            0,
            tables_ptr,
            CONTEXT_CLIP,
            CONTEXT_LEFT,
            CONTEXT_UP,
            CONTEXT_ROW_SHIFT,
            CONTEXT_OUT_SHIFT,
            ASM,
        )
        row = block * BM + tl.arange(0, BM)
        place = out_ptr + (sequence * queries + row).to(tl.int64) * out_stride + head * E
        _store(place, row < queries, y, BM, E, ASM)


@triton.jit
def _store(ptr, inside, y, BM: tl.constexpr, E: tl.constexpr, ASM: tl.constexpr):
    """int16 rows from where a product left them, two neighbours at once; another order would take
    shared memory, in which keys and values leave no room."""
    left, right = tl.split(tl.reshape(y, (BM, E // 2, 2)))
    place = ptr[:, None] + 2 * tl.arange(0, E // 2)[None, :]
    inside = tl.broadcast_to(inside[:, None], (BM, E // 2))
    if ASM:
        tl.inline_asm_elementwise(
            """{
            .reg .pred p;
            .reg .b32 pair;
            setp.ne.s32 p, $4, 0;
            prmt.b32 pair, $2, $3, 0x5410;
            @p st.global.b32 [$1], pair;
            mov.b32 $0, 0;
            }""",
            "=r,l,r,r,r",
            [place, left, right, inside.to(tl.int32)],
            dtype=tl.int32,
            is_pure=False,
            pack=1,
        )
    else:
        tl.store(place, left.to(tl.int16), mask=inside)
        tl.store(place + 1, right.to(tl.int16), mask=inside)


@triton.jit
def _is_safe(largest, CLIP: tl.constexpr):
    """Whether no score of a block that counts saturates; largest: of its rows."""
    safe = True
    if CLIP:
        unsafe = (largest > 32767) | (largest <= LEAST_MAXIMUM)
        safe = tl.max(unsafe.to(tl.int32), 0) == 0
    return safe


def is_short(
    op: Attention,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    form: ScoreForm,
    context: ContextForm,
) -> bool:
    """Whether the kernel has this attention: all its keys seen, few of them, merged roundings, and
    rows that can be read and written as words."""
    widths = q.shape[2] // op.heads, v.shape[2] // op.kv_heads
    length = k.shape[1]
    return (
        op.filter.kind == Filter.DENSE
        and length <= MOST_KEYS
        and form.merged
        and context.up(length) >= 0
        and all(width in WIDTHS for width in widths)
        and all(x.stride(1) % 4 == 0 and x.data_ptr() % 4 == 0 for x in (q, v))
        and out.stride(1) % 2 == 0
        and out.data_ptr() % 4 == 0
    )


def attend_short(
    op: Attention,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    keys: torch.Tensor,
    form: ScoreForm,
    context: ContextForm,
    blocks: AttentionBlocks,
    whole: bool,
) -> None:
    """What ``AttentionKernel`` computes where ``is_short``; ``blocks.parts`` programs share the
    queries of a head."""
    (batch, queries), length = q.shape[:2], k.shape[1]
    d, e = q.shape[2] // op.heads, v.shape[2] // op.kv_heads
    parts = min(blocks.parts, triton.cdiv(queries, blocks.m))
    q, v = q.view(torch.int32), v.view(torch.int32)
    sums = torch.empty(batch, op.heads, parts, e, dtype=torch.int32, device=q.device)
    _short[parts, op.heads, batch](
        q,
        k,
        v,
        sums,
        out,
        keys,
        form.parameters,
        form.half,
        context.channel,
        fixed_tables(q.device),
        queries,
        length,
        q.stride(1),
        k.stride(1),
        v.stride(1),
        out.stride(1),
        triton.cdiv(triton.cdiv(queries, blocks.m), parts),
        SHARE=op.heads // op.kv_heads,
        D=d,
        E=e,
        BM=blocks.m,
        BN=blocks.n,
        TILES=triton.cdiv(length, blocks.n),
        WHOLE=whole and length % blocks.n == 0,
        CLIP=form.clip,
        LEFT=form.left,
        CONTEXT_CLIP=context.clip(length),
        CONTEXT_LEFT=context.left,
        CONTEXT_UP=context.up(length),
        CONTEXT_ROW_SHIFT=op.context_row_shift,
        CONTEXT_OUT_SHIFT=op.context_out_shift,
        SCALE=FLOAT_LEVELS,
        ASM=ASM,
        num_warps=blocks.warps,
        num_stages=blocks.stages,
        **({} if INTERPRETED else {"maxnreg": blocks.registers}),
        **launch_options(batch * queries),
    )
