"""Tasks, the unit between operators and instructions, and the buffers that they work on.

A task is one engine's work on some rows of an operator. It says which words of which buffers it
reads and writes; addresses come later. Tasks are made in an order in which they could run one after
the other, and ``order`` finds a better one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from transept.golden.isa import AMode, Engine, Memory, Operation, OutMode, RowScale, Window
from transept.golden.ops import Add, Attention, Linear, Norm
from transept.host.compiler.hazards import Region
from transept.host.compiler.pages import Kept
from transept.host.compiler.weights import Block, ColumnTile

__all__ = [
    "Buffer",
    "ContextPart",
    "ContextTask",
    "DramRows",
    "ElementwiseTask",
    "LoadBlock",
    "LoadNew",
    "LoadPages",
    "LoadRows",
    "NormTask",
    "Product",
    "Ring",
    "Rows",
    "ScoresTask",
    "SoftmaxTask",
    "StorePages",
    "StoreRows",
    "Task",
    "Use",
    "whole",
    "written_keys",
]


@dataclass(eq=False)
class Ring:
    """Buffers that take turns: at most ``slots`` of them are in use at a time."""

    name: str
    slots: int
    buffers: list[Buffer] = field(default_factory=list, repr=False)


@dataclass(eq=False)
class Buffer:
    """Consecutive words of one on-chip memory (entries, where it counts those).

    ``turn``: its number in its ring; ``addr`` is set by ``place``.
    """

    name: str
    memory: str
    words: int
    align: int = 1
    ring: Ring | None = None
    turn: int = field(default=0, init=False)
    addr: int = field(default=-1, init=False)

    def __post_init__(self) -> None:
        if self.ring is not None:
            self.turn = len(self.ring.buffers)
            self.ring.buffers.append(self)


class Use(NamedTuple):
    """Words of a buffer that a task touches; the region counts from the buffer's first word."""

    buffer: Buffer
    region: Region


class Rows(NamedTuple):
    """Rows of a value in a buffer, ``stride`` words apart; ``stats`` holds the maximum of each."""

    buffer: Buffer
    stride: int
    offset: int = 0
    stats: Buffer | None = None
    entry: int = 0

    def row(self, index: int) -> Rows:
        """The rows from ``index`` on."""
        return Rows(
            self.buffer,
            self.stride,
            self.offset + index * self.stride,
            self.stats,
            self.entry + index,
        )

    def column(self, word: int) -> Rows:
        """The rows from word ``word`` on."""
        return Rows(self.buffer, self.stride, self.offset + word, self.stats, self.entry)

    def use(self, rows: int, words: int) -> Use:
        """The first ``words`` words of ``rows`` rows."""
        stop = self.offset + (rows - 1) * self.stride + words
        if words >= self.stride or rows == 1:
            return Use(self.buffer, Region(self.buffer.memory, self.offset, stop))
        region = Region(self.buffer.memory, self.offset, stop, self.stride, words)
        return Use(self.buffer, region)

    def maxima(self, rows: int) -> list[Use]:
        """The statistics of ``rows`` rows; none if they are not kept."""
        if self.stats is None:
            return []
        return [Use(self.stats, Region("rowstat", self.entry, self.entry + rows))]

    @property
    def addr(self) -> int:
        """First word, once the buffer is placed."""
        return self.buffer.addr + self.offset

    @property
    def rowstat(self) -> int:
        """Entry of the first row's statistic, 0 if none is kept."""
        return 0 if self.stats is None else self.stats.addr + self.entry


def written_keys(keys: Rows, rows: int, words: int, key_row: int | None, tile: int) -> Use:
    """What a task takes that writes keys from row ``key_row`` of a sequence on: those before them
    in their tile too if a filter looks at them, for it adds up a tile in the order of its rows."""
    begun = 0 if key_row is None else key_row % tile
    return keys.row(-begun).use(rows + begun, words)


def whole(buffer: Buffer) -> Use:
    """All of a buffer."""
    return Use(buffer, Region(buffer.memory, 0, buffer.words))


@dataclass(frozen=True)
class DramRows:
    """Rows in a DRAM window: byte offset of the first, distance in bytes, bytes of an element."""

    window: Window
    offset: int
    pitch: int
    element: int = 2

    def at(self, row: int, word: int, tile: int) -> DramRows:
        """The rows from ``row`` and ``word`` on."""
        offset = self.offset + row * self.pitch + word * tile * self.element
        return DramRows(self.window, offset, self.pitch, self.element)

    def region(self, rows: int, words: int, tile: int) -> Region:
        """Bytes of ``rows`` rows of ``words`` words, as hazards see them."""
        width = words * tile * self.element
        stop = self.offset + (rows - 1) * self.pitch + width
        memory = f"dram:{self.window.name}"
        if width >= self.pitch or rows == 1:
            return Region(memory, self.offset, stop)
        return Region(memory, self.offset, stop, self.pitch, width)


@dataclass(eq=False, kw_only=True)
class Task:
    """One engine's work; ``label`` names the operator that it belongs to."""

    label: str
    reads: list[Use] = field(default_factory=list, repr=False)
    writes: list[Use] = field(default_factory=list, repr=False)
    #: bytes of DRAM that are read and written, for hazards between spills
    dram_reads: list[Region] = field(default_factory=list, repr=False)
    dram_writes: list[Region] = field(default_factory=list, repr=False)

    @property
    def engine(self) -> Engine:
        """The engine that runs it."""
        return ENGINES[type(self)]


@dataclass(eq=False, kw_only=True)
class LoadRows(Task):
    """Rows of a tensor to the activation or, as int8, to the stationary scratchpad.

    key_row: row in their sequence of the first of keys that a filter looks at, else None.
    """

    source: DramRows
    to: Rows
    rows: int
    words: int
    key_row: int | None = None


@dataclass(eq=False, kw_only=True)
class StoreRows(Task):
    """Rows of the activation scratchpad to a tensor."""

    target: DramRows
    source: Rows
    rows: int
    words: int


@dataclass(eq=False, kw_only=True)
class LoadBlock(Task):
    """A block of the weight image to all of a buffer."""

    block: Block
    to: Buffer
    memory: Memory


@dataclass(eq=False, kw_only=True)
class LoadPages(Task):
    """Earlier rows of one head of a state, page by page from page ``first`` of a sequence on, each
    as far as it is filled; in_all: pages of a sequence."""

    kept: Kept
    head: int
    sequence: int
    to: Rows
    words: int
    first: int
    pages: int
    in_all: int


@dataclass(eq=False, kw_only=True)
class LoadNew(Task):
    """New rows of one head of a state, in ``parts`` parts from part ``first`` of a sequence on;
    in_all: parts of a sequence; rows: all of them."""

    kept: Kept
    head: int
    sequence: int
    to: Rows
    words: int
    first: int
    parts: int
    in_all: int
    rows: int


@dataclass(eq=False, kw_only=True)
class StorePages(Task):
    """New rows of one head to their pages in ``parts`` parts; head None: one row of all heads."""

    kept: Kept
    head: int | None
    sequence: int
    source: Rows
    words: int
    parts: int
    rows: int


@dataclass(eq=False, kw_only=True)
class Product(Task):
    """Some columns of a linear layer for some rows.

    columns: (word of ``out``, column); resident: a buffer for each of them, None if their weights
    are streamed; fine: as in ``block_tiles``. Row maxima are collected if ``out`` keeps them.
    key_row: as in ``LoadRows``.
    """

    op: Linear
    columns: list[tuple[int, ColumnTile]]
    resident: list[Buffer] | None
    a: Rows
    out: Rows
    rows: int
    a_mode: AMode
    out_mode: OutMode
    key_row: int | None = None
    fine: bool = False

    def joins(self, other: Product) -> bool:
        """Whether the rows of ``other`` come before or behind its own, in and out: one instruction
        could do both."""
        same = self.op is other.op and self.columns == other.columns
        behind = other.a == self.a.row(self.rows) and other.out == self.out.row(self.rows)
        before = self.a == other.a.row(other.rows) and self.out == other.out.row(other.rows)
        return same and (behind or before)

    @property
    def row_scale(self) -> RowScale:
        """A row that was quantised dynamically comes back by its maximum."""
        return RowScale.ROW_MAX if self.a_mode == AMode.DYNAMIC else RowScale.ONE


@dataclass(eq=False, kw_only=True)
class ScoresTask(Task):
    """Scores of a head for some queries; ``sequence`` of ``dim``: whose length bounds the keys.

    key_base: the first key; chunk: which one of all chunks of cached keys these are, counted over
    all sequences, None if keys are not cached; from_start: rows of the first query behind those
    that a sequence with cached keys had before.
    """

    op: Attention
    head: int
    q: Rows
    k: Rows
    s: Rows
    select: Buffer
    rows: int
    keys: int
    position: int
    d_tiles: int
    dim: str
    sequence: int
    key_base: int = 0
    chunk: int | None = None
    from_start: int | None = None


@dataclass(eq=False, kw_only=True)
class SoftmaxTask(Task):
    """Probabilities in place of scores; sums: rows whose statistics get the sums, those of s itself
    by default."""

    op: Attention
    s: Rows
    select: Buffer
    rows: int
    keys: int
    position: int
    dim: str
    sequence: int
    key_base: int = 0
    chunk: int | None = None
    sums: Rows | None = None


@dataclass(frozen=True, eq=False)
class ContextPart:
    """Which part of the keys a context adds: ``before`` is the task of those before them, and no
    other product may come between the two."""

    accumulate: bool = False
    finish: bool = True
    before: ContextTask | None = None


@dataclass(eq=False, kw_only=True)
class ContextTask(Task):
    """Probabilities times values of one head; ``first``: the row maxima start with it."""

    op: Attention
    p: Rows
    v: Rows
    select: Buffer
    param: Buffer
    param_word: int
    out: Rows
    rows: int
    keys: int
    position: int
    d_tiles: int
    dim: str
    sequence: int
    first: bool
    key_base: int = 0
    chunk: int | None = None
    part: ContextPart = field(default_factory=ContextPart)


@dataclass(eq=False, kw_only=True)
class NormTask(Task):
    """A norm, a residual sum, or both, of some rows. ``out`` and ``total`` may be absent."""

    op: Norm | Add
    param: Buffer
    y: Rows
    x: Rows | None
    out: Rows | None
    total: Rows | None
    rows: int
    words: int
    count: int


@dataclass(eq=False, kw_only=True)
class ElementwiseTask(Task):
    """Sums or products of the elements of two rows, shifted and saturated; the maxima of the rows
    are collected if ``out`` keeps them."""

    operation: Operation
    y: Rows
    x: Rows
    out: Rows
    rows: int
    words: int
    count: int
    shift: int
    out_mode: OutMode


ENGINES: dict[type[Task], Engine] = {
    LoadRows: Engine.LOAD,
    LoadBlock: Engine.LOAD,
    LoadPages: Engine.LOAD,
    LoadNew: Engine.LOAD,
    StorePages: Engine.STORE,
    StoreRows: Engine.STORE,
    Product: Engine.GEMM,
    ScoresTask: Engine.GEMM,
    ContextTask: Engine.GEMM,
    SoftmaxTask: Engine.SOFTMAX,
    NormTask: Engine.VECTOR,
    ElementwiseTask: Engine.VECTOR,
}
