"""Rows of values on chip: found where they are, loaded if they are not, stored if they must be."""

from __future__ import annotations

from dataclasses import dataclass

from transept.golden.config import Config
from transept.golden.graph import Graph
from transept.golden.isa import Memory
from transept.golden.ops import Linear
from transept.host.compiler.cut import MOST_PIECES, Shape
from transept.host.compiler.homes import Home, Homes
from transept.host.compiler.layout import Layouts
from transept.host.compiler.tasks import (
    Buffer,
    LoadBlock,
    LoadRows,
    Ring,
    Rows,
    StoreRows,
    Task,
    whole,
    written_keys,
)
from transept.host.compiler.tensors import Tensor
from transept.host.compiler.weights import Block

__all__ = ["Places", "RowBlock", "row_blocks"]


#: Pieces of rows on their way to DRAM: one is written and one leaves; more if they are small.
PIECES, SMALL_SHARE = 2, 8
#: Words of one load of rows, at most.
LOADED_WORDS = 384


@dataclass(frozen=True)
class RowBlock:
    """Consecutive rows of the group of sequences at hand."""

    start: int
    rows: int


def row_blocks(total: int, largest: int, step: int) -> list[RowBlock]:
    """The fewest nearly equal blocks of at most ``largest`` rows; all but the last are a multiple
    of ``step`` if that fits."""
    rows = -(-total // -(-total // largest))
    if -(-rows // step) * step <= largest:
        rows = -(-rows // step) * step
    return [RowBlock(start, min(rows, total - start)) for start in range(0, total, rows)]


class _Held:
    """A ring of buffers, found again by what they hold until their turn comes."""

    def __init__(self, name: str, slots: int) -> None:
        self.ring = Ring(name, slots)
        self._keys: list[object] = []

    def find(self, key: object) -> Buffer | None:
        """The buffer that holds ``key``, if it is still there."""
        recent = self._keys[-self.ring.slots :]
        if key not in recent:
            return None
        return self.ring.buffers[len(self._keys) - len(recent) + recent.index(key)]

    def forget(self, key: object) -> None:
        """What held ``key`` holds something else now."""
        self._keys = [None if held == key else held for held in self._keys]

    def open(self, key: object, memory: str, words: int, align: int = 1) -> Buffer:
        """A buffer for ``key``; the oldest one of the ring gives way."""
        self._keys.append(key)
        index = len(self.ring.buffers)
        return Buffer(f"{self.ring.name}.{index}", memory, words, align, self.ring)


class Places:
    """Rows of every value of a graph for one group of sequences after the other.

    tasks: loads and stores are appended here as they become necessary.
    """

    def __init__(
        self,
        graph: Graph,
        config: Config,
        shape: Shape,
        homes: Homes,
        tensors: dict[str, Tensor],
        tasks: list[Task],
    ) -> None:
        self.graph, self.config, self.shape, self.homes = graph, config, shape, homes
        self.layouts = Layouts(graph, config)
        self.tensors, self.tasks = tensors, tasks
        self.first = self.sequences = 0
        #: At the ends of a program, where nothing else can go on meanwhile, rows move in small
        #: parts.
        self.fine = False
        self._held: dict[str, _Held] = {}
        self._chip: dict[str, Rows] = {}
        self._block: dict[str, tuple[RowBlock, Rows]] = {}

    def begin(self, first: int, sequences: int) -> None:
        """The next group: ``sequences`` of the batch from ``first`` on."""
        self.first, self.sequences = first, sequences
        self._chip, self._block = {}, {}

    # --- sizes
    def rows(self, value: str) -> int:
        """Rows of a value in the group at hand."""
        return self.sequences * self.length(value)

    def length(self, value: str) -> int:
        """Rows of one sequence."""
        return self.shape.lengths[self.graph.values[value].dim]

    def words(self, value: str) -> int:
        """Words of a row."""
        return self.layouts[value].total

    def parts(self, rows: int) -> list[RowBlock]:
        """Rows of a block that are normalised or stored by one task."""
        return row_blocks(rows, self.config.tile if self.fine else rows, self.config.tile)

    def loads(self, rows: int, words: int) -> list[RowBlock]:
        """Rows of a block that one task loads: few, so that weights do not wait for long."""
        largest = max(1, LOADED_WORDS // words)
        return row_blocks(rows, min(largest, rows), 1)

    def held(self, name: str, slots: int) -> _Held:
        """The ring of that name, made when it is first asked for."""
        return self._held.setdefault(name, _Held(name, slots))

    # --- reading
    def read(self, value: str, block: RowBlock) -> Rows:
        """The rows of a block, loaded if they are not on chip."""
        if value in self._chip:
            return self._chip[value].row(block.start)
        held, rows = self._block.get(value, (None, None))
        if rows is not None and held == block:
            return rows
        return self._load(value, block)

    def wait(self, value: str, block: RowBlock, blocks: int) -> Rows:
        """The rows of a block of a value from DRAM, of which so many are on chip together, and the
        next one is loaded."""
        return self._load(value, block, blocks + 1)

    def _load(self, value: str, block: RowBlock, slots: int = 0) -> Rows:
        words, key = self.words(value), (self.first, block)
        held = self.held(f"{value}.in", slots or self.homes.turns(value, loaded=True))
        found = held.find(key)
        buffer = found or held.open(key, "act", block.rows * words)
        rows = Rows(buffer, words, stats=self._maxima(value, "in", block, held.ring.slots))
        if found is None:
            self.load_rows(value, block, 0, words, rows)
        return rows

    def load_rows(
        self,
        value: str,
        block: RowBlock,
        word: int,
        words: int,
        to: Rows,
        key_row: int | None = None,
    ) -> None:
        """Tasks that load some words of a block of rows."""
        tile = self.config.tile
        source = self.tensors[value].rows_from(self.first * self.length(value) + block.start)
        for part in self.loads(block.rows, words):
            here, rows = source.at(part.start, word, tile), to.row(part.start)
            first = None if key_row is None else key_row + part.start
            self.tasks.append(
                LoadRows(
                    label=value,
                    source=here,
                    to=rows,
                    rows=part.rows,
                    words=words,
                    key_row=first,
                    writes=[
                        written_keys(rows, part.rows, words, first, tile),
                        *rows.maxima(part.rows),
                    ],
                    dram_reads=[here.region(part.rows, words, tile)],
                )
            )

    # --- writing
    def write(self, value: str, block: RowBlock) -> Rows:
        """Where the rows of a block go."""
        operand = self.homes.in_place.get(value)
        if self.homes[value] == Home.CHIP:
            if value not in self._chip:
                self._chip[value] = self._chip[operand] if operand else self._open(value)
            return self._chip[value].row(block.start)
        if operand is None:
            key, words = (self.first, block), self.words(value)
            turns = self.homes.turns(value, loaded=False)
            buffer = self.held(f"{value}.out", turns).open(key, "act", block.rows * words)
            rows = Rows(buffer, words, stats=self._maxima(value, "out", block, turns))
        else:
            rows = self.read(operand, block)
            self._forget(operand, block)
        self._block[value] = (block, rows)
        return rows

    def _forget(self, value: str, block: RowBlock) -> None:
        """Its rows on chip are about to be overwritten."""
        self._block.pop(value, None)
        for name in (f"{value}.in", f"{value}.in.max"):
            if name in self._held:
                self._held[name].forget((self.first, block))

    def _open(self, value: str) -> Rows:
        rows = self.rows(value)
        stats = Buffer(f"{value}.max", "rowstat", rows) if self.homes.has_maxima(value) else None
        return Rows(Buffer(value, "act", rows * self.words(value)), self.words(value), stats=stats)

    def _maxima(self, value: str, way: str, block: RowBlock, turns: int) -> Buffer | None:
        """Statistics beside a block's buffer, which take turns as it does."""
        if not self.homes.has_maxima(value):
            return None
        held = self.held(f"{value}.{way}.max", turns)
        key = (self.first, block)
        return held.find(key) or held.open(key, "rowstat", block.rows)

    def store(self, value: str, block: RowBlock, source: Rows, word: int, words: int) -> None:
        """Tasks that store some words of a block of rows."""
        tile = self.config.tile
        target = self.tensors[value].rows_from(self.first * self.length(value) + block.start)
        producer = self.graph.producer(value)
        whole_block = [RowBlock(0, block.rows)]  # the array is done with all rows at the same time
        for part in whole_block if isinstance(producer, Linear) else self.parts(block.rows):
            there, rows = target.at(part.start, word, tile), source.row(part.start)
            self.tasks.append(
                StoreRows(
                    label=value,
                    target=there,
                    source=rows,
                    rows=part.rows,
                    words=words,
                    reads=[rows.use(part.rows, words)],
                    dram_writes=[there.region(part.rows, words, tile)],
                )
            )

    def piece(self, value: str, block: RowBlock, words: int) -> Rows:
        """Space for some words of a block of rows that go to DRAM and are read no more."""
        small = self.config.act_words // SMALL_SHARE // (block.rows * words)
        held = self.held(f"{value}.piece", min(max(PIECES, small), MOST_PIECES))
        return Rows(held.open(None, "act", block.rows * words), words)

    def defined(self, value: str, block: RowBlock) -> None:
        """A block has been written: store it if that is its way."""
        if self.homes.stored(value):
            self.store(value, block, self.read(value, block), 0, self.words(value))

    # --- constants
    def constant(
        self, name: str, slots: int, block: Block, memory: Memory, align: int = 1
    ) -> Buffer:
        """A buffer with a block of the weight image, loaded if it is not there."""
        held = self.held(name, slots)
        found = held.find(block)
        if found is None:
            found = held.open(block, memory.name.lower(), block.words, align)
            self.tasks.append(
                LoadBlock(label=name, block=block, to=found, memory=memory, writes=[whole(found)])
            )
        return found
