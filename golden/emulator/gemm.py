"""MATMUL, SCORES and CONTEXT: what the GEMM engine computes.

Results are written after all operands of the instruction are read; the output of an instruction
must not overlap its operands, because the hardware writes while it still reads.
"""

from __future__ import annotations

import numpy as np

from transept.golden.emulator.memory import EmulatorError, OnChip
from transept.golden.isa import AMode, Instruction, OutMode, RowScale
from transept.golden.layouts import RECORD_BYTES, unpack_channel_parameters, unpack_table
from transept.golden.numerics.filters import keeps, kept_tiles
from transept.golden.numerics.polynomial import reciprocal
from transept.golden.numerics.requantise import (
    ONE,
    ROW_MAX_FLOOR,
    ChannelParameters,
    activation,
    quantise_row,
    requantise,
)
from transept.golden.numerics.softmax import MASKED, OFFSET

__all__ = ["ACCUMULATOR_BITS", "context", "matmul", "scores"]

ACCUMULATOR_BITS = 27


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``a @ b`` of integers, int64. In float64, where BLAS is fast and every sum is exact."""
    return (a.astype(np.float64, copy=False) @ b.astype(np.float64)).astype(np.int64)


def _low_byte(words: np.ndarray) -> np.ndarray:
    return words.astype(np.int8).astype(np.int64)


def _quantise(chip: OnChip, a: np.ndarray, maxima: np.ndarray) -> np.ndarray:
    """``quantise_row``; remembers the last rows, which many MATMULs share (one for each n tile)."""
    rows, row_maxima, result = chip.quantised
    if not (np.array_equal(a, rows) and np.array_equal(maxima, row_maxima)):
        result = quantise_row(a.astype(np.int64), maxima).astype(np.float64)
        chip.quantised = (a, maxima.copy(), result)
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


def _accumulate(chip: OnChip, i: Instruction, acc: np.ndarray) -> np.ndarray:
    """Add to or open the accumulators, and close them with ``finish``."""
    if i.n_tiles != 1 and (i.accumulate or not i.finish):
        raise EmulatorError(f"n_tiles={i.n_tiles} must be 1 when accumulators stay open")
    if i.accumulate:
        if chip.accumulators is None:
            raise EmulatorError("accumulate without open accumulators")
        if len(chip.accumulators) != len(acc):
            raise EmulatorError(
                f"accumulate has {len(acc)} rows, the open accumulators {len(chip.accumulators)}"
            )
        acc = acc + chip.accumulators
    else:
        _closed(chip)
    if np.abs(acc).max() >> (ACCUMULATOR_BITS - 1):
        raise EmulatorError(f"an accumulator exceeds {ACCUMULATOR_BITS} bits")
    chip.accumulators = None if i.finish else acc
    return acc


def _closed(chip: OnChip) -> None:
    if chip.accumulators is not None:
        raise EmulatorError("the accumulators of an earlier MATMUL are open")


def _write(
    chip: OnChip,
    i: Instruction,
    acc: np.ndarray,
    row_scale: tuple[np.ndarray, np.ndarray],
    table: bool,
) -> None:
    """The epilogue: requantise int[rows, n tiles * tile] and write it, collect its statistics."""
    rows, columns = acc.shape
    n_tiles = columns // chip.tile
    parameters = chip.read_stat(i.param, (n_tiles * RECORD_BYTES, 1))
    narrow = i.out_mode != OutMode.ACT16
    y = requantise(
        acc,
        unpack_channel_parameters(parameters),
        *row_scale,
        pre=i.pre,
        row_shift=i.row_shift,
        out_shift=i.out_shift,
        bits=8 if narrow and not table else 16,
    )
    if table:
        y = activation(y, unpack_table(chip.table.reshape(-1)))
        y = y.clip(-127, 127) if narrow else y
    _put(chip, i, y.reshape(rows, n_tiles, chip.tile))
    if i.stats:
        entries = chip.stat_rows(i.out_rowstat, rows)
        magnitude = np.abs(y).max(1)
        if i.stats_keep:
            magnitude = np.maximum(magnitude, chip.rowstat[entries])
        chip.rowstat[entries] = magnitude


def _put(chip: OnChip, i: Instruction, words: np.ndarray) -> None:
    rows, n_tiles, _ = words.shape
    target = chip.stat if i.out_mode == OutMode.STAT8 else chip.act
    name = "STAT" if i.out_mode == OutMode.STAT8 else "ACT"
    index = i.out_addr + np.arange(rows)[:, None] * i.out_stride + np.arange(n_tiles)
    target[chip.check(name, index, target)] = words


def matmul(chip: OnChip, i: Instruction) -> int:
    """``C = epilogue(A . B)`` or a part of its sum over k; returns the MACs.

    A is int8: the low byte of ACT words (RAW), or quantised by ``rowstat[a_rowstat + m]``
    (DYNAMIC). ``row_scale`` reads the same entries, when the accumulators are finished. With
    ``activation`` the requantiser gives 16 bits, then the table is applied, then ACT8 and STAT8
    saturate to 8 bits. ``stats``: ``rowstat[out_rowstat + m]`` becomes the maximum magnitude of the
    row as written, padding columns included; with ``stats_keep`` also of what it held.

    Raises
    ------
    EmulatorError
        If an address is outside its memory, an operand of B is -128, the accumulators are open
        (closed) when they must not be, a sum leaves 27 bits, or the statistic of a row would be
        both its maximum (DYNAMIC) and its sum (RECIPROCAL).
    """
    rows = chip.rows(i)
    if i.a_mode == AMode.DYNAMIC and i.row_scale == RowScale.RECIPROCAL:
        raise EmulatorError("row_scale RECIPROCAL needs a_mode RAW")
    if not i.k_tiles or not i.n_tiles:
        raise EmulatorError(f"k_tiles={i.k_tiles} and n_tiles={i.n_tiles} must be at least 1")
    a = chip.read_act(i.a_addr, i.a_stride, rows, i.k_tiles)
    if i.a_mode == AMode.DYNAMIC:
        a = _quantise(chip, a, chip.rowstat[chip.stat_rows(i.a_rowstat, rows)])
    else:
        a = _low_byte(a)
    acc = _accumulate(chip, i, _product(a, _stationary(chip, i)))
    if i.finish:
        row_scale = _row_scale(chip, i.row_scale, i.a_rowstat, rows)
        _write(chip, i, acc, row_scale, bool(i.activation))
    return a.size * i.n_tiles * chip.tile


def scores(chip: OnChip, i: Instruction) -> int:
    """``S = requantise(Q . K^T)`` on the tiles that the filter keeps; returns the MACs.

    The requantiser has ``multiplier`` and ``channel_shift`` for every channel, bias 0, row
    multiplier 2**15, no ``pre`` and no ``out_shift``, and gives 16 bits. For each block of ``tile``
    rows the kept tiles are recorded in entry ``select + block``; other tiles are not written.
    Masked scores are -32768; ``rowstat[rowstat + m]`` becomes the maximum of the row over all kept
    tiles. Rows of K beyond ``keys`` in the last tile are arbitrary.

    Raises
    ------
    EmulatorError
        If an address is outside its memory, an operand of K is -128, or accumulators are open.
    """
    _closed(chip)
    rows, keys, tile = chip.rows(i), i.keys + 1, chip.tile
    tiles = chip.key_tiles(keys)
    q = _low_byte(chip.read_act(i.q_addr, i.q_stride, rows, i.d_tiles))
    k = chip.read_stat(i.k_addr, (tiles * tile, i.d_tiles), (i.d_tiles, 1)).astype(np.int64)
    k = k.reshape(tiles * tile, -1)
    _check_operands(k[:keys])
    kept = _select(chip, i, q, k[:keys], tiles)
    score = requantise(
        _product(q, k.T),
        ChannelParameters(i.multiplier, i.channel_shift, 0),
        *_row_scale(chip, RowScale.ONE, 0, rows),
        pre=0,
        row_shift=i.row_shift,
        out_shift=0,
        bits=16,
    )
    seen = keeps(i.filter, i.position + np.arange(rows)[:, None], np.arange(tiles * tile), keys)
    score = np.where(seen & kept.repeat(tile, 1), score, MASKED)
    index = chip.act_rows(i.s_addr, i.s_stride, rows, tiles)
    chip.act[index[kept]] = score.reshape(rows, tiles, tile)[kept]
    chip.rowstat[chip.stat_rows(i.rowstat, rows)] = score.max(1)
    return int(kept.sum()) * i.d_tiles * tile * tile


def _select(chip: OnChip, i: Instruction, q: np.ndarray, k: np.ndarray, tiles: int) -> np.ndarray:
    """Ask the filter for each query block and record its answer; bool[rows, tiles]."""
    tile = chip.tile
    entries = chip.blocks(i.select, len(q))
    chip.selection[entries] = False
    for block in range(entries.stop - entries.start):
        kept = kept_tiles(
            i.filter,
            q[block * tile : (block + 1) * tile],
            k,
            position=i.position + block * tile,
            tile=tile,
            threshold=i.threshold,
        )
        chip.selection[i.select + block, kept] = True
    return chip.selection[entries, :tiles].repeat(tile, 0)[: len(q)]


def context(chip: OnChip, i: Instruction) -> int:
    """``C = epilogue((P + 127) . V)`` over the recorded tiles of each block; returns the MACs.

    The array computes ``P . V``, the epilogue adds 127 times the column sums of V over the kept
    tiles, all rows of a tile. Rows of V beyond ``keys`` are arbitrary: P is -127 there, so they
    cancel. The row multiplier is the reciprocal of the row sum in ``rowstat[p_rowstat + m]``.

    Raises
    ------
    EmulatorError
        If an address is outside its memory, an operand of V is -128, accumulators are open, or
        nothing is recorded.
    """
    _closed(chip)
    rows, keys, tile = chip.rows(i), i.keys + 1, chip.tile
    tiles = chip.key_tiles(keys)
    kept = chip.kept(i.select, rows, keys)
    p = _low_byte(chip.read_act(i.p_addr, i.p_stride, rows, tiles))
    v = chip.read_stat(i.v_addr, (tiles * tile, i.d_tiles), (i.d_tiles, 1))
    _check_operands(v[:keys])
    level = np.where(kept.repeat(tile, 1), p + OFFSET, 0)
    acc = _product(level, v.reshape(tiles * tile, -1))
    _write(chip, i, acc, _row_scale(chip, RowScale.RECIPROCAL, i.p_rowstat, rows), table=False)
    return int(kept.sum()) * i.d_tiles * tile * tile
