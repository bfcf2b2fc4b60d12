"""Random programs, one or few instructions each with the LOADs and STOREs around them.

Every function takes a configuration and a NumPy generator, and options that fix what is random
otherwise, and returns a ``Case``. All results end in DRAM, so that comparing the image after a run
of the hardware with the image after a run of ``golden.emulator`` compares every bit.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from bench import Bench, Case
from heads import attention, context, scores, softmax
from options import Options

from transept.golden import layouts
from transept.golden.config import Config
from transept.golden.isa import AMode, Memory, Opcode, Operation, OutMode, RowScale
from transept.golden.numerics.four_bit import GROUP, FourBitWeights
from transept.golden.numerics.norm import NormParameters, inverse_count

__all__ = [
    "CASES",
    "attention",
    "cases",
    "context",
    "elementwise",
    "load",
    "matmul",
    "norm",
    "overlapped",
    "scores",
    "softmax",
    "split",
    "store",
]

ROW_BITS = {RowScale.ONE: 15, RowScale.ROW_MAX: 12, RowScale.RECIPROCAL: 6}


def load(config: Config, rng: np.random.Generator, **fixed: Any) -> Case:
    """LOAD to ACT with statistics, or to STAT, packed or not. Options: memory, wide, rows, words,
    packed, blocks, tail (words of a packed row behind its blocks)."""
    bench, options = Bench(config, rng), Options(rng, fixed)
    memory = options.pick("memory", Memory.ACT, Memory.STAT)
    wide, rows = options.pick("wide", 0, 1), options.upto("rows", config.geometry.max_rows)
    words, packed = (
        options.upto("words", 8),
        options.pick("packed", *range(1 + config.blocks.packed)),
    )
    blocks, tail = options.pick("blocks", 0, 1, 2, 3), options.pick("tail", 0, 1, 8, 31)
    options.done()
    if memory == Memory.STAT and packed:
        return _packed(bench, min(rows, 3), max(1, blocks * layouts.BLOCK_WORDS + tail))
    if memory == Memory.STAT:
        size = rows * words
        addr = bench.load_stat(bench.rng.integers(-128, 128, (size, config.tile), np.int8))
        bench.store(addr, words, rows, words, memory=memory)
        return bench.case()
    addr, stride, entry = bench.load_act(rows, words, wide=bool(wide))
    bench.store(addr, stride, rows, words)
    bench.dump_rowstat(entry, rows)
    return bench.case()


def _packed(bench: Bench, rows: int, words: int) -> Case:
    """Any bytes as packed rows of so many words of STAT."""
    addr, stride = bench.room(Memory.STAT, rows * (words + 2)), words + int(bench.rng.integers(3))
    size = rows, layouts.packed_words(words) * bench.tile
    data = bench.rng.integers(0, 256, size, np.uint8)
    shape = {"rows": rows, "words": words, "stride": stride}
    bench.load(Memory.STAT, data, addr, packed=1, **shape)
    bench.store(addr, stride, rows, words, memory=Memory.STAT)
    return bench.case()


def store(config: Config, rng: np.random.Generator, **fixed: Any) -> Case:
    """STORE of words that LOAD brought. Options: wide, rows, words, memory."""
    bench, options = Bench(config, rng), Options(rng, fixed)
    wide, rows = options.pick("wide", 0, 1), options.upto("rows", config.geometry.max_rows)
    words, memory = options.upto("words", 8), options.pick("memory", Memory.ACT, Memory.STAT)
    options.done()
    if memory == Memory.ACT:
        addr, stride, _ = bench.load_act(rows, words, wide=True)
    else:
        stride = words + int(rng.integers(0, 3))
        addr = bench.load_stat(bench.int8(rows * stride, config.tile))
    bench.store(addr, stride, rows, words, wide=wide, memory=memory)
    return bench.case()


def _matrix(bench: Bench, k_tiles: int, n_tiles: int, transposed: bool) -> dict[str, int]:
    """Random B in STAT: packed tiles, or the rows of its transpose as K is kept."""
    tile = bench.tile
    addr = bench.load_stat(bench.int8(n_tiles * k_tiles * tile, tile))
    order = {"b_row": 1, "b_k": tile, "b_n": k_tiles * tile}
    if transposed:
        order = {"b_row": k_tiles, "b_k": 1, "b_n": k_tiles * tile}
    return {"b_addr": addr, "b_transposed": int(transposed)} | order


def matmul(config: Config, rng: np.random.Generator, **fixed: Any) -> Case:
    """One MATMUL. Options: rows, k_tiles, n_tiles, a_mode, row_scale, out_mode, activation,
    transposed, stats, stats_keep, halves, packed."""
    bench, options = Bench(config, rng), Options(rng, fixed)
    rows, k_tiles = options.upto("rows", config.geometry.max_rows), options.upto("k_tiles", 6)
    n_tiles = options.upto("n_tiles", 4)
    a_mode = options.pick("a_mode", *AMode)
    halves = _halves(config, options, rows, a_mode)
    packed = options.pick("packed", *range(1 + config.blocks.packed))
    if packed:
        k_tiles = GROUP // config.tile * max(1, k_tiles * config.tile // GROUP)
    scales = [*RowScale] if a_mode == AMode.RAW else [RowScale.ONE, RowScale.ROW_MAX]
    row_scale = options.pick("row_scale", *scales)
    tables = (0, 1) if config.blocks.activation else (0,)
    out_mode, table = options.pick("out_mode", *OutMode), options.pick("activation", *tables)
    transposed = options.pick("transposed", False, True)
    stats, keep = options.pick("stats", 0, 1), options.pick("stats_keep", 0, 1)
    options.done()
    a_addr, a_stride, a_rowstat = bench.load_act(rows, k_tiles, wide=a_mode == AMode.DYNAMIC)
    if packed:
        b = _four_bit(bench, k_tiles, n_tiles)
    else:
        b = _matrix(bench, k_tiles, n_tiles, transposed)
    if table:
        bench.load_table()
    bits = 8 if out_mode != OutMode.ACT16 and not table else 16
    scale = bench.scale(13 + (k_tiles * config.tile).bit_length() // 2, ROW_BITS[row_scale], bits)
    param = bench.load_channels(n_tiles, scale.pop("channel_shift"), 8 + scale["out_shift"])
    out, stride, entry = _output(bench, rows, n_tiles, out_mode)
    bench.emit(
        Opcode.MATMUL,
        rows=rows - 1,
        k_tiles=k_tiles,
        n_tiles=n_tiles,
        finish=1,
        a_addr=a_addr,
        a_stride=a_stride,
        a_mode=a_mode,
        halves=halves,
        a_rowstat=a_rowstat,
        param=param,
        out_addr=out,
        out_stride=stride,
        out_mode=out_mode,
        activation=table,
        row_scale=row_scale,
        stats=stats,
        stats_keep=keep,
        out_rowstat=entry,
        **b,
        **scale,
    )
    memory = Memory.STAT if out_mode == OutMode.STAT8 else Memory.ACT
    bench.store(out, stride, rows, n_tiles, memory=memory)
    bench.dump_rowstat(entry, rows)
    return bench.case()


def _halves(config: Config, options: Options, rows: int, a_mode: AMode) -> int:
    """Whether the rows are streamed in halves."""
    few = 2 * rows <= config.geometry.max_rows and a_mode == AMode.DYNAMIC
    return options.pick("halves", *range(1 + (few and config.blocks.halves)))


def _four_bit(bench: Bench, k_tiles: int, n_tiles: int) -> dict[str, int]:
    """Random B of four bits, unpacked on its way to STAT."""
    rng, tile = bench.rng, bench.tile
    shape = (n_tiles * tile, k_tiles * tile)
    groups = (shape[0], shape[1] // GROUP)
    weights = FourBitWeights(
        rng.integers(0, 16, shape, np.uint8),
        rng.integers(0, 4096, groups).astype(np.uint16) >> rng.integers(0, 6, groups),
        rng.integers(-2048, 2048, groups, np.int16),
    )
    words = k_tiles * tile
    addr = bench.room(Memory.STAT, n_tiles * words)
    packed = layouts.pack_four_bit(weights, tile)
    shape = {"rows": n_tiles, "words": words, "stride": words}
    bench.load(Memory.STAT, packed, addr, packed=1, **shape)
    order = {"b_row": 1, "b_k": tile, "b_n": words}
    return {"b_addr": addr, "b_transposed": 1} | order


def _output(bench: Bench, rows: int, n_tiles: int, out_mode: OutMode) -> tuple[int, int, int]:
    """Room for a result and rowstat entries of known contents; (address, stride, entry)."""
    entry = bench.load_act(rows, 1, wide=True)[2]
    stride = n_tiles + int(bench.rng.integers(0, 2))
    if out_mode == OutMode.STAT8:
        return bench.load_stat(bench.int8(rows * stride, bench.tile)), stride, entry
    return bench.room(Memory.ACT, rows * stride), stride, entry


def split(config: Config, rng: np.random.Generator, **fixed: Any) -> Case:
    """One n tile whose k tiles are spread over several MATMULs. Options: rows, k_tiles, cuts (the
    first k tile of every MATMUL but the first), halves."""
    bench, options = Bench(config, rng), Options(rng, fixed)
    rows = options.upto("rows", config.geometry.max_rows)
    halves = _halves(config, options, rows, AMode.DYNAMIC)
    k_tiles = max(2, options.upto("k_tiles", 6))
    inner = rng.choice(np.arange(1, k_tiles), rng.integers(1, k_tiles), False)
    cuts = [0, *options.pick("cuts", sorted(inner.tolist())), k_tiles]
    options.done()
    a_addr, a_stride, a_rowstat = bench.load_act(rows, k_tiles, wide=True)
    b = _matrix(bench, k_tiles, 1, transposed=False)
    scale = bench.scale(13 + (k_tiles * config.tile).bit_length() // 2, 12, 16)
    param = bench.load_channels(1, scale.pop("channel_shift"), 12)
    out = bench.room(Memory.ACT, rows)
    for first, last in itertools.pairwise(cuts):
        bench.emit(
            Opcode.MATMUL,
            **(b | {"b_addr": b["b_addr"] + first * config.tile}),
            rows=rows - 1,
            k_tiles=last - first,
            n_tiles=1,
            accumulate=int(first > 0),
            finish=int(last == k_tiles),
            a_addr=a_addr + first,
            a_stride=a_stride,
            a_mode=AMode.DYNAMIC,
            halves=halves,
            a_rowstat=a_rowstat,
            param=param,
            out_addr=out,
            out_stride=1,
            row_scale=RowScale.ROW_MAX,
            **scale,
        )
    bench.store(out, 1, rows, 1)
    return bench.case()


def norm(config: Config, rng: np.random.Generator, **fixed: Any) -> Case:
    """One NORM. Options: rows, count, residual, centre, write (what is written), in_place (which
    operand each result overwrites)."""
    bench, options = Bench(config, rng), Options(rng, fixed)
    tile = config.tile
    rows = options.upto("rows", config.geometry.max_rows)
    write = options.pick("write", ("out",), ("sum",), ("sum", "out"))
    count = max(1 + ("out" in write), options.upto("count", config.geometry.max_hidden // 2))
    residual, centre = options.pick("residual", 0, 1), options.pick("centre", 0, 1)
    in_place = options.pick("in_place", {}, {write[0]: "x"}, dict(zip(write, "xy", strict=False)))
    options.done()
    words = -(-count // tile)
    if rows * (4 * words + 8) > config.act_words:  # leave room for the results
        rows = max(1, config.act_words // (4 * words + 8))
    operands = {}
    for name in "yx":
        addr, stride, _ = bench.load_act(rows, words, wide=True)
        operands |= {f"{name}_addr": addr, f"{name}_stride": stride}
    first = int(rng.integers(0, config.geometry.max_hidden // tile - words + 1))
    parameters = _norm_parameters(rng, count)
    bench.load(Memory.VPARAM, layouts.pack_norm_parameters(parameters, tile), 8 * first)
    for name in write:
        where = in_place.get(name)
        fresh = 0 if where else bench.room(Memory.ACT, rows * words)
        operands[f"{name}_addr"] = operands[f"{where}_addr"] if where else fresh
        operands[f"{name}_stride"] = operands[f"{where}_stride"] if where else words
    entry = bench.rowstat(rows)
    bench.emit(
        Opcode.NORM,
        rows=rows - 1,
        words=words,
        count=count,
        residual=residual,
        centre=centre,
        normalise=int("out" in write),
        sum=int("sum" in write),
        rowstat=entry,
        param=first,
        inverse_count=inverse_count(max(2, count)),
        epsilon=int(rng.integers(0, 1 << int(rng.integers(1, 33)))),
        out_shift=int(rng.integers(9, 14)),
        **operands,
    )
    for name in write:
        bench.store(operands[f"{name}_addr"], operands[f"{name}_stride"], rows, words)
    bench.dump_rowstat(entry, rows)
    return bench.case()


def elementwise(config: Config, rng: np.random.Generator, **fixed: Any) -> Case:
    """One ELEMENTWISE. Options: rows, count, operation, out_mode, shift, stats, in_place (the
    operand that the result overwrites), shared (X is one row for all)."""
    bench, options = Bench(config, rng), Options(rng, fixed)
    tile = config.tile
    rows = options.upto("rows", config.geometry.max_rows)
    count = options.upto("count", config.geometry.max_hidden // 2)
    operation = options.pick("operation", *Operation)
    out_mode = options.pick("out_mode", OutMode.ACT16, OutMode.ACT8)
    shift, stats = options.upto("shift", 15), options.pick("stats", 0, 1)
    in_place, shared = options.pick("in_place", None, "y", "x"), options.pick("shared", False, True)
    options.done()
    words = -(-count // tile)
    if rows * (3 * words + 8) > config.act_words:  # leave room for the result
        rows = max(1, config.act_words // (3 * words + 8))
    operands = {}
    for name in "yx":
        addr, stride, _ = bench.load_act(rows, words, wide=True)
        operands |= {f"{name}_addr": addr, f"{name}_stride": stride}
    if shared and in_place != "x":
        operands["x_stride"] = 0
    fresh = 0 if in_place else bench.room(Memory.ACT, rows * words)
    out = operands[f"{in_place}_addr"] if in_place else fresh
    out_stride = operands[f"{in_place}_stride"] if in_place else words
    entry = bench.rowstat(rows)
    bench.emit(
        Opcode.ELEMENTWISE,
        rows=rows - 1,
        words=words,
        count=count,
        shift=shift,
        out_addr=out,
        out_stride=out_stride,
        out_mode=out_mode,
        operation=operation,
        stats=stats,
        rowstat=entry,
        **operands,
    )
    bench.store(out, out_stride, rows, words)
    if stats:
        bench.dump_rowstat(entry, rows)
    return bench.case()


def _norm_parameters(rng: np.random.Generator, count: int) -> NormParameters:
    """Random constants; shifts are those of each channel, or one for all."""
    shifts = rng.integers(0, 16, (3, 1 if rng.random() < 0.5 else count))
    return NormParameters(
        rng.integers(-(1 << 15), 1 << 15, count),
        rng.integers(-(1 << 16), 1 << 16, count),
        *(np.broadcast_to(shift, count) for shift in shifts),
    )


def overlapped(config: Config, rng: np.random.Generator, **fixed: Any) -> Case:
    """MATMULs on two STAT buffers that LOAD fills meanwhile, and STOREs of the results, all at the
    same time. Options: rows, k_tiles, chunks."""
    bench, options = Bench(config, rng), Options(rng, fixed)
    rows, k_tiles = options.upto("rows", config.geometry.max_rows), options.upto("k_tiles", 6)
    chunks = options.upto("chunks", 8)
    options.done()
    tile, size = config.tile, k_tiles * config.tile
    a_addr, a_stride, a_rowstat = bench.load_act(rows, k_tiles, wide=True)
    scale = bench.scale(13 + (k_tiles * tile).bit_length() // 2, 12, 16)
    param = bench.load_channels(1, scale.pop("channel_shift"), 12)
    out = [bench.room(Memory.ACT, rows) for _ in range(2)]
    buffers = [bench.room(Memory.STAT, size) for _ in range(2)]
    products: list[int] = []
    stores: list[int] = []
    for chunk in range(chunks):
        half = chunk % 2
        data = bench.int8(k_tiles * tile, tile)
        loaded = bench.load(Memory.STAT, data, buffers[half], after=products[-2:-1])
        products.append(
            bench.emit(
                Opcode.MATMUL,
                after=[loaded, *stores[-2:-1]],
                rows=rows - 1,
                k_tiles=k_tiles,
                n_tiles=1,
                finish=1,
                a_addr=a_addr,
                a_stride=a_stride,
                a_mode=AMode.DYNAMIC,
                a_rowstat=a_rowstat,
                b_addr=buffers[half],
                b_row=1,
                b_k=tile,
                param=param,
                out_addr=out[half],
                out_stride=1,
                row_scale=RowScale.ROW_MAX,
                **scale,
            )
        )
        stores.append(bench.store(out[half], 1, rows, 1, after=[products[-1]]))
    return bench.case()


def cases(config: Config) -> dict[str, Any]:
    """The programs that a configuration has the blocks for."""
    needs = {"norm": Opcode.NORM, "elementwise": Opcode.ELEMENTWISE}
    needs |= dict.fromkeys(_HEADS, Opcode.SCORES)
    return {name: case for name, case in CASES.items() if config.has(needs.get(name, Opcode.LOAD))}


_HEADS = ("scores", "softmax", "context", "attention")
CASES = {
    function.__name__: function
    for function in (
        load,
        store,
        matmul,
        split,
        scores,
        softmax,
        context,
        attention,
        norm,
        elementwise,
        overlapped,
    )
}
