"""Norms and residual sums to tasks of the vector unit."""

from __future__ import annotations

from transept.golden.isa import Memory
from transept.golden.layouts import RECORD_BYTES
from transept.golden.ops import Add, Norm
from transept.host.compiler.errors import CompileError
from transept.host.compiler.lower.scope import Scope
from transept.host.compiler.places import RowBlock
from transept.host.compiler.tasks import Buffer, NormTask, Rows, whole

__all__ = ["lower_norm"]


def lower_norm(scope: Scope, op: Norm | Add, block: RowBlock, *, last: bool) -> None:
    """One task for a block of rows, or two where a norm and its sum both need their maxima.

    Raises
    ------
    CompileError
        If a row is longer than the vector unit takes.
    """
    places, value = scope.places, scope.graph.values[op.y]
    limit = scope.config.geometry.max_hidden
    if value.width > limit:
        raise CompileError(
            f"rows of {op.name} have {value.width} elements, "
            f"{scope.config.name} normalises up to {limit}"
        )
    words = places.words(op.y)
    param = _parameters(scope, op)
    y = places.read(op.y, block)
    x = None if op.x is None else places.read(op.x, block)
    out = places.write(op.out, block) if isinstance(op, Norm) else None
    total = None if op.sum is None else places.write(op.sum, block)
    results = [(out, None), (None, total)] if places.homes.in_two(op) else [(out, total)]
    for part in places.parts(block.rows):
        for made in results:
            sums = [None if rows is None else rows.row(part.start) for rows in made]
            other = None if x is None else x.row(part.start)
            scope.tasks.append(
                _task(
                    op,
                    param,
                    y.row(part.start),
                    other,
                    *sums,
                    rows=part.rows,
                    words=words,
                    count=value.width,
                )
            )
    for name in op.outputs:
        places.defined(name, block)


def _task(
    op: Norm | Add,
    param: Buffer,
    y: Rows,
    x: Rows | None,
    out: Rows | None,
    total: Rows | None,
    *,
    rows: int,
    words: int,
    count: int,
) -> NormTask:
    main = out or total
    assert main is not None
    reads = [part.use(rows, words) for part in (y, x) if part is not None]
    writes = [part.use(rows, words) for part in (out, total) if part is not None]
    return NormTask(
        label=op.name,
        op=op,
        param=param,
        y=y,
        x=x,
        out=out,
        total=total,
        rows=rows,
        words=words,
        count=count,
        reads=[*reads, whole(param)],
        writes=[*writes, *main.maxima(rows)],
    )


def _parameters(scope: Scope, op: Norm | Add) -> Buffer:
    """The parameters' buffer; as many norms have theirs on chip at a time as surely fit."""
    norms = [op.y for op in scope.graph.ops if isinstance(op, Norm | Add)]
    widest = max(scope.places.words(value) for value in norms)
    slots = max(1, scope.config.geometry.max_hidden // scope.config.tile // widest)
    block = scope.image.blocks[op.name]
    return scope.places.constant("vparam", slots, block, Memory.VPARAM, RECORD_BYTES)
