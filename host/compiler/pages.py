"""Keys and values of earlier rows: pages in window SCRATCH, and what a program is told of them.

A page has ``PAGE_ROWS`` rows of every state of a graph, state after state and head by head, so that
the keys of one head are contiguous. Programs know where a state lies in a page; which pages a
sequence has, and how far they are filled, is patched into them before every run (``kept_symbols``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transept.golden.graph import Graph
from transept.golden.ops import Append
from transept.host.compiler.layout import Layouts

__all__ = [
    "PAGE_ROWS",
    "Kept",
    "PageLayout",
    "chunk_parts",
    "first_new_chunk",
    "kept_symbols",
    "page_layout",
    "pages_touched",
]

#: Rows of a page.
PAGE_ROWS = 16
#: A page begins at a multiple of this: bursts of DRAM like it.
ALIGN = 64

#: First position of a chunk that has no rows: no query sees it.
NOWHERE = 1 << 15

# Symbols of one sequence, numbered by chunk, by page, or by part: rows that are new and lie in one
# page.
START = "kept.start"  # rows of the sequence before those that are new
CHUNK_KEYS, CHUNK_BASE = "chunk.keys", "chunk.base"  # its rows, at least 1; its first one
PAGE, PAGE_FILL = "kept.page", "kept.rows"  # where a page begins; its rows, at least 1
STORED_ROW, STORED_ROWS = "stored.row", "stored.rows"  # first of a part in what is new; how many
NEW_ROW, NEW_ROWS = "new.row", "new.rows"  # first of a part in its chunk of keys; how many


def stored_at(row_bytes: int) -> str:
    """Where a part is stored, in a state whose rows of a head have so many bytes."""
    return f"stored.at.{row_bytes}"


def new_at(row_bytes: int) -> str:
    """Where a part of a chunk is loaded from."""
    return f"new.at.{row_bytes}"


@dataclass(frozen=True)
class Kept:
    """One state in a page: byte of its first head, heads, and bytes of a head's row."""

    offset: int
    heads: int
    row_bytes: int

    def head(self, index: int) -> int:
        """Byte of a head."""
        return self.offset + index * PAGE_ROWS * self.row_bytes


@dataclass(frozen=True)
class PageLayout:
    """Where every state lies in a page, by the name of its output; bytes of a page."""

    states: Mapping[str, Kept]
    nbytes: int


def page_layout(graph: Graph, layouts: Layouts) -> PageLayout:
    """The pages of a graph."""
    states: dict[str, Kept] = {}
    end = 0
    for op in graph.ops:
        if isinstance(op, Append):
            segments = layouts[op.out]
            states[op.out] = kept = Kept(end, segments.count, segments.words * segments.tile)
            end = kept.head(kept.heads)
    return PageLayout(states, -(-end // ALIGN) * ALIGN)


def pages_touched(rows: int) -> int:
    """Pages that so many new rows lie in at most, wherever they begin."""
    return (rows + PAGE_ROWS - 2) // PAGE_ROWS + 1


def first_new_chunk(batch: int, context: int, rows: int, chunk: int) -> int:
    """The first chunk of keys that may have new rows, of those that ``context`` rows are cut into.
    A sequence that is alone has one in the last chunk at least; others may be shorter."""
    if batch > 1:
        return 0
    chunks = -(-context // chunk)
    return max(0, ((chunks - 1) * chunk + 1 - rows) // chunk)


def chunk_parts(rows: int, chunk: int) -> int:
    """Parts of new rows in one chunk at most."""
    return min(pages_touched(rows), chunk // PAGE_ROWS)


def kept_symbols(
    start: int,
    rows: int,
    pages: Sequence[int],
    *,
    batch: int,
    most_rows: int,
    context: int,
    chunk: int,
    row_bytes: Sequence[int],
) -> dict[str, list[int]]:
    """Every symbol of one sequence.

    start: rows before the ``rows`` new ones; pages: where its pages begin in window SCRATCH, enough
    for all rows; batch, most_rows, context: those of the shape; chunk: rows of a chunk of keys;
    row_bytes: every size that a head's row has. Instructions that a sequence has no need of do
    again what others have done, or what no query sees: every run has the same ones.
    """
    table = _Table(pages, row_bytes)
    for page in range(-(-context // PAGE_ROWS)):
        filled = min(PAGE_ROWS, start - page * PAGE_ROWS)
        table.page(page if filled > 0 else 0, max(1, filled))
    parts = _parts(start, rows)
    for position, count in _filled_up(parts, pages_touched(most_rows), (start, 1)):
        table.stored(position, position - start, count)
    earliest = first_new_chunk(batch, context, most_rows, chunk)
    for number in range(-(-context // chunk)):
        first = number * chunk
        has = max(0, min(chunk, start + rows - first))
        table.chunk(max(1, has), first if has else NOWHERE)
        if number < earliest:
            continue
        here = [part for part in parts if first <= part[0] < first + chunk]
        base = first if has else 0  # of a chunk without rows, row 0 of the sequence
        again = (here[0][0] if here else base, 1)
        for position, count in _filled_up(here, chunk_parts(most_rows, chunk), again):
            table.new(position, position - base, count)
    return {START: [start], **table.symbols}


def _parts(start: int, rows: int) -> list[tuple[int, int]]:
    """(position, rows) of what is new, page by page."""
    found = []
    while rows:
        count = min(rows, PAGE_ROWS - start % PAGE_ROWS)
        found.append((start, count))
        start, rows = start + count, rows - count
    return found


def _filled_up(
    parts: list[tuple[int, int]], count: int, again: tuple[int, int]
) -> list[tuple[int, int]]:
    return [*parts, *[again] * (count - len(parts))]


class _Table:
    def __init__(self, pages: Sequence[int], row_bytes: Sequence[int]) -> None:
        self._pages, self._row_bytes = pages, row_bytes
        names = [
            CHUNK_KEYS,
            CHUNK_BASE,
            PAGE,
            PAGE_FILL,
            STORED_ROW,
            STORED_ROWS,
            NEW_ROW,
            NEW_ROWS,
        ]
        names += [name(size) for size in row_bytes for name in (stored_at, new_at)]
        self.symbols: dict[str, list[int]] = {name: [] for name in names}

    def chunk(self, keys: int, base: int) -> None:
        """One chunk of keys."""
        self.symbols[CHUNK_KEYS].append(keys)
        self.symbols[CHUNK_BASE].append(base)

    def page(self, page: int, rows: int) -> None:
        """One page with the rows of it that are loaded."""
        self.symbols[PAGE].append(self._pages[page])
        self.symbols[PAGE_FILL].append(rows)

    def stored(self, position: int, row: int, rows: int) -> None:
        """A part that is stored."""
        self.symbols[STORED_ROW].append(row)
        self.symbols[STORED_ROWS].append(rows)
        for size in self._row_bytes:
            self.symbols[stored_at(size)].append(self._place(position, size))

    def new(self, position: int, row: int, rows: int) -> None:
        """A part that is loaded into its chunk."""
        self.symbols[NEW_ROW].append(row)
        self.symbols[NEW_ROWS].append(rows)
        for size in self._row_bytes:
            self.symbols[new_at(size)].append(self._place(position, size))

    def _place(self, position: int, row_bytes: int) -> int:
        page, slot = divmod(position, PAGE_ROWS)
        return self._pages[page] + slot * row_bytes
