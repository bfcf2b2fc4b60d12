"""Linear layers to products: the columns of some rows, with their weights streamed or resident."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from transept.golden.isa import AMode, Memory, OutMode
from transept.golden.ops import Linear
from transept.host.compiler.cut import COLUMNS_TOGETHER
from transept.host.compiler.errors import CompileError
from transept.host.compiler.lower.scope import Scope
from transept.host.compiler.places import RowBlock
from transept.host.compiler.tasks import Buffer, LoadBlock, Product, Rows, whole, written_keys
from transept.host.compiler.weights import ColumnTile

__all__ = ["lower_linear", "lower_together", "product"]

#: Other work may come between the parts of a product; a part takes at least so many cycles.
SHORTEST_PART = 4096
#: Share of the activation scratchpad that rows on their way to DRAM may fill.
WAITING_SHARE = 8
#: Pieces in which the last rows leave for DRAM, so that little is left after the last product.
LAST_PIECES = 4


def lower_linear(scope: Scope, op: Linear, block: RowBlock, *, last: bool) -> None:
    """Tasks for one block of rows; ``last``: no other block follows."""
    columns = scope.image.columns[op.name]
    a, places = scope.places.read(op.x, block), scope.places
    if not places.homes.passes(op.y):
        out = places.write(op.y, block)
        product(scope, op, columns, a, block.rows, out, _out_mode(scope, op))
        places.defined(op.y, block)
        return
    for start, stop in _pieces(scope, block, len(columns), last):
        out = places.piece(op.y, block, stop - start)
        product(scope, op, columns[start:stop], a, block.rows, out, _out_mode(scope, op))
        places.store(op.y, block, out, start, stop - start)


def lower_together(scope: Scope, op: Linear, blocks: Sequence[RowBlock]) -> None:
    """Tasks for all rows of a lone linear layer: as many blocks as fit the chip take columns of
    weights together, which then are read once for all of them. Where the next blocks begin, the
    last columns are still there: every other time the columns come in reverse order."""
    places, wave = scope.places, scope.cut.together
    columns = list(enumerate(scope.image.columns[op.name]))
    slots = scope.config.memories.stat_words // columns[0][1].words
    step = min(COLUMNS_TOGETHER, slots - 1)
    for number, first in enumerate(range(0, len(blocks), wave)):
        ordered = columns[::-1] if number % 2 else columns
        for start in range(0, len(ordered), step):
            part = ordered[start : start + step]
            for block in blocks[first : first + wave]:
                a = places.wait(op.x, block, wave)
                _together(scope, op, block, a, part, slots)


def _together(
    scope: Scope,
    op: Linear,
    block: RowBlock,
    a: Rows,
    columns: Sequence[tuple[int, ColumnTile]],
    slots: int,
) -> None:
    """Some columns for a block of rows, and their way to DRAM."""
    places, word = scope.places, min(index for index, _ in columns)
    out = places.piece(op.y, block, len(columns))
    for index, column in columns:
        whole_column = column.block(0, column.k_tiles)
        weights = places.constant(f"{op.name}.weights", slots, whole_column, Memory.STAT)
        part, mode = [(index - word, column)], _out_mode(scope, op)
        scope.tasks.append(_task(scope, op, part, a, block.rows, out, mode, None, [weights]))
    places.store(op.y, block, out, word, len(columns))


def _out_mode(scope: Scope, op: Linear) -> OutMode:
    return OutMode.ACT16 if scope.graph.values[op.y].bits == 16 else OutMode.ACT8


def _pieces(scope: Scope, block: RowBlock, words: int, last: bool) -> list[tuple[int, int]]:
    """Columns that leave for DRAM together."""
    largest = max(1, scope.config.act_words // WAITING_SHARE // block.rows)
    if last:
        largest = min(largest, -(-words // LAST_PIECES))
    parts = -(-words // largest)
    cuts = [index * words // parts for index in range(parts + 1)]
    return list(itertools.pairwise(cuts))


def product(
    scope: Scope,
    op: Linear,
    columns: Sequence[ColumnTile],
    a: Rows,
    rows: int,
    out: Rows,
    out_mode: OutMode,
    key_row: int | None = None,
) -> None:
    """Tasks for ``rows`` rows of these columns, the first of which is word 0 of ``out``.

    key_row: row in their sequence of the first of keys that a filter looks at.
    """
    passes = max(rows, scope.config.tile) * columns[0].k_tiles
    # what is on chip costs nothing to come back to; a column begins when it alone has arrived
    step = 1 if scope.cut.resident else max(1, -(-SHORTEST_PART // passes))
    for start in range(0, len(columns), step):
        part = list(enumerate(columns))[start : start + step]
        resident = _resident(scope, op, part) if scope.cut.resident else None
        scope.tasks.append(_task(scope, op, part, a, rows, out, out_mode, key_row, resident))


def _task(
    scope: Scope,
    op: Linear,
    columns: list[tuple[int, ColumnTile]],
    a: Rows,
    rows: int,
    out: Rows,
    out_mode: OutMode,
    key_row: int | None,
    resident: list[Buffer] | None,
) -> Product:
    if op.halves and not scope.config.blocks.halves:
        raise CompileError(f"{op.name} has rows of 15 bits, {scope.config.name} has no halves")
    dynamic = scope.graph.values[op.x].bits == 16
    reads = [a.use(rows, columns[0][1].k_tiles)]
    if dynamic:
        reads += a.maxima(rows)
    if resident is not None:
        reads += [whole(buffer) for buffer in resident]
    if op.table is not None:
        table = scope.places.constant("table", 1, scope.image.tables[op.name], Memory.TABLE)
        reads.append(whole(table))
    first, tile = out.column(columns[0][0]), scope.config.tile
    written = written_keys(first, rows, len(columns), key_row, tile)
    return Product(
        label=op.name,
        op=op,
        columns=columns,
        resident=resident,
        a=a,
        out=out,
        rows=rows,
        a_mode=AMode.DYNAMIC if dynamic else AMode.RAW,
        out_mode=out_mode,
        key_row=key_row,
        fine=scope.places.fine,
        reads=reads,
        writes=[written, *out.maxima(rows)],
    )


def _resident(scope: Scope, op: Linear, columns: list[tuple[int, ColumnTile]]) -> list[Buffer]:
    """The buffers of whole columns that stay on chip, loaded with their first use."""
    buffers = []
    for _, column in columns:
        block = column.block(0, column.k_tiles)
        if block not in scope.resident:
            scope.resident[block] = buffer = Buffer(f"{op.name}.weights", "stat", block.words)
            scope.tasks.append(
                LoadBlock(
                    label=op.name,
                    block=block,
                    to=buffer,
                    memory=Memory.STAT,
                    writes=[whole(buffer)],
                )
            )
        buffers.append(scope.resident[block])
    return buffers
