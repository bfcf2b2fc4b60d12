"""Placed tasks to instructions, with what each reads and writes for the tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from transept.golden.config import Config
from transept.golden.isa import AMode, Engine, Memory, Opcode, OutMode, Window
from transept.golden.layouts import RECORD_BYTES
from transept.golden.numerics.norm import inverse_count
from transept.golden.ops import Norm
from transept.host.compiler.hazards import Assembly, Region
from transept.host.compiler.link import Patch
from transept.host.compiler.stream import Group
from transept.host.compiler.tasks import (
    ContextTask,
    DramRows,
    LoadBlock,
    LoadRows,
    NormTask,
    Product,
    ScoresTask,
    SoftmaxTask,
    StoreRows,
    Task,
    Use,
)
from transept.host.compiler.weights import Block, ColumnTile

__all__ = ["emit"]

#: Tiles of one weight block at most, and blocks that fit the ring at least.
LARGEST_BLOCK, BLOCKS = 24, 4


class _WeightRing:
    """Stationary words that weight blocks take in turn."""

    def __init__(self, start: int, stop: int) -> None:
        self._start, self._stop, self._next = start, stop, start

    @property
    def words(self) -> int:
        """Size of the ring."""
        return self._stop - self._start

    def take(self, words: int) -> int:
        """First word of the next block."""
        if self._next + words > self._stop:
            self._next = self._start
        taken = self._next
        self._next += words
        return taken


def emit(program: Iterable[Group], config: Config, reserve: int) -> tuple[Assembly, list[Patch]]:
    """Instructions of placed tasks, and what changes in them from run to run.

    reserve: stationary words below the weight ring.
    """
    emitter = _Emitter(config, reserve)
    for group in program:
        emitter.group(group)
    return emitter.assembly, emitter.patches


class _Emitter:
    def __init__(self, config: Config, reserve: int) -> None:
        self._config, self._tile = config, config.tile
        self.assembly = Assembly()
        self.patches: list[Patch] = []
        self._ring = _WeightRing(reserve, config.memories.stat_words)

    def group(self, group: Group) -> None:
        """Instructions of one task, or of products that share their weights."""
        task = group[0].task
        if isinstance(task, Product):
            self._products([slot.task for slot in group])  # type: ignore[misc]
        else:
            _EMIT[type(task)](self, task)

    def _emit(self, task: Task, opcode: Opcode, operands: dict[str, int]) -> int:
        """One instruction that is a whole task."""
        return self.assembly.emit(
            task.engine,
            opcode,
            task.label,
            reads=[*_regions(task.reads), *task.dram_reads],
            writes=[*_regions(task.writes), *task.dram_writes],
            **operands,
        )

    # --- loads and stores
    def _load_rows(self, task: LoadRows) -> None:
        memory = Memory[task.to.buffer.memory.upper()]
        operands = self._dram(task.source, task.rows, task.words) | {
            "memory": memory,
            "wide": int(task.source.element == 2),
            "stats": int(task.to.stats is not None),
            "addr": task.to.addr,
            "stride": task.to.stride,
            "rowstat": task.to.rowstat,
        }
        self._emit(task, Opcode.LOAD, operands)

    def _store_rows(self, task: StoreRows) -> None:
        operands = self._dram(task.target, task.rows, task.words) | {
            "wide": int(task.target.element == 2),
            "addr": task.source.addr,
            "stride": task.source.stride,
        }
        self._emit(task, Opcode.STORE, operands)

    def _dram(self, place: DramRows, rows: int, words: int) -> dict[str, int]:
        return {
            "window": place.window,
            "offset": place.offset,
            "pitch": place.pitch // self._tile,
            "rows": rows,
            "words": words,
        }

    def _load_block(self, task: LoadBlock) -> None:
        self._emit(task, Opcode.LOAD, self._block(task.block, task.memory, task.to.addr))

    def _block(self, block: Block, memory: Memory, addr: int) -> dict[str, int]:
        return {
            "window": Window.WEIGHTS,
            "offset": block.offset,
            "pitch": 0,
            "rows": 1,
            "words": block.words,
            "memory": memory,
            "wide": 0,
            "stats": 0,
            "addr": addr,
            "stride": 0,
            "rowstat": 0,
        }

    # --- products
    def _products(self, tasks: list[Product]) -> None:
        """Column by column: its weights, then every task's rows, those together that lie together."""
        tasks = _merged(tasks, self._config.geometry.max_rows)
        chunk = self._chunk()
        for index, (n, column) in enumerate(tasks[0].columns):
            if tasks[0].resident is not None:
                addr = tasks[0].resident[index].addr
                blocks = [(0, column.k_tiles, addr, column.words)]
            else:
                blocks = [self._stream(tasks[0].label, *part) for part in column.blocks(chunk)]
            for task in tasks:
                for block in blocks:
                    self._matmul(task, n, column, *block)

    def _chunk(self) -> int:
        """Tiles of one weight block: it is one LOAD, and at least four fit the ring."""
        room = (self._ring.words // BLOCKS - RECORD_BYTES) // self._tile
        return max(1, min(LARGEST_BLOCK, room))

    def _stream(
        self, label: str, start: int, k_tiles: int, block: Block
    ) -> tuple[int, int, int, int]:
        """Load one block into the ring: (first k tile, k tiles, address, words)."""
        addr = self._ring.take(block.words)
        self.assembly.emit(
            Engine.LOAD,
            Opcode.LOAD,
            label,
            writes=[Region("stat", addr, addr + block.words)],
            **self._block(block, Memory.STAT, addr),
        )
        return start, k_tiles, addr, block.words

    def _matmul(
        self,
        task: Product,
        n: int,
        column: ColumnTile,
        start: int,
        k_tiles: int,
        addr: int,
        words: int,
    ) -> None:
        """One block of one column; the last block finishes it."""
        last = start + k_tiles == column.k_tiles
        a, out, rows = task.a, task.out, task.rows
        reads = [a.use(rows, column.k_tiles)]
        writes = []
        if task.a_mode == AMode.DYNAMIC:
            reads += a.maxima(rows)
        if last:
            writes = [out.column(n).use(rows, 1), *out.maxima(rows)]
        collects = last and out.stats is not None
        self.assembly.emit(
            Engine.GEMM,
            Opcode.MATMUL,
            task.label,
            reads=[
                *_regions(reads),
                Region("stat", addr, addr + words),
                *([Region("table", 0, 1)] if last and task.op.table is not None else []),
            ],
            writes=_regions(writes),
            rows=rows - 1,
            k_tiles=k_tiles,
            n_tiles=1,
            accumulate=int(start > 0),
            finish=int(last),
            a_addr=a.addr + start,
            a_stride=a.stride,
            a_mode=task.a_mode,
            a_rowstat=a.rowstat,
            b_addr=addr,
            b_row=1,
            b_k=self._tile,
            b_n=0,
            b_transposed=0,
            param=addr + k_tiles * self._tile if last else 0,
            out_addr=out.addr + n,
            out_stride=out.stride,
            out_mode=task.out_mode,
            observe=0,
            activation=int(task.op.table is not None),
            row_scale=task.row_scale,
            stats=int(collects),
            stats_keep=int(collects and n > 0),
            out_rowstat=out.rowstat,
            pre=0,
            row_shift=task.op.row_shift,
            out_shift=task.op.out_shift,
        )

    # --- attention
    def _scores(self, task: ScoresTask) -> None:
        op = task.op
        index = self._emit(
            task,
            Opcode.SCORES,
            {
                "rows": task.rows - 1,
                "position": task.position,
                "keys": task.keys - 1,
                "d_tiles": task.d_tiles,
                "q_addr": task.q.addr,
                "q_stride": task.q.stride,
                "k_addr": task.k.addr,
                "s_addr": task.s.addr,
                "s_stride": task.s.stride,
                "rowstat": task.s.rowstat,
                "select": task.select.addr,
                "filter": op.filter,
                "threshold": op.threshold,
                "multiplier": int(op.score_multiplier[task.head]),
                "channel_shift": int(op.score_shift[task.head]),
                "row_shift": op.score_row_shift,
            },
        )
        self._keys(index, task)

    def _softmax(self, task: SoftmaxTask) -> None:
        index = self._emit(
            task,
            Opcode.SOFTMAX,
            {
                "rows": task.rows - 1,
                "keys": task.keys - 1,
                "addr": task.s.addr,
                "stride": task.s.stride,
                "rowstat": task.s.rowstat,
                "select": task.select.addr,
            },
        )
        self._keys(index, task)

    def _context(self, task: ContextTask) -> None:
        op, collects = task.op, task.out.stats is not None
        index = self._emit(
            task,
            Opcode.CONTEXT,
            {
                "rows": task.rows - 1,
                "keys": task.keys - 1,
                "d_tiles": task.d_tiles,
                "p_addr": task.p.addr,
                "p_stride": task.p.stride,
                "v_addr": task.v.addr,
                "p_rowstat": task.p.rowstat,
                "select": task.select.addr,
                "param": task.param.addr + task.param_word,
                "out_addr": task.out.addr,
                "out_stride": task.out.stride,
                "out_mode": OutMode.ACT16,
                "stats": int(collects),
                "stats_keep": int(collects and not task.first),
                "out_rowstat": task.out.rowstat,
                "pre": 0,
                "row_shift": op.context_row_shift,
                "out_shift": op.context_out_shift,
            },
        )
        self._keys(index, task)

    def _keys(self, index: int, task: ScoresTask | SoftmaxTask | ContextTask) -> None:
        """The number of keys is the length of the sequence at run time."""
        self.patches.append(Patch(index, "keys", task.dim, task.sequence, offset=-1))

    # --- vector unit
    def _norm(self, task: NormTask) -> None:
        op, x, out = task.op, task.x, task.out or task.total
        assert out is not None
        self._emit(
            task,
            Opcode.NORM,
            {
                "rows": task.rows - 1,
                "words": task.words,
                "count": task.count,
                "residual": int(x is not None),
                "y_addr": task.y.addr,
                "y_stride": task.y.stride,
                "x_addr": x.addr if x else 0,
                "x_stride": x.stride if x else 0,
                "out_addr": out.addr,
                "out_stride": out.stride,
                "rowstat": out.rowstat,
                "param": task.param.addr // RECORD_BYTES,
                "inverse_count": inverse_count(task.count),
                "epsilon": op.epsilon if isinstance(op, Norm) else 0,
                "out_shift": op.out_shift if isinstance(op, Norm) else 0,
            },
        )


_EMIT = {
    LoadRows: _Emitter._load_rows,
    LoadBlock: _Emitter._load_block,
    StoreRows: _Emitter._store_rows,
    ScoresTask: _Emitter._scores,
    SoftmaxTask: _Emitter._softmax,
    ContextTask: _Emitter._context,
    NormTask: _Emitter._norm,
}


def _regions(uses: Iterable[Use]) -> list[Region]:
    """What placed uses touch."""
    return [
        use.region._replace(
            start=use.region.start + use.buffer.addr, stop=use.region.stop + use.buffer.addr
        )
        for use in uses
    ]


def _merged(tasks: list[Product], max_rows: int) -> list[Product]:
    """Products of the same columns; those whose rows follow each other become one."""
    merged: list[Product] = []
    for task in sorted(tasks, key=lambda task: task.a.offset):
        last = merged[-1] if merged else None
        if (
            last is not None
            and task.a == last.a.row(last.rows)
            and task.out == last.out.row(last.rows)
            and last.rows + task.rows <= max_rows
        ):
            merged[-1] = dataclasses.replace(last, rows=last.rows + task.rows)
        else:
            merged.append(task)
    return merged
