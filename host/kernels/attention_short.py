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
from triton.tools.tensor_descriptor import TensorDescriptor

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
    fours,
    from_fours,
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
    """int8[BN, E], a tile of values in the order of slots, zero where no key exists."""
    order = key_of_slot(fours(tl.arange(0, BN), BN))
    key = _places(order, rest, TILE, WHOLE, BN)
    place = ptr + (key * stride)[:, None] + tl.arange(0, E)[None, :]
    if WHOLE:
        v = tl.load(place)
    else:
        v = tl.load(place, mask=(key < (rest if TILE == 0 else keys))[:, None], other=0)
    return from_fours(v, BN, E)


@triton.jit
def _in_registers(x, PASS: tl.constexpr, ASM: tl.constexpr):
    """The same, of which the compiler does not know that another pass has it, too: it would keep
    the first one's products, for which there is no room."""
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
    """Sums of (level - 127) v, int32[BM, E], and of level - 127, int32[BM]; added: what ``levels``
    adds in the first tile, and in others."""
    BM: tl.constexpr = q.shape[0]
    BN: tl.constexpr = k[0].shape[0]
    # rounds a score, takes the maximum away, and makes a float of it
    addend = tl.broadcast_to(((base.to(tl.int64) << 32) + half)[:, None], (BM, BN))
    factor = tl.zeros((BM, BN), tl.int32) + multiplier
    acc = tl.dot(q, k[0].T, out_dtype=tl.int32)
    bits = distances(acc, factor, addend, 0, 0, base, True, CLIP, LEFT, 0, ASM)
    p, partial = levels(bits, added[0], SCALE, ASM, BM, BN)
    counted = tl.zeros((BM,), tl.int32)
    if not WHOLE:
        partial = tl.zeros((BM, 4), tl.int32)
        counted = tl.max(tl.dot(p, counters, out_dtype=tl.int32), 1)
    context = tl.dot(p, v[0], out_dtype=tl.int32)
    for tile in tl.static_range(1, len(k)):
        if tile < tiles:
            acc = tl.dot(q, k[tile].T, out_dtype=tl.int32)
            bits = distances(acc, factor, addend, 0, 0, base, True, CLIP, LEFT, 0, ASM)
            p, sums = levels(bits, added[1], SCALE, ASM, BM, BN)
            partial += sums
            context = tl.dot(p, v[tile], context, out_dtype=tl.int32)
    return context, tl.sum(partial, 1) + counted


@triton.jit
def _short(
    q_desc,
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
    k_ptr += sequence.to(tl.int64) * length * k_stride + head // SHARE * D
    v_ptr += sequence.to(tl.int64) * length * v_stride + head // SHARE * E
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
    for block in range(start, tl.minimum(start + blocks, tl.cdiv(queries, BM))):
        rows = q_desc.load([sequence * queries + block * BM, head * D])
        q = _in_registers(rows, 1, ASM)
        partial = column_maxima(tl.dot(q, k[0].T, out_dtype=tl.int32), BM, BN)
        for tile in tl.static_range(1, TILES):
            if tile < tiles:
                acc = tl.dot(q, k[tile].T, out_dtype=tl.int32)
                partial = tl.maximum(partial, column_maxima(acc, BM, BN))
        largest = score(tl.max(partial, 1), multiplier, 0, half, True, LEFT, 0, ASM)
        base = DISTANCE_BITS - saturate(largest, 16)
        q = _in_registers(rows, 2, ASM)
        if _is_safe(largest, CLIP):
            context, sums = _context(
                q,
                k,
                v,
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
            tl.load(sums_ptr + value),
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
    rows that can be copied as tiles."""
    widths = q.shape[2] // op.heads, v.shape[2] // op.kv_heads
    length = k.shape[1]
    return (
        op.filter.kind == Filter.DENSE
        and length <= MOST_KEYS
        and form.merged
        and context.up(length) >= 0
        and all(width in WIDTHS for width in widths)
        and q.stride(1) % 16 == 0
        and q.data_ptr() % 16 == 0
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
    sums = torch.empty(batch, op.heads, parts, e, dtype=torch.int32, device=q.device)
    _short[parts, op.heads, batch](
        TensorDescriptor.from_tensor(q.view(-1, q.shape[2]), [blocks.m, d]),
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
