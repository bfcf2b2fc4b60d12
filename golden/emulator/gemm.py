"""MATMUL, SCORES and CONTEXT: what the GEMM engine computes.

Results are written after all operands of the instruction are read; the output of an instruction
must not overlap its operands, because the hardware writes while it still reads.
"""

from __future__ import annotations

import numpy as np

from transept.golden import filters
from transept.golden.emulator.memory import EmulatorError, OnChip, addresses
from transept.golden.isa import AMode, Instruction, Opcode, OutMode, RowScale
from transept.golden.layouts import RECORD_BYTES, unpack_channel_parameters, unpack_table
from transept.golden.numerics.fixed import Clipping
from transept.golden.numerics.polynomial import reciprocal
from transept.golden.numerics.requantise import (
    ACCUMULATOR_BITS,
    ONE,
    ROW_MAX_FLOOR,
    ChannelParameters,
    activation,
    join_halves,
    quantise_halves,
    quantise_row,
    requantise,
)
from transept.golden.numerics.softmax import MASKED, OFFSET

__all__ = ["context", "matmul", "scores"]


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``a @ b`` of integers, int64. In float64, where BLAS is fast and every sum is exact."""
    return (a.astype(np.float64, copy=False) @ b.astype(np.float64)).astype(np.int64)


def _low_byte(words: np.ndarray) -> np.ndarray:
    return words.astype(np.int8).astype(np.int64)


def _quantise(chip: OnChip, a: np.ndarray, maxima: np.ndarray, halves: int) -> list[np.ndarray]:
    """``quantise_row``, or ``quantise_halves``; remembers the last rows, which many MATMULs share
    (one for each n tile)."""
    rows, row_maxima, kind, result = chip.quantised
    if not (kind == halves and np.array_equal(a, rows) and np.array_equal(maxima, row_maxima)):
        wide = a.astype(np.int64)
        parts = quantise_halves(wide, maxima) if halves else (quantise_row(wide, maxima),)
        result = [part.astype(np.float64) for part in parts]
        chip.quantised = (a, maxima.copy(), halves, result)
    return result


def _check_operands(words: np.ndarray) -> None:
    if (words == -128).any():
        raise EmulatorError("a stationary operand is -128")


def _stationary(chip: OnChip, i: Instruction) -> np.ndarray:
    """B as int8[k, n], tiles put together."""
    tile = chip.tile
    words = chip.read_stat(
        i.b_addr, (i.k_tiles, i.b_k), (i.n_tiles, i.b_n), (tile, i.b_row)
    )  # [k tile, n tile, word, lane]
    _check_operands(words)
    order = (0, 3, 1, 2) if i.b_transposed else (0, 2, 1, 3)
    return words.transpose(order).reshape(i.k_tiles * tile, i.n_tiles * tile)


def _row_scale(chip: OnChip, mode: RowScale, entry: int, rows: int) -> tuple:
    """(row multiplier, row exponent), int64[rows] each."""
    if mode == RowScale.ONE:
        return np.full(rows, ONE), np.zeros(rows, np.int64)
    statistic = chip.rowstat[chip.stat_rows(entry, rows)]
    if mode == RowScale.ROW_MAX:
        return statistic.clip(ROW_MAX_FLOOR, 32767), np.zeros(rows, np.int64)
    return reciprocal(statistic & 0xFFFFFF)


def _accumulate(chip: OnChip, i: Instruction, sums: np.ndarray) -> np.ndarray:
    """Add to or open the groups of an instruction, and close them with ``finish``; sums of halves
    are int[2, rows, columns], high and low."""
    if i.accumulate:
        sums = sums + chip.sums
    if i.opcode == Opcode.MATMUL and np.abs(sums).max() >> (ACCUMULATOR_BITS - 1):
        raise EmulatorError(f"an accumulator exceeds {ACCUMULATOR_BITS} bits")
    chip.sums = None if i.finish else sums
    return sums


def _write(
    chip: OnChip,
    i: Instruction,
    acc: np.ndarray,
    row_scale: tuple[np.ndarray, np.ndarray],
    *,
    table: bool = False,
    observe: bool = False,
) -> None:
    """The epilogue: requantise int[rows, n tiles * tile] and write it, collect its statistics."""
    rows, columns = acc.shape
    n_tiles = columns // chip.tile
    parameters = chip.read_stat(i.param, (n_tiles * RECORD_BYTES, 1))
    narrow = i.out_mode != OutMode.ACT16
    clipping = Clipping()
    y = requantise(
        acc,
        unpack_channel_parameters(parameters),
        *row_scale,
        pre=i.pre,
        row_shift=i.row_shift,
        out_shift=i.out_shift,
        bits=8 if narrow and not table else 16,
        clip=clipping,
    )
    if table:
        y = activation(y, unpack_table(chip.table.ravel()), clipping)
        y = clipping(y, 8) if narrow else y
    chip.tally(i, clipping.elements)
    words = y.reshape(rows, n_tiles, chip.tile)
    _put(chip, i, words)
    if observe:
        chip.observe(i, words, i.out_stride)
    if i.stats:
        entries = chip.stat_rows(i.out_rowstat, rows)
        magnitude = np.abs(y).max(1)
        if i.stats_keep:
            magnitude = np.maximum(magnitude, chip.rowstat[entries])
        chip.rowstat[entries] = magnitude


def _put(chip: OnChip, i: Instruction, words: np.ndarray) -> None:
    rows, n_tiles, _ = words.shape
    target = chip.stat if i.out_mode == OutMode.STAT8 else chip.act
    target[addresses(i.out_addr, (rows, i.out_stride), (n_tiles, 1))] = words


def matmul(chip: OnChip, i: Instruction) -> int:
    """``C = epilogue(A . B)`` or a part of its sum over k; returns the MACs.

    A is int8: the low byte of ACT words (RAW), or quantised by ``rowstat[a_rowstat + m]``
    (DYNAMIC), with ``halves`` to 15 bits: each half has accumulators of its own, which are joined
    when they are finished. ``row_scale`` reads the same entries then. With
    ``activation`` the requantiser gives 16 bits, then the table is applied, then ACT8 and STAT8
    saturate to 8 bits. ``stats``: ``rowstat[out_rowstat + m]`` becomes the maximum magnitude of the
    row as written, padding columns included; with ``stats_keep`` also of what it held. ``observe``:
    row m, n tile n is added to key summary ``summary + n + (phase + m) // tile * out_stride``.
    ``tally`` counts the elements that any step clipped.

    Raises
    ------
    EmulatorError
        If an operand of B is -128, or a sum leaves 27 bits.
    """
    rows = i.rows + 1
    a = chip.read_act(i.a_addr, i.a_stride, rows, i.k_tiles)
    if i.a_mode == AMode.DYNAMIC:
        maxima = chip.rowstat[chip.stat_rows(i.a_rowstat, rows)]
        parts = _quantise(chip, a, maxima, i.halves)
    else:
        parts = [_low_byte(a)]
    b = _stationary(chip, i)
    acc = _accumulate(chip, i, np.stack([_product(part, b) for part in parts]))
    if i.finish:
        acc = join_halves(*acc) if i.halves else acc[0]
        row_scale = _row_scale(chip, i.row_scale, i.a_rowstat, rows)
        _write(chip, i, acc, row_scale, table=bool(i.activation), observe=bool(i.observe))
    return a.size * i.n_tiles * chip.tile


def scores(chip: OnChip, i: Instruction) -> int:
    """``S = requantise(Q . K^T)`` on the tiles that the filter keeps; returns the MACs.

    The requantiser has ``multiplier`` and ``channel_shift`` for every channel, bias 0, row
    multiplier 2**15, no ``pre`` and no ``out_shift``, and gives 16 bits. Query row m has position
    ``position + m``, key j ``key_base + j``. For each block of ``tile`` rows the kept tiles are
    recorded in entry ``select + block``, or tile 0 if none is kept; other tiles are not written.
    Masked scores, which are all of a tile that is not kept, become -32768;
    ``rowstat[rowstat + m]`` becomes the maximum of the row, with ``stats_keep`` also of what it
    held, so that the keys of a row may be cut into several instructions. Rows of K beyond ``keys``
    in the last tile are arbitrary. ``tally`` counts the scores that were clipped and not masked.

    Raises
    ------
    EmulatorError
        If an operand of K is -128.
    """
    rows, keys, tile = i.rows + 1, i.keys + 1, chip.tile
    tiles = chip.key_tiles(keys)
    rule = filters.decode(i.filter, i.parameter)
    q = _low_byte(chip.read_act(i.q_addr, i.q_stride, rows, i.d_tiles))
    k = chip.read_stat(i.k_addr, (tiles * tile, i.d_tiles), (i.d_tiles, 1)).astype(np.int64)
    k = k.reshape(tiles * tile, -1)
    _check_operands(k[:keys])
    kept, computed = _select(chip, i, rule, q, tiles)
    clipping = Clipping()
    score = requantise(
        _product(q, k.T),
        ChannelParameters(i.multiplier, i.channel_shift, 0),
        *_row_scale(chip, RowScale.ONE, 0, rows),
        pre=0,
        row_shift=i.row_shift,
        out_shift=0,
        bits=16,
        clip=clipping,
    )
    key = np.arange(tiles * tile)
    seen = rule.sees(i.position + np.arange(rows)[:, None], i.key_base + key)
    seen = seen & (key < keys) & kept.repeat(tile, 1)
    score = np.where(seen, score, MASKED)
    chip.tally(i, clipping.elements & seen)
    index = chip.act_rows(i.s_addr, i.s_stride, rows, tiles)
    chip.act[index[computed]] = score.reshape(rows, tiles, tile)[computed]
    entries, maximum = chip.stat_rows(i.rowstat, rows), score.max(1)
    if i.stats_keep:
        maximum = np.maximum(maximum, chip.rowstat[entries])
    chip.rowstat[entries] = maximum
    return int(computed.sum()) * i.d_tiles * tile * tile


def _select(
    chip: OnChip, i: Instruction, rule: filters.KeyFilter, q: np.ndarray, tiles: int
) -> tuple[np.ndarray, np.ndarray]:
    """Ask the filter for each query block and record what is computed.

    Results: the tiles that are kept and those that are computed, bool[rows, tiles] each.
    """
    tile = chip.tile
    entries = chip.blocks(i.select, len(q))
    key_sums = _summaries(chip, i, tiles) if rule.looks else None
    kept = np.zeros((entries.stop - entries.start, chip.config.key_tiles), bool)
    for number, tiles_kept in enumerate(kept):
        block = filters.QueryBlock(
            tile=tile,
            position=i.position + number * tile,
            keys=i.keys + 1,
            key_base=i.key_base,
            query_sum=q[number * tile : (number + 1) * tile].sum(0),
            key_sums=key_sums,
        )
        tiles_kept[filters.kept_tiles(rule, block)] = True
    computed = kept.copy()
    computed[~kept.any(1), 0] = True  # at least one
    chip.selection[entries] = computed
    each = [blocks[:, :tiles].repeat(tile, 0)[: len(q)] for blocks in (kept, computed)]
    return each[0], each[1]


def _summaries(chip: OnChip, i: Instruction, tiles: int) -> np.ndarray:
    """What the filters saw of K: int64[key tiles, d].

    There is one summary for each ``tile`` words of STAT, so that K in STAT has its summaries.
    """
    first = i.k_addr // chip.tile
    return chip.summaries[first : first + tiles * i.d_tiles].reshape(tiles, -1)


def context(chip: OnChip, i: Instruction) -> int:
    """``C = epilogue((P + 127) . V)`` over the recorded tiles of each block; returns the MACs.

    The array computes ``P . V``, the epilogue adds 127 times the column sums of V over the kept
    tiles, all rows of a tile. Rows of V beyond ``keys`` are arbitrary: P is -127 there, so they
    cancel. The row multiplier is the reciprocal of the row sum in ``rowstat[p_rowstat + m]``.
    The keys of a row may be cut: instructions without ``finish`` leave their groups (one for each
    block of ``tile`` rows and each d tile) open, those with ``accumulate`` add to them, and the
    result is that of one instruction over all keys.

    Raises
    ------
    EmulatorError
        If an operand of V is -128.
    """
    rows, keys, tile = i.rows + 1, i.keys + 1, chip.tile
    tiles = chip.key_tiles(keys)
    kept = chip.kept(i.select, rows, keys)
    p = _low_byte(chip.read_act(i.p_addr, i.p_stride, rows, tiles))
    v = chip.read_stat(i.v_addr, (tiles * tile, i.d_tiles), (i.d_tiles, 1))
    _check_operands(v[:keys])
    level = np.where(kept.repeat(tile, 1), p + OFFSET, 0)
    acc = _accumulate(chip, i, _product(level, v.reshape(tiles * tile, -1)))
    if i.finish:
        _write(chip, i, acc, _row_scale(chip, RowScale.RECIPROCAL, i.p_rowstat, rows))
    return int(kept.sum()) * i.d_tiles * tile * tile
