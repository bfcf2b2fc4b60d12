"""Products of elements and rotary embeddings to tasks of the vector unit."""

from __future__ import annotations

from typing import NamedTuple

from transept.golden.isa import Opcode, Operation, OutMode
from transept.golden.numerics.elementwise import ROTARY_SHIFT
from transept.golden.ops import Multiply, Rotary
from transept.golden.rules import longest_row
from transept.host.compiler.errors import CompileError
from transept.host.compiler.lower.scope import Scope
from transept.host.compiler.places import RowBlock
from transept.host.compiler.tasks import ElementwiseTask, Rows

__all__ = ["lower_multiply", "lower_rotary"]


def lower_multiply(scope: Scope, op: Multiply, block: RowBlock, *, last: bool) -> None:
    """One task for a block of rows.

    Raises
    ------
    CompileError
        If the accelerator has no products of elements, or a row is too long for an instruction.
    """
    places, count = scope.places, scope.graph.values[op.y].width
    _check(scope, op, count)
    y, x, out = places.read(op.y, block), places.read(op.x, block), places.write(op.out, block)
    mode = OutMode.ACT8 if scope.graph.values[op.out].bits == 8 else OutMode.ACT16
    for part in places.parts(block.rows):
        here = _Operands(*(rows.row(part.start) for rows in (y, x, out)))
        _append(scope, op, Operation.PRODUCT, here, part.rows, count, op.shift, mode)
    places.defined(op.out, block)


def lower_rotary(scope: Scope, op: Rotary, block: RowBlock, *, last: bool) -> None:
    """Products and their sum, for all rows of a head or, if those are fewer, all heads of a row.

    Raises
    ------
    CompileError
        If the accelerator has no products of elements, or half a head is not made of whole words.
    """
    places, tile, width = scope.places, scope.config.tile, scope.graph.values[op.cos].width
    _check(scope, op, width)
    if width % (2 * tile):
        raise CompileError(
            f"{op.name} has heads of {width} elements, half of which are no whole words of {tile}"
        )
    words, stride = width // tile, places.words(op.x)
    x, cos, sin = (places.read(name, block) for name in op.inputs)
    ring = places.held("rotary", 2)
    direct = Rows(ring.open(None, "act", block.rows * stride), stride)
    out = places.write(op.out, block)
    if block.rows >= op.heads or op.heads > scope.config.geometry.max_rows:
        for first in range(0, stride, words):
            x_head, direct_head, out_head = (part.column(first) for part in (x, direct, out))
            strip = _Strip(x_head, direct_head, out_head, cos, sin)
            _rotate(scope, op, strip, block.rows, words)
    else:
        for row in range(block.rows):
            x_row, direct_row, out_row = (_apart(part, row, words) for part in (x, direct, out))
            strip = _Strip(x_row, direct_row, out_row, _apart(cos, row, 0), _apart(sin, row, 0))
            _rotate(scope, op, strip, op.heads, words)
    places.defined(op.out, block)


class _Operands(NamedTuple):
    """Operands and result of one instruction."""

    y: Rows
    x: Rows
    out: Rows


class _Strip(NamedTuple):
    """Rows of one head's width: what is rotated, its products with the cosines, the result, and the
    rows of cosines and sines."""

    x: Rows
    direct: Rows
    out: Rows
    cos: Rows
    sin: Rows


def _apart(rows: Rows, row: int, stride: int) -> Rows:
    """One row as several that are ``stride`` words apart: those of its heads, or itself."""
    return Rows(rows.buffer, stride, rows.row(row).offset)


def _rotate(scope: Scope, op: Rotary, strip: _Strip, rows: int, words: int) -> None:
    """The products of the partners go where the sum will be."""
    x, direct, out, cos, sin = strip
    tile, half = scope.config.tile, words // 2
    product, wide = Operation.PRODUCT, OutMode.ACT16
    steps = [(product, _Operands(x, cos, direct), words, ROTARY_SHIFT, wide)]
    for here, there in ((0, half), (half, 0)):
        crossed = _Operands(x.column(there), sin.column(here), out.column(here))
        steps.append((product, crossed, half, ROTARY_SHIFT, wide))
    steps.append((Operation.SUM, _Operands(direct, out, out), words, op.shift, OutMode.ACT8))
    for operation, operands, length, shift, mode in steps:
        _append(scope, op, operation, operands, rows, length * tile, shift, mode)


def _append(
    scope: Scope,
    op: Multiply | Rotary,
    operation: Operation,
    operands: _Operands,
    rows: int,
    count: int,
    shift: int,
    mode: OutMode,
) -> None:
    words = -(-count // scope.config.tile)
    y, x, out = operands
    scope.tasks.append(
        ElementwiseTask(
            label=op.name,
            operation=operation,
            y=y,
            x=x,
            out=out,
            rows=rows,
            words=words,
            count=count,
            shift=shift,
            out_mode=mode,
            reads=[y.use(rows, words), x.use(rows, words)],
            writes=[out.use(rows, words), *out.maxima(rows)],
        )
    )


def _check(scope: Scope, op: Multiply | Rotary, count: int) -> None:
    config, most = scope.config, longest_row(scope.config)
    if not config.has(Opcode.ELEMENTWISE):
        raise CompileError(f"{op.name} multiplies elements, {config.name} has no such block")
    if count > most:
        raise CompileError(f"rows of {op.name} have {count} elements, an instruction takes {most}")
