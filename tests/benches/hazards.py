"""Which instructions conflict, from their operands alone, and which order their tokens enforce."""

from __future__ import annotations

import itertools

import numpy as np

from transept.golden import filters
from transept.golden.config import Config
from transept.golden.isa import AMode, Engine, Instruction, Memory, Opcode, OutMode, RowScale

__all__ = ["edges", "ends_before_starts", "footprint", "unordered", "unwritten"]

#: Words that an instruction reads and writes, as (memory, address).
Words = set[tuple[str, int]]


def edges(program: list[Instruction]) -> set[tuple[int, int]]:
    """(producer, consumer) of every token: the n-th given is the n-th taken."""
    given, taken = {}, {}
    for index, i in enumerate(program):
        for engine in i.signal:
            given.setdefault((i.engine, engine), []).append(index)
        for engine in i.wait:
            taken.setdefault((engine, i.engine), []).append(index)
    assert {k: len(v) for k, v in given.items()} == {k: len(v) for k, v in taken.items()}
    return {edge for key in given for edge in zip(given[key], taken[key], strict=True)}


def ends_before_starts(program: list[Instruction], tokens: set[tuple[int, int]]) -> np.ndarray:
    """bool[i, j]: the end of i is before the start of j in every legal execution.

    Engines start and end their instructions in order, but may overlap neighbours.
    """
    n = len(program)
    before = np.zeros((n, n), bool)
    for j in range(n):
        for i in (i for i, consumer in tokens if consumer == j):
            before[i, j] = True
            before[:, j] |= before[:, i]
            same = [p for p in range(i) if program[p].engine == program[i].engine]
            before[same, j] = True
        for i in (p for p in range(j) if program[p].engine == program[j].engine):
            before[:, j] |= before[:, i]
    # the end of an earlier instruction of one engine is before that of a later one
    for i in reversed(range(n)):
        for p in (p for p in range(i) if program[p].engine == program[i].engine):
            before[p] |= before[i]
    return before


def _rows(memory: str, addr: int, stride: int, rows: int, words: int) -> Words:
    return {(memory, addr + m * stride + w) for m in range(rows) for w in range(words)}


def _span(memory: str, addr: int, words: int) -> Words:
    return _rows(memory, addr, 0, 1, words)


def _transfer(i: Instruction, tile: int) -> tuple[Words, Words]:
    """LOAD and STORE; DRAM in units of ``tile`` bytes."""
    memory = i.memory.name.lower()
    dram = f"dram:{i.window.name}"
    outside = _rows(dram, i.offset // tile, i.pitch, i.rows, i.words * (1 + i.wide))
    inside = _rows(memory, i.addr, i.stride, i.rows, i.words)
    if i.opcode == Opcode.STORE:
        return inside, outside
    if i.memory == Memory.ACT and i.stats:
        inside |= _span("rowstat", i.rowstat, i.rows)
    return outside, inside | _observed(i, i.rows, i.words, i.stride, tile)


def _observed(i: Instruction, rows: int, words: int, stride: int, tile: int) -> Words:
    """Key summaries that LOAD or MATMUL adds to."""
    tiles = -(-(i.phase + rows) // tile)
    return _rows("summary", i.summary, stride, tiles, words) if i.observe else set()


def _matmul(i: Instruction, tile: int) -> tuple[Words, Words]:
    rows = i.rows + 1
    reads = _rows("act", i.a_addr, i.a_stride, rows, i.k_tiles)
    if i.a_mode == AMode.DYNAMIC or (i.finish and i.row_scale != RowScale.ONE):
        reads |= _span("rowstat", i.a_rowstat, rows)
    for k, n in itertools.product(range(i.k_tiles), range(i.n_tiles)):
        reads |= _rows("stat", i.b_addr + k * i.b_k + n * i.b_n, i.b_row, tile, 1)
    if not i.finish:
        return reads, set()
    reads |= _span("stat", i.param, 8 * i.n_tiles)
    if i.activation:
        reads |= _span("table", 0, 1)
    observed = _observed(i, rows, i.n_tiles, i.out_stride, tile)
    return reads, _result(i, i.n_tiles) | observed


def _result(i: Instruction, n_tiles: int) -> Words:
    memory = "stat" if i.out_mode == OutMode.STAT8 else "act"
    words = _rows(memory, i.out_addr, i.out_stride, i.rows + 1, n_tiles)
    return words | (_span("rowstat", i.out_rowstat, i.rows + 1) if i.stats else set())


def _attention(i: Instruction, tile: int) -> tuple[Words, Words]:
    rows, keys = i.rows + 1, i.keys + 1
    tiles = -(-keys // tile)
    selection = _span("select", i.select, -(-rows // tile))
    if i.opcode == Opcode.SCORES:
        scores = _rows("act", i.s_addr, i.s_stride, rows, tiles)
        reads = _rows("act", i.q_addr, i.q_stride, rows, i.d_tiles)
        reads |= _span("stat", i.k_addr, keys * i.d_tiles)
        if filters.decode(i.filter, i.parameter).looks:
            # a partial tile is kept whatever its summary
            reads |= _span("summary", i.k_addr // tile, keys // tile * i.d_tiles)
        return reads, scores | _span("rowstat", i.rowstat, rows) | selection
    if i.opcode == Opcode.SOFTMAX:
        both, sums = (
            _rows("act", i.addr, i.stride, rows, tiles),
            _span("rowstat", i.out_rowstat, rows),
        )
        reads = both | selection | _span("rowstat", i.rowstat, rows)
        return reads | (sums if i.keep else set()), both | sums
    reads = _rows("act", i.p_addr, i.p_stride, rows, tiles) | selection
    reads |= _span("stat", i.v_addr, keys * i.d_tiles)
    if not i.finish:
        return reads, set()
    reads |= _span("rowstat", i.p_rowstat, rows) | _span("stat", i.param, 8 * i.d_tiles)
    return reads, _result(i, i.d_tiles)


def _norm(i: Instruction) -> tuple[Words, Words]:
    rows = i.rows + 1
    reads = _rows("act", i.y_addr, i.y_stride, rows, i.words)
    reads |= _span("vparam", 8 * i.param, 8 * i.words)
    if i.residual:
        reads |= _rows("act", i.x_addr, i.x_stride, rows, i.words)
    writes = _span("rowstat", i.rowstat, rows)
    for written, addr, stride in (
        (i.normalise, i.out_addr, i.out_stride),
        (i.sum, i.sum_addr, i.sum_stride),
    ):
        if written:
            writes |= _rows("act", addr, stride, rows, i.words)
    return reads, writes


def _elementwise(i: Instruction) -> tuple[Words, Words]:
    rows = i.rows + 1
    reads = _rows("act", i.y_addr, i.y_stride, rows, i.words)
    reads |= _rows("act", i.x_addr, i.x_stride, rows, i.words)
    writes = _rows("act", i.out_addr, i.out_stride, rows, i.words)
    return reads, writes | (_span("rowstat", i.rowstat, rows) if i.stats else set())


def footprint(i: Instruction, config: Config) -> tuple[Words, Words]:
    """What an instruction reads and writes. Left out is what its engine orders by itself: the
    accumulators, and row statistics that it adds to."""
    if i.opcode in (Opcode.LOAD, Opcode.STORE):
        return _transfer(i, config.tile)
    if i.opcode == Opcode.MATMUL:
        return _matmul(i, config.tile)
    if i.opcode == Opcode.ELEMENTWISE:
        return _elementwise(i)
    return _norm(i) if i.opcode == Opcode.NORM else _attention(i, config.tile)


def unordered(program: list[Instruction], config: Config) -> list[tuple[int, int]]:
    """Pairs of conflicting instructions (END left out) that no token keeps apart.

    Within one engine only a read after a write conflicts, and not in LOAD, whose reads are those of
    DRAM.
    """
    before = ends_before_starts(program, edges(program))
    touched = [footprint(i, config) for i in program]
    found = []
    for a, b in itertools.combinations(range(len(program)), 2):
        (reads_a, writes_a), (reads_b, writes_b) = touched[a], touched[b]
        if program[a].engine == program[b].engine:
            conflict = program[a].engine != Engine.LOAD and writes_a & reads_b
        else:
            conflict = writes_a & reads_b or reads_a & writes_b or writes_a & writes_b
        if conflict and not before[a, b]:
            found.append((a, b))
    return found


def unwritten(program: list[Instruction], config: Config) -> list[int]:
    """Instructions that read words on chip that none before them has written."""
    found, written = [], set()
    for index, i in enumerate(program):
        reads, writes = footprint(i, config)
        if any(word not in written for word in reads if not word[0].startswith("dram:")):
            found.append(index)
        written |= writes
    return found
