"""Random attention heads: SCORES, SOFTMAX and CONTEXT with everything that comes before them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from bench import Bench, Case
from options import Options

from transept.golden.config import Config
from transept.golden.isa import Filter, Memory, Opcode, OutMode

__all__ = ["attention", "context", "scores", "softmax"]


class Head(NamedTuple):
    """Shape of one attention head and where its parts are."""

    rows: int
    keys: int
    d_tiles: int
    s_addr: int
    s_stride: int
    rowstat: int
    select: int


def scores(config: Config, rng: np.random.Generator, **fixed: Any) -> Case:
    """SCORES. Options: rows, keys, d_tiles, filter, position."""
    bench, options = Bench(config, rng), Options(rng, fixed)
    _show(bench, _scores(bench, options))
    options.done()
    return bench.case()


def softmax(config: Config, rng: np.random.Generator, **fixed: Any) -> Case:
    """SCORES and SOFTMAX. Options: as ``scores``."""
    bench, options = Bench(config, rng), Options(rng, fixed)
    head = _scores(bench, options)
    options.done()
    _softmax(bench, head)
    _show(bench, head)
    bench.dump_rowstat(head.rowstat, head.rows)
    return bench.case()


def context(config: Config, rng: np.random.Generator, **fixed: Any) -> Case:
    """SCORES, SOFTMAX and CONTEXT. Options: as ``scores``, out_mode, stats, stats_keep."""
    bench, options = Bench(config, rng), Options(rng, fixed)
    head = _scores(bench, options)
    _softmax(bench, head)
    _context(bench, head, options)
    options.done()
    return bench.case()


def attention(config: Config, rng: np.random.Generator, **fixed: Any) -> Case:
    """Several heads one after the other, in memories that keep the data of the heads before.
    Options: heads, and those of ``scores``."""
    bench, options = Bench(config, rng), Options(rng, fixed)
    heads = options.upto("heads", 2)
    for _ in range(heads):
        shape = Options(rng, {"rows": int(rng.integers(1, config.tile + 3))} | options.rest())
        head = _scores(bench, shape)
        _softmax(bench, head)
        _context(bench, head, shape)
        shape.done()
    return bench.case()


def _scores(bench: Bench, options: Options) -> Head:
    """LOAD of Q, K by way of an observed MATMUL, SCORES."""
    rng, config, tile = bench.rng, bench.config, bench.tile
    rows, d_tiles = options.upto("rows", config.geometry.max_rows), options.upto("d_tiles", 2)
    keys = options.upto("keys", min(config.geometry.max_keys, 6 * tile))
    depth, tiles, blocks = d_tiles * tile, -(-keys // tile), -(-rows // tile)
    q_addr, q_stride, _ = bench.load_act(rows, d_tiles, wide=False)
    k_addr = _keys(bench, keys, d_tiles)
    s_stride = tiles + int(rng.integers(0, 2))
    s_addr = bench.room(Memory.ACT, rows * s_stride)
    # tiles that the filter leaves out keep these contents
    bench.load(Memory.ACT, bench.int8(rows, s_stride * tile), s_addr, rows=rows)
    head = Head(
        rows=rows,
        keys=keys,
        d_tiles=d_tiles,
        s_addr=s_addr,
        s_stride=s_stride,
        rowstat=bench.rowstat(rows),
        select=int(rng.integers(0, config.query_blocks - blocks + 1)),
    )
    acc_bits, channel = 13 + depth.bit_length() // 2, int(rng.integers(18, 25))
    bench.emit(
        Opcode.SCORES,
        rows=rows - 1,
        position=options.pick("position", 0, tile, int(rng.integers(0, keys))),
        keys=keys - 1,
        d_tiles=d_tiles,
        q_addr=q_addr,
        q_stride=q_stride,
        k_addr=k_addr,
        s_addr=s_addr,
        s_stride=s_stride,
        rowstat=head.rowstat,
        select=head.select,
        filter=options.pick("filter", *Filter),
        threshold=int(rng.normal() * tile * 128 * np.sqrt(depth)),
        multiplier=int(rng.integers(1 << 15, 1 << 16)),
        channel_shift=max(0, acc_bits + 16 - channel),
        row_shift=int(channel + 15 - rng.integers(9, 17)),
    )
    return head


def _rows(bench: Bench, keys: int, d_tiles: int) -> np.ndarray:
    """Random K or V; the rows beyond the last key are any bytes, -128 among them."""
    tile = bench.tile
    words = bench.int8(-(-keys // tile) * tile, d_tiles * tile)
    words[keys:] = bench.rng.choice([-128, -1, 127], words[keys:].shape)
    return words


def _keys(bench: Bench, keys: int, d_tiles: int) -> int:
    """K in STAT, written by observed MATMULs of unit matrices: filters need to see it."""
    tile, step = bench.tile, bench.config.geometry.max_rows
    depth = d_tiles * tile
    addr = bench.load_stat(_rows(bench, keys, d_tiles), align=tile)
    packed = np.eye(depth, dtype=np.int8).reshape(d_tiles, tile, d_tiles, tile)
    unit = bench.load_stat(packed.transpose(2, 0, 1, 3))
    param = bench.load_gain(d_tiles, 1)
    stride = d_tiles
    a_addr = bench.room(Memory.ACT, keys * stride)
    bench.load(Memory.ACT, bench.int8(keys, depth), a_addr, rows=keys)
    for first in range(0, keys, step):
        bench.emit(
            Opcode.MATMUL,
            rows=min(step, keys - first) - 1,
            k_tiles=d_tiles,
            n_tiles=d_tiles,
            finish=1,
            a_addr=a_addr + first * stride,
            a_stride=stride,
            b_addr=unit,
            b_row=1,
            b_k=tile,
            b_n=tile * d_tiles,
            param=param,
            out_addr=addr + first * d_tiles,
            out_stride=d_tiles,
            out_mode=OutMode.STAT8,
            observe=1,
            row_shift=15,
        )
    return addr


def _softmax(bench: Bench, head: Head) -> None:
    bench.emit(
        Opcode.SOFTMAX,
        rows=head.rows - 1,
        keys=head.keys - 1,
        addr=head.s_addr,
        stride=head.s_stride,
        rowstat=head.rowstat,
        select=head.select,
    )


def _context(bench: Bench, head: Head, options: Options) -> None:
    """LOAD of V, CONTEXT, STORE of its result."""
    tile, rows, d_tiles = bench.tile, head.rows, head.d_tiles
    out_mode = options.pick("out_mode", *OutMode)
    v_addr = bench.load_stat(_rows(bench, head.keys, d_tiles))
    scale = bench.scale(21, 8, 16 if out_mode == OutMode.ACT16 else 8)
    param = bench.load_channels(d_tiles, scale.pop("channel_shift"), 8 + scale["out_shift"])
    entry = bench.load_act(rows, 1, wide=True)[2]
    size = -(-rows * d_tiles // tile) * tile
    if out_mode == OutMode.STAT8:
        out = bench.load_stat(bench.int8(size, tile))
    else:
        out = bench.room(Memory.ACT, rows * d_tiles)
    bench.emit(
        Opcode.CONTEXT,
        rows=rows - 1,
        keys=head.keys - 1,
        d_tiles=d_tiles,
        p_addr=head.s_addr,
        p_stride=head.s_stride,
        v_addr=v_addr,
        p_rowstat=head.rowstat,
        select=head.select,
        param=param,
        out_addr=out,
        out_stride=d_tiles,
        out_mode=out_mode,
        stats=options.pick("stats", 0, 1),
        stats_keep=options.pick("stats_keep", 0, 1),
        out_rowstat=entry,
        **scale,
    )
    if out_mode == OutMode.STAT8:
        bench.dump_stat(out, size)
    else:
        bench.store(out, d_tiles, rows, d_tiles)
    bench.dump_rowstat(entry, rows)


def _show(bench: Bench, head: Head) -> None:
    bench.store(head.s_addr, head.s_stride, head.rows, head.s_stride)
