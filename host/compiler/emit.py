"""Placed tasks to instructions, with what each reads and writes for the tokens."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from transept.golden.config import Config
from transept.golden.isa import AMode, Engine, Memory, Opcode, OutMode, Window
from transept.golden.layouts import RECORD_BYTES
from transept.golden.numerics.norm import inverse_count
from transept.golden.ops import Norm
from transept.host.compiler.hazards import Assembly, Region
from transept.host.compiler.link import Patch
from transept.host.compiler.pages import (
    CHUNK_BASE,
    CHUNK_KEYS,
    NEW_ROW,
    NEW_ROWS,
    PAGE,
    PAGE_FILL,
    PAGE_ROWS,
    START,
    STORED_ROW,
    STORED_ROWS,
    new_at,
    stored_at,
)
from transept.host.compiler.stream import LoadStep, Step, TaskStep
from transept.host.compiler.tasks import (
    ContextTask,
    DramRows,
    ElementwiseTask,
    LoadBlock,
    LoadNew,
    LoadPages,
    LoadRows,
    NormTask,
    Product,
    Rows,
    ScoresTask,
    SoftmaxTask,
    StorePages,
    StoreRows,
    Task,
    Use,
)
from transept.host.compiler.weights import Block, ColumnTile, block_tiles

__all__ = ["emit"]


#: Blocks of weights that are loaded before they are used, at most, and blocks of one turn of their
#: ring: each gives a token, to the array and back, and an engine counts no more than
#: ``isa.TOKEN_LIMIT`` of another one's.
BLOCKS_AHEAD, BLOCKS_A_TURN = 128, 160


class _WeightRing:
    """Stationary words that weight blocks take in turn. A block keeps its words until the last
    instruction that uses it is in the program, so that whatever takes them waits for it."""

    def __init__(self, start: int, stop: int) -> None:
        self._start, self._stop, self._next = start, stop, start
        self._taken: deque[tuple[int, int]] = deque()
        self._turn = 0  # blocks of this turn so far

    @property
    def words(self) -> int:
        """Size of the ring."""
        return self._stop - self._start

    @property
    def taken(self) -> int:
        """Blocks that are in it."""
        return len(self._taken)

    def take(self, words: int) -> int | None:
        """First word of the next block; None while an earlier block has it."""
        goes_on = self._next + words <= self._stop and self._turn < BLOCKS_A_TURN
        first = self._next if goes_on else self._start
        if any(start < first + words and first < stop for start, stop in self._taken):
            return None
        self._next, self._turn = first + words, self._turn + 1 if goes_on else 1
        self._taken.append((first, self._next))
        return first

    def release(self) -> None:
        """The oldest block is used no more."""
        self._taken.popleft()


def emit(
    program: Iterable[Step], config: Config, reserve: int, tallies: Mapping[str, int]
) -> tuple[Assembly, list[Patch]]:
    """Instructions of placed tasks, and what changes in them from run to run.

    reserve: stationary words below the weight ring; tallies: the counter of every operator's
    clipped elements.
    """
    emitter = _Emitter(config, reserve, tallies)
    for step in program:
        emitter.step(step)
    return emitter.assembly, emitter.patches


class _Stationary(NamedTuple):
    """One block of a column in the stationary scratchpad; ``n``: word of the result."""

    n: int
    start: int
    k_tiles: int
    last: bool
    addr: int
    words: int
    packed: bool


class _Emitter:
    def __init__(self, config: Config, reserve: int, tallies: Mapping[str, int]) -> None:
        self._config, self._tile, self._tallies = config, config.tile, tallies
        self.assembly = Assembly()
        self.patches: list[Patch] = []
        self._ring = _WeightRing(reserve, config.memories.stat_words)
        self._blocks_of: dict[Product, list[tuple[int, ColumnTile, int, int, Block]]] = {}
        self._waiting: deque[TaskStep] = deque()  # blocks of weights whose turn has come
        self._loaded: dict[TaskStep, _Stationary] = {}

    def step(self, step: Step) -> None:
        """Instructions of one task, or of one block of products that share their weights."""
        if isinstance(step, LoadStep):
            self._waiting.append(step.step)
            self._load_waiting()
            return
        task = step.slots[0].task
        if isinstance(task, Product):
            self._products(step)
        else:
            _EMIT[type(task)](self, task)

    def _emit(self, task: Task, opcode: Opcode, operands: dict[str, int]) -> int:
        """One instruction that is a whole task."""
        reads = [*_regions(task.reads), *task.dram_reads]
        writes = [*_regions(task.writes), *task.dram_writes]
        return self.assembly.emit(
            task.engine, opcode, task.label, operands, reads=reads, writes=writes
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
            "packed": 0,
            **self._observation(task.to, task.key_row),
        }
        self._emit(task, Opcode.LOAD, operands)

    def _store_rows(self, task: StoreRows) -> None:
        operands = self._dram(task.target, task.rows, task.words) | {
            "memory": Memory[task.source.buffer.memory.upper()],
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
            "packed": int(block.packed),
            "memory": memory,
            "wide": 0,
            "stats": 0,
            "addr": addr,
            "stride": 0,
            "rowstat": 0,
            **_UNSEEN,
        }

    def _observation(self, keys: Rows, row: int | None) -> dict[str, int]:
        """How key filters see rows that are written from row ``row`` of a sequence on.

        Keys begin at a multiple of ``tile`` words and have one summary for each ``tile`` words.
        """
        if row is None:
            return _UNSEEN
        first = keys.addr - row * keys.stride
        return {
            "observe": 1,
            "phase": row % self._tile,
            "summary": first // self._tile + row // self._tile * keys.stride,
        }

    # --- pages
    def _load_pages(self, task: LoadPages) -> None:
        place = task.kept.head(task.head)
        for page in range(task.pages):
            to = task.to.row(page * PAGE_ROWS)
            index = self._kept_load(task, to, PAGE_ROWS, place, [to.use(PAGE_ROWS, task.words)])
            number = task.sequence * task.in_all + task.first + page
            self._patch(index, "offset", PAGE, number, offset=place)
            self._patch(index, "words", PAGE_FILL, number, scale=task.words)

    def _load_new(self, task: LoadNew) -> None:
        place, size = task.kept.head(task.head), task.kept.row_bytes
        for part in range(task.parts):
            index = self._kept_load(task, task.to, 1, place, task.writes)
            number = task.sequence * task.in_all + task.first + part
            self._patch(index, "offset", new_at(size), number, offset=place)
            self._patch(index, "words", NEW_ROWS, number, scale=task.words)
            self._patch(index, "addr", NEW_ROW, number, task.words, task.to.addr)

    def _kept_load(
        self, task: LoadPages | LoadNew, to: Rows, rows: int, place: int, writes: Sequence[Use]
    ) -> int:
        """Rows of one head, which are contiguous in their page and on chip."""
        return self.assembly.emit(
            Engine.LOAD,
            Opcode.LOAD,
            task.label,
            self._block(Block(place, rows * task.words), Memory.STAT, to.addr)
            | {"window": Window.SCRATCH},
            reads=task.dram_reads,
            writes=_regions(writes),
        )

    def _store_pages(self, task: StorePages) -> None:
        kept, source = task.kept, task.source
        for part in range(task.parts):
            rows, head = (kept.heads, 0) if task.head is None else (1, task.head)
            stride = task.words if task.head is None else source.stride
            pitch = PAGE_ROWS * task.words if task.head is None else task.words
            place = kept.head(head)
            operands = {
                "window": Window.SCRATCH,
                "offset": place,
                "pitch": pitch,
                "rows": rows,
                "words": task.words,
                "memory": Memory.ACT,
                "wide": 0,
                "addr": source.addr,
                "stride": stride,
            }
            index = self._emit(task, Opcode.STORE, operands)
            number = task.sequence * task.parts + part
            self._patch(index, "offset", stored_at(kept.row_bytes), number, offset=place)
            if task.head is not None:
                self._patch(index, "rows", STORED_ROWS, number)
                self._patch(index, "addr", STORED_ROW, number, source.stride, source.addr)

    def _patch(
        self, index: int, operand: str, symbol: str, number: int, scale: int = 1, offset: int = 0
    ) -> None:
        self.patches.append(Patch(index, operand, symbol, number, scale, offset))

    # --- products
    def _load_waiting(self) -> None:
        """Load blocks of weights, in their order, as far as the ring has room."""
        while self._waiting and self._ring.taken < BLOCKS_AHEAD:
            step = self._waiting[0]
            task = step.slots[0].task
            assert isinstance(task, Product)
            n, column, start, k_tiles, block = self._blocks(task)[step.block]
            addr = self._ring.take(block.words)
            if addr is None:
                return
            self._waiting.popleft()
            self.assembly.emit(
                Engine.LOAD,
                Opcode.LOAD,
                task.label,
                self._block(block, Memory.STAT, addr),
                writes=[Region("stat", addr, addr + block.words)],
            )
            last = start + k_tiles == column.k_tiles
            self._loaded[step] = _Stationary(
                n, start, k_tiles, last, addr, block.words, block.packed
            )

    def _blocks(self, task: Product) -> list[tuple[int, ColumnTile, int, int, Block]]:
        """Every block of every column: (word of the result, column, first tile, tiles, words)."""
        if task not in self._blocks_of:
            tiles = block_tiles(self._ring.words, self._tile, task.rows, fine=task.fine)
            self._blocks_of[task] = [
                (n, column, *block) for n, column in task.columns for block in column.blocks(tiles)
            ]
        return self._blocks_of[task]

    def _products(self, step: TaskStep) -> None:
        """One block for every task's rows, those together that lie together."""
        task = step.slots[0].task
        assert isinstance(task, Product)
        if task.resident is not None:
            for (n, column), buffer in zip(task.columns, task.resident, strict=True):
                k_tiles, words = column.k_tiles, column.words
                block = _Stationary(n, 0, k_tiles, True, buffer.addr, words, column.packed)
                self._matmul(task, column.k_tiles, block)
            return
        block = self._loaded.pop(step)
        tasks = [slot.task for slot in step.slots]
        for merged in _merged(tasks):  # type: ignore[arg-type]
            self._matmul(merged, task.columns[0][1].k_tiles, block)
        self._ring.release()
        self._load_waiting()

    def _matmul(self, task: Product, k_tiles: int, block: _Stationary) -> None:
        """One block of one column; the last block finishes it."""
        a, out, rows, last = task.a, task.out, task.rows, block.last
        reads, writes = [a.use(rows, k_tiles)], []
        if task.a_mode == AMode.DYNAMIC:
            reads += a.maxima(rows)
        if last:
            writes = [out.column(block.n).use(rows, 1), *out.maxima(rows)]
        activated = last and task.op.table is not None
        collects = last and out.stats is not None
        seen = self._observation(out, task.key_row) if last else _UNSEEN
        if seen["observe"]:
            seen = seen | {"summary": seen["summary"] + block.n}
        operands = {
            "rows": rows - 1,
            "k_tiles": block.k_tiles,
            "n_tiles": 1,
            "accumulate": int(block.start > 0),
            "finish": int(last),
            "a_addr": a.addr + block.start,
            "a_stride": a.stride,
            "a_mode": task.a_mode,
            "halves": int(task.op.halves),
            "a_rowstat": a.rowstat,
            "b_addr": block.addr,
            "b_row": 1,
            "b_k": self._tile,
            "b_n": 0,
            "b_transposed": int(block.packed),
            "param": block.addr + block.k_tiles * self._tile if last else 0,
            "out_addr": out.addr + block.n,
            "out_stride": out.stride,
            "out_mode": task.out_mode,
            "activation": int(activated),
            "row_scale": task.row_scale,
            "stats": int(collects),
            "stats_keep": int(collects and block.n > 0),
            "out_rowstat": out.rowstat,
            "pre": 0,
            "row_shift": task.op.row_shift,
            "out_shift": task.op.out_shift,
            "tally": self._tally(task.label),
            **seen,
        }
        self.assembly.emit(
            Engine.GEMM,
            Opcode.MATMUL,
            task.label,
            operands,
            reads=[
                *_regions(reads),
                Region("stat", block.addr, block.addr + block.words),
                *([Region("table", 0, 1)] if activated else []),
            ],
            writes=_regions(writes),
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
                "key_base": task.key_base,
                "keys": task.keys - 1,
                "d_tiles": task.d_tiles,
                "q_addr": task.q.addr,
                "q_stride": task.q.stride,
                "k_addr": task.k.addr,
                "s_addr": task.s.addr,
                "s_stride": task.s.stride,
                "rowstat": task.s.rowstat,
                "stats_keep": int(task.key_base > 0),
                "select": task.select.addr,
                "filter": op.filter.kind,
                "parameter": op.filter.parameter,
                "multiplier": int(op.score_multiplier[task.head]),
                "channel_shift": int(op.score_shift[task.head]),
                "row_shift": op.score_row_shift,
                "tally": self._tally(task.label),
            },
        )
        self._keys(index, task)
        if task.chunk is not None and task.from_start is not None:
            self._patch(index, "position", START, task.sequence, offset=task.from_start)
            self._patch(index, "key_base", CHUNK_BASE, task.chunk)

    def _softmax(self, task: SoftmaxTask) -> None:
        sums = task.sums or task.s
        index = self._emit(
            task,
            Opcode.SOFTMAX,
            {
                "rows": task.rows - 1,
                "keys": task.keys - 1,
                "addr": task.s.addr,
                "stride": task.s.stride,
                "rowstat": task.s.rowstat,
                "out_rowstat": sums.rowstat,
                "keep": int(task.key_base > 0),
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
                "accumulate": int(task.part.accumulate),
                "finish": int(task.part.finish),
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
                "tally": self._tally(task.label),
            },
        )
        self._keys(index, task)

    def _keys(self, index: int, task: ScoresTask | SoftmaxTask | ContextTask) -> None:
        """The number of keys is the length of the sequence at run time; of a chunk, what it has."""
        if task.chunk is None:
            self._patch(index, "keys", task.dim, task.sequence, offset=-1)
        else:
            self._patch(index, "keys", CHUNK_KEYS, task.chunk, offset=-1)

    # --- vector unit
    def _norm(self, task: NormTask) -> None:
        op, x, out, total = task.op, task.x, task.out, task.total
        main = out or total
        assert main is not None
        self._emit(
            task,
            Opcode.NORM,
            {
                "rows": task.rows - 1,
                "words": task.words,
                "count": task.count,
                "residual": int(x is not None),
                "centre": int(isinstance(op, Norm) and op.centre),
                "normalise": int(out is not None),
                "sum": int(total is not None),
                "y_addr": task.y.addr,
                "y_stride": task.y.stride,
                "x_addr": x.addr if x else 0,
                "x_stride": x.stride if x else 0,
                "out_addr": out.addr if out else 0,
                "out_stride": out.stride if out else 0,
                "sum_addr": total.addr if total else 0,
                "sum_stride": total.stride if total else 0,
                "rowstat": main.rowstat,
                "param": task.param.addr // RECORD_BYTES,
                "inverse_count": inverse_count(task.count),
                "epsilon": op.epsilon if isinstance(op, Norm) else 0,
                "out_shift": op.out_shift if isinstance(op, Norm) else 0,
                "tally": self._tally(task.label),
            },
        )

    def _elementwise(self, task: ElementwiseTask) -> None:
        y, x, out = task.y, task.x, task.out
        self._emit(
            task,
            Opcode.ELEMENTWISE,
            {
                "rows": task.rows - 1,
                "words": task.words,
                "count": task.count,
                "shift": task.shift,
                "y_addr": y.addr,
                "y_stride": y.stride,
                "x_addr": x.addr,
                "x_stride": x.stride,
                "out_addr": out.addr,
                "out_stride": out.stride,
                "tally": self._tally(task.label),
                "out_mode": task.out_mode,
                "stats": int(out.stats is not None),
                "operation": task.operation,
                "rowstat": out.rowstat,
            },
        )

    def _tally(self, label: str) -> int:
        """The counter of an operator's clipped elements."""
        return self._tallies[label]


#: What key filters do not look at.
_UNSEEN = {"observe": 0, "phase": 0, "summary": 0}

_EMIT: dict[type[Task], Callable[[_Emitter, Any], None]] = {
    LoadRows: _Emitter._load_rows,
    LoadBlock: _Emitter._load_block,
    LoadPages: _Emitter._load_pages,
    LoadNew: _Emitter._load_new,
    StorePages: _Emitter._store_pages,
    StoreRows: _Emitter._store_rows,
    ScoresTask: _Emitter._scores,
    SoftmaxTask: _Emitter._softmax,
    ContextTask: _Emitter._context,
    NormTask: _Emitter._norm,
    ElementwiseTask: _Emitter._elementwise,
}


def _regions(uses: Iterable[Use]) -> list[Region]:
    """What placed uses touch."""
    found = []
    for use in uses:
        memory, start, stop, stride, width = use.region
        addr = use.buffer.addr
        found.append(Region(memory, start + addr, stop + addr, stride, width))
    return found


def _merged(tasks: list[Product]) -> list[Product]:
    """Products of the same columns; those whose rows follow each other become one."""
    merged: list[Product] = []
    for task in sorted(tasks, key=lambda task: task.a.offset):
        last = merged[-1] if merged else None
        if (
            last is not None
            and task.a == last.a.row(last.rows)
            and task.out == last.out.row(last.rows)
        ):
            merged[-1] = dataclasses.replace(last, rows=last.rows + task.rows)
        else:
            merged.append(task)
    return merged
