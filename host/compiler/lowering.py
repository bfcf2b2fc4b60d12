"""From a graph to tasks, in an order in which they could run one after the other."""

from __future__ import annotations

from collections.abc import Callable

from transept.golden.config import Config
from transept.golden.graph import Graph, Operator
from transept.golden.ops import Add, Linear, Multiply, Norm, Rotary
from transept.host.compiler.cut import Cut, Shape
from transept.host.compiler.homes import plan
from transept.host.compiler.layout import Layouts
from transept.host.compiler.lower.attention import lower_attention
from transept.host.compiler.lower.cached import lower_cached
from transept.host.compiler.lower.elementwise import lower_multiply, lower_rotary
from transept.host.compiler.lower.linear import lower_linear, lower_together
from transept.host.compiler.lower.norm import lower_norm
from transept.host.compiler.lower.scope import Scope
from transept.host.compiler.places import Places, row_blocks
from transept.host.compiler.segments import AttentionSegment, CachedSegment, RowSegment
from transept.host.compiler.tasks import Task
from transept.host.compiler.tensors import Tensor, tensors
from transept.host.compiler.weights import WeightImage

__all__ = ["lower"]

#: Operators that take one block of rows after the other.
ROW_WISE: dict[type, Callable[..., None]] = {
    Linear: lower_linear,
    Norm: lower_norm,
    Add: lower_norm,
    Multiply: lower_multiply,
    Rotary: lower_rotary,
}


def lower(
    graph: Graph, image: WeightImage, config: Config, shape: Shape, cut: Cut
) -> tuple[list[Task], dict[str, Tensor]]:
    """Tasks for one shape and cut, and the tensors in DRAM.

    Raises
    ------
    CompileError
        If an operator has no form on this accelerator, whatever the cut.
    """
    parts, homes = plan(graph, cut.spilled)
    places = tensors(graph, Layouts(graph, config), shape, cut.spilled)
    tasks: list[Task] = []
    rows = Places(graph, config, shape, homes, places, tasks)
    scope = Scope(graph, image, config, cut, rows, tasks)
    for first in range(0, shape.batch, cut.group):
        rows.begin(first, min(cut.group, shape.batch - first))
        ends = first == 0, first + cut.group >= shape.batch
        for part, largest in zip(parts, cut.rows, strict=True):
            if isinstance(part, AttentionSegment):
                lower_attention(scope, part, largest)
            elif isinstance(part, CachedSegment):
                lower_cached(scope, part)
            else:
                begins, closes = ends[0] and part is parts[0], ends[1] and part is parts[-1]
                _lower_rows(scope, part, largest, begins=begins, closes=closes)
    return tasks, places


def _lower_rows(
    scope: Scope, part: RowSegment, largest: int, *, begins: bool, closes: bool
) -> None:
    """One block of at most ``largest`` rows after the other through all operators of a segment;
    begins, closes: it is the first (last) of the program."""
    dims: dict[str, list[Operator]] = {}
    for op in part.ops:
        dims.setdefault(scope.graph.values[op.inputs[0]].dim, []).append(op)
    for ops in dims.values():
        blocks = row_blocks(scope.places.rows(ops[0].inputs[0]), largest, scope.config.tile)
        if scope.cut.together > 1:
            (op,) = ops
            assert isinstance(op, Linear)
            lower_together(scope, op, blocks)
            continue
        linears = [index for index, op in enumerate(ops) if isinstance(op, Linear)] or [len(ops)]
        for block in blocks:
            last = block is blocks[-1]
            for index, op in enumerate(ops):
                first_rows = begins and block is blocks[0] and index <= linears[0]
                scope.places.fine = first_rows or (closes and last and index >= linears[-1])
                ROW_WISE[type(op)](scope, op, block, last=last)
    scope.places.fine = False
