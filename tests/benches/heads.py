"""Random attention heads: SCORES, SOFTMAX and CONTEXT with everything that comes before them."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
from bench import Bench, Case
from options import Options

from transept.golden.config import Config
from transept.golden.filters import Causal, Dense, KeyFilter, TileThreshold, Window
from transept.golden.isa import Filter, Memory, Opcode, OutMode

__all__ = ["attention", "context", "scores", "softmax"]

POSITION_LIMIT = 1 << 16


class Chunk(NamedTuple):
    """Keys that one instruction computes: where they begin, where their scores and tiles go."""

    first: int
    keys: int
    s_addr: int
    select: int


class Head(NamedTuple):
    """Shape of one attention head and where its parts are."""

    rows: int
    keys: int
    d_tiles: int
    s_addr: int
    s_stride: int
    rowstat: int
    sums: int  # rowstat entry of the first row's sum
    chunks: list[Chunk]


def scores(config: Config, rng: np.random.Generator, **fixed: Any) -> Case:
    """SCORES. Options: rows, keys, d_tiles, filter, position, cuts (keys at which new instructions
    begin), way (how K is written)."""
    bench, options = Bench(config, rng), Options(rng, fixed)
    head = _scores(bench, options)
    options.done()
    _show(bench, head)
    bench.dump_rowstat(head.rowstat, head.rows)
    return bench.case()


def softmax(config: Config, rng: np.random.Generator, **fixed: Any) -> Case:
    """SCORES and SOFTMAX. Options: as ``scores``."""
    bench, options = Bench(config, rng), Options(rng, fixed)
    head = _scores(bench, options)
    options.done()
    _softmax(bench, head)
    _show(bench, head)
    bench.dump_rowstat(head.sums, head.rows)
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
    """LOAD of Q, K, and SCORES for each chunk of the keys."""
    rng, config = bench.rng, bench.config
    rows, d_tiles = options.upto("rows", config.geometry.max_rows), options.upto("d_tiles", 2)
    keys = options.upto("keys", min(config.geometry.max_keys, 6 * config.tile))
    q_addr, q_stride, _ = bench.load_act(rows, d_tiles, wide=False)
    k_addr = _keys(bench, keys, d_tiles, options.pick("way", "load", "rows", "columns"))
    head = _place(bench, rows, keys, d_tiles, options)
    position = options.pick("position", 0, config.tile, int(rng.integers(0, keys)), 65530)
    near = max(0, position - keys // 2)
    key_base = int(rng.choice([0, near, near, int(rng.integers(0, 1 << 16))]))
    rule = _rule(bench, options.pick("filter", *config.key_filters), d_tiles)
    depth = d_tiles * config.tile
    acc_bits, channel = 13 + depth.bit_length() // 2, int(rng.integers(18, 25))
    shifts = {
        "multiplier": int(rng.integers(1 << 15, 1 << 16)),
        "channel_shift": max(0, acc_bits + 16 - channel),
        "row_shift": int(channel + 15 - rng.integers(9, 17)),
    }
    for chunk in head.chunks:
        bench.emit(
            Opcode.SCORES,
            rows=rows - 1,
            position=position,
            key_base=min(key_base + chunk.first, POSITION_LIMIT - 1),
            keys=chunk.keys - 1,
            d_tiles=d_tiles,
            q_addr=q_addr,
            q_stride=q_stride,
            k_addr=k_addr + chunk.first * d_tiles,
            s_addr=chunk.s_addr,
            s_stride=head.s_stride,
            rowstat=head.rowstat,
            stats_keep=int(chunk.first > 0),
            select=chunk.select,
            filter=rule.kind,
            parameter=rule.parameter,
            **shifts,
        )
    return head


def _place(bench: Bench, rows: int, keys: int, d_tiles: int, options: Options) -> Head:
    """Cut the keys and give each part a place for its scores and its kept tiles."""
    rng, config, tile = bench.rng, bench.config, bench.tile
    blocks = -(-rows // tile)
    most = min(3, config.query_blocks // blocks, keys)
    if blocks * d_tiles > 2 * config.geometry.acc_slots:
        most = 1  # CONTEXT cannot keep them open
    inner = rng.choice(np.arange(1, keys + 1), rng.integers(0, most), False)
    cuts = [0, *options.pick("cuts", sorted({int(cut) for cut in inner} - {keys})), keys]
    tiles = [-(-(end - first) // tile) for first, end in itertools.pairwise(cuts)]
    s_stride = sum(tiles) + int(rng.integers(0, 2))
    s_addr = bench.room(Memory.ACT, rows * s_stride)
    # tiles that the filter leaves out keep these contents
    bench.load(Memory.ACT, bench.int8(rows, s_stride * tile), s_addr, rows=rows)
    select = int(rng.integers(0, config.query_blocks - blocks * len(tiles) + 1))
    rowstat = bench.rowstat(rows)
    chunks = [
        Chunk(first, end - first, s_addr + sum(tiles[:n]), select + n * blocks)
        for n, (first, end) in enumerate(itertools.pairwise(cuts))
    ]
    # a maximum may give way to its sum once every part has used it
    sums = rowstat if len(chunks) == 1 and rng.random() < 0.5 else bench.rowstat(rows)
    return Head(rows, keys, d_tiles, s_addr, s_stride, rowstat, sums, chunks)


def _rule(bench: Bench, kind: Filter, d_tiles: int) -> KeyFilter:
    """A filter with parameters that keep some of the keys."""
    rng, tile = bench.rng, bench.tile
    if kind == Filter.TILE_THRESHOLD:
        scale = tile * 128 * np.sqrt(d_tiles * tile)
        return TileThreshold(int(rng.normal() * scale))
    if kind == Filter.WINDOW:
        reach = [0, 1, tile, 3 * tile + 1, 4095]
        return Window(before=int(rng.choice(reach)), after=int(rng.choice(reach)))
    return Causal() if kind == Filter.CAUSAL else Dense()


def _rows(bench: Bench, keys: int, d_tiles: int) -> np.ndarray:
    """Random K or V; the rows beyond the last key are any bytes, -128 among them."""
    tile = bench.tile
    words = bench.int8(-(-keys // tile) * tile, d_tiles * tile)
    words[keys:] = bench.rng.choice([-128, -1, 127], words[keys:].shape)
    return words


def _keys(bench: Bench, keys: int, d_tiles: int, way: str) -> int:
    """K in STAT and shown to the filters, in parts of some rows; often more rows than keys.

    way: by "load", or by MATMULs of unit matrices, all d tiles at once ("rows") or one after the
    other ("columns").
    """
    rng, tile = bench.rng, bench.tile
    addr = bench.load_stat(_rows(bench, keys, d_tiles), align=tile)
    written = min(-(-keys // tile) * tile, keys + int(rng.integers(0, tile)))
    parts = list(_parts(bench, written))
    writer = _Loads(bench, d_tiles) if way == "load" else _Products(bench, written, d_tiles)
    width = 1 if way == "columns" else d_tiles
    for column in range(0, d_tiles, width):
        for first, rows in parts:
            # a tile whose first row nobody saw would have any sum
            unseen = first % tile and first % tile + rows <= tile and rng.random() < 0.2
            writer.write(
                addr,
                first,
                rows,
                column,
                width,
                observe=int(bench.config.observes and not unseen),
                phase=first % tile,
                summary=addr // tile + first // tile * d_tiles + column,
            )
    return addr


def _parts(bench: Bench, rows: int):
    """(first row, rows) of several instructions."""
    step, first = bench.config.geometry.max_rows, 0
    whole = bench.rng.random() < 0.4
    while first < rows:
        count = step if whole else int(bench.rng.integers(1, min(step, 2 * bench.tile) + 1))
        count = min(count, rows - first)
        yield first, count
        first += count


class _Loads:
    """Writes rows of K by LOAD."""

    def __init__(self, bench: Bench, d_tiles: int) -> None:
        self.bench, self.d_tiles = bench, d_tiles

    def write(self, addr, first, rows, column, width, **observed):
        """``width`` words of ``rows`` rows."""
        data = self.bench.int8(rows, width * self.bench.tile)
        at = addr + first * self.d_tiles + column
        self.bench.load(Memory.STAT, data, at, rows=rows, stride=self.d_tiles, **observed)


class _Products:
    """Writes rows of K by MATMULs of a unit matrix."""

    def __init__(self, bench: Bench, rows: int, d_tiles: int) -> None:
        tile, depth = bench.tile, d_tiles * bench.tile
        self.bench, self.d_tiles = bench, d_tiles
        packed = np.eye(depth, dtype=np.int8).reshape(d_tiles, tile, d_tiles, tile)
        self.unit = bench.load_stat(packed.transpose(2, 0, 1, 3))
        self.param = bench.load_gain(d_tiles, 1)
        self.a_addr = bench.room(Memory.ACT, rows * d_tiles)
        bench.load(Memory.ACT, bench.int8(rows, depth), self.a_addr, rows=rows)

    def write(self, addr, first, rows, column, width, **observed):
        """``width`` words of ``rows`` rows."""
        tile, d_tiles = self.bench.tile, self.d_tiles
        self.bench.emit(
            Opcode.MATMUL,
            rows=rows - 1,
            k_tiles=d_tiles,
            n_tiles=width,
            finish=1,
            a_addr=self.a_addr + first * d_tiles,
            a_stride=d_tiles,
            b_addr=self.unit + column * tile * d_tiles,
            b_row=1,
            b_k=tile,
            b_n=tile * d_tiles,
            param=self.param,
            out_addr=addr + first * d_tiles + column,
            out_stride=d_tiles,
            out_mode=OutMode.STAT8,
            row_shift=15,
            **observed,
        )


def _softmax(bench: Bench, head: Head) -> None:
    for chunk in head.chunks:
        bench.emit(
            Opcode.SOFTMAX,
            rows=head.rows - 1,
            keys=chunk.keys - 1,
            addr=chunk.s_addr,
            stride=head.s_stride,
            rowstat=head.rowstat,
            out_rowstat=head.sums,
            keep=int(chunk.first > 0),
            select=chunk.select,
        )


def _context(bench: Bench, head: Head, options: Options) -> None:
    """LOAD of V, CONTEXT, STORE of its result."""
    tile, rows, d_tiles = bench.tile, head.rows, head.d_tiles
    out_mode = options.pick("out_mode", *OutMode)
    v_addr = bench.load_stat(_rows(bench, head.keys, d_tiles))
    scale = bench.scale(21, 8, 16 if out_mode == OutMode.ACT16 else 8)
    param = bench.load_channels(d_tiles, scale.pop("channel_shift"), 8 + scale["out_shift"])
    entry = bench.load_act(rows, 1, wide=True)[2]
    if out_mode == OutMode.STAT8:
        out = bench.load_stat(bench.int8(rows * d_tiles, tile))
    else:
        out = bench.room(Memory.ACT, rows * d_tiles)
    written = {
        "out_mode": out_mode,
        "stats": options.pick("stats", 0, 1),
        "stats_keep": options.pick("stats_keep", 0, 1),
    }
    for chunk in head.chunks:
        bench.emit(
            Opcode.CONTEXT,
            rows=rows - 1,
            keys=chunk.keys - 1,
            d_tiles=d_tiles,
            accumulate=int(chunk.first > 0),
            finish=int(chunk is head.chunks[-1]),
            p_addr=chunk.s_addr,
            p_stride=head.s_stride,
            v_addr=v_addr + chunk.first * d_tiles,
            p_rowstat=head.sums,
            select=chunk.select,
            param=param,
            out_addr=out,
            out_stride=d_tiles,
            out_rowstat=entry,
            **written,
            **scale,
        )
    memory = Memory.STAT if out_mode == OutMode.STAT8 else Memory.ACT
    bench.store(out, d_tiles, rows, d_tiles, memory=memory)
    bench.dump_rowstat(entry, rows)


def _show(bench: Bench, head: Head) -> None:
    bench.store(head.s_addr, head.s_stride, head.rows, head.s_stride)
