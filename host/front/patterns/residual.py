"""Sums of two values of the same rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from transept.host.front.matches import AddMatch, Boundary
from transept.host.front.nodes import operands

if TYPE_CHECKING:
    from transept.host.front.matcher import Matcher


__all__ = ["match_add"]

aten = torch.ops.aten


def match_add(m: Matcher, node: fx.Node) -> AddMatch | None:
    """``y + x`` of which an operator defines at least one."""
    if node.target is not aten.add.Tensor or node.kwargs:
        return None
    first, second = operands(node)
    y, x = m.rows(first), m.rows(second)
    if y is None or x is None or m.values[first].shape != m.values[second].shape:
        return None
    if str(y.value).startswith("%") and str(x.value).startswith("%"):
        return None
    if y.width < 2:  # the vector unit has no shorter rows
        return None
    if not (y.whole and x.whole and len(y.rows) == len(x.rows) and (y.rows == x.rows).all()):
        return None
    # the compiler streams the first operand, and keeps the second, which is older
    made = {out: place for place, op in enumerate(m.matches) for out in op.outputs}
    if made.get(str(x.value), -1) > made.get(str(y.value), -1):
        y, x = x, y
    name = m.name(f"{m.module_of(node) or 'model'}.sum", m.turn(node, "sum"))
    codes = (y.rows[:, None] * y.width + torch.arange(y.width)).reshape(m.values[node].shape)
    return AddMatch(
        name=name,
        inputs=(str(y.value), str(x.value)),
        outputs=(name,),
        nodes=frozenset({node}),
        defines={name: Boundary(node, codes, len(y.rows), y.width)},
        module=m.module_of(node),
    )
