"""From a graph to tasks, in an order in which they could run one after the other."""

from __future__ import annotations

from transept.golden.config import Config
from transept.golden.graph import Graph, Operator
from transept.golden.ops import Add, Linear, Norm
from transept.host.compiler.cut import Cut, Shape
from transept.host.compiler.homes import Homes
from transept.host.compiler.lower.attention import lower_attention
from transept.host.compiler.lower.linear import lower_linear
from transept.host.compiler.lower.norm import lower_norm
from transept.host.compiler.lower.scope import Scope
from transept.host.compiler.places import Places, RowBlock, row_blocks
from transept.host.compiler.segments import AttentionSegment, RowSegment, segments
from transept.host.compiler.tasks import Task
from transept.host.compiler.tensors import Tensor, tensors
from transept.host.compiler.layout import Layouts
from transept.host.compiler.weights import WeightImage

__all__ = ["lower"]

#: Operators that take one block of rows after the other.
ROW_WISE = {Linear: lower_linear, Norm: lower_norm, Add: lower_norm}


def lower(
    graph: Graph, image: WeightImage, config: Config, shape: Shape, cut: Cut
) -> tuple[list[Task], dict[str, Tensor]]:
    """Tasks for one shape and cut, and the tensors in DRAM.

    Raises
    ------
    CompileError
        If an operator has no form on this accelerator, whatever the cut.
    """
    parts = segments(graph)
    places = tensors(graph, Layouts(graph, config), shape, cut.spilled)
    tasks: list[Task] = []
    homes = Homes(graph, parts, cut.spilled)
    rows = Places(graph, config, shape, homes, places, tasks)
    scope = Scope(graph, image, config, cut, rows, tasks)
    for first in range(0, shape.batch, cut.group):
        rows.begin(first, min(cut.group, shape.batch - first))
        for part in parts:
            if isinstance(part, AttentionSegment):
                lower_attention(scope, part)
            else:
                _lower_rows(scope, part)
    return tasks, places


def _lower_rows(scope: Scope, part: RowSegment) -> None:
    """One block of rows after the other through all operators of a segment."""
    dims: dict[str, list[Operator]] = {}
    for op in part.ops:
        dims.setdefault(scope.graph.values[op.inputs[0]].dim, []).append(op)
    for ops in dims.values():
        blocks = row_blocks(scope.places.rows(ops[0].inputs[0]), scope.cut.rows, scope.config.tile)
        for block in blocks:
            for op in ops:
                ROW_WISE[type(op)](scope, op, block, last=block is blocks[-1])
