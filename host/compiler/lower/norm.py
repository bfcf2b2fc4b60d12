"""Norms and residual sums to tasks of the vector unit."""

from __future__ import annotations

from transept.golden.isa import Memory
from transept.golden.layouts import RECORD_BYTES
from transept.golden.ops import Add, Norm
from transept.host.compiler.errors import CompileError
from transept.host.compiler.lower.scope import Scope
from transept.host.compiler.places import RowBlock
from transept.host.compiler.tasks import NormTask, Rows, whole

__all__ = ["lower_norm"]


def lower_norm(scope: Scope, op: Norm | Add, block: RowBlock, *, last: bool) -> None:
    """One task for a block of rows.

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
    words, rows = places.words(op.y), block.rows
    param = _parameters(scope, op, words)
    y = places.read(op.y, block)
    x = None if op.x is None else places.read(op.x, block)
    out = places.write(op.out, block) if isinstance(op, Norm) else None
    total = None if op.sum is None else places.write(op.sum, block)
    reads = [y.use(rows, words), whole(param)]
    if x is not None:
        reads.append(x.use(rows, words))
    main = out or total
    assert main is not None
    writes = [part.use(rows, words) for part in (out, total) if part is not None]
    scope.tasks.append(
        NormTask(
            label=op.name,
            op=op,
            param=param,
            y=y,
            x=x,
            out=out,
            total=total,
            rows=rows,
            words=words,
            count=value.width,
            reads=reads,
            writes=[*writes, *main.maxima(rows)],
        )
    )
    for name in op.outputs:
        places.defined(name, block)


def _parameters(scope: Scope, op: Norm | Add, words: int) -> object:
    """The parameters' buffer; as many norms have theirs on chip at a time as fit."""
    config = scope.config
    slots = max(1, config.geometry.max_hidden // config.tile // words)
    block = scope.image.blocks[op.name]
    return scope.places.constant("vparam", slots, block, Memory.VPARAM, RECORD_BYTES)
