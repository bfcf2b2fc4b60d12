"""Products of two values of the same rows: what gates a feed-forward layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from transept.host.front.matches import Boundary, MultiplyMatch
from transept.host.front.nodes import operands

if TYPE_CHECKING:
    from transept.host.front.matcher import Matcher


__all__ = ["match_product"]

aten = torch.ops.aten


def match_product(m: Matcher, node: fx.Node) -> MultiplyMatch | None:
    """``y * x`` of two values that operators define."""
    if node.target is not aten.mul.Tensor:
        return None
    first, second = operands(node)
    y, x = m.rows(first), m.rows(second)
    if y is None or x is None or m.values[first].shape != m.values[second].shape:
        return None
    if str(y.value).startswith("%") or str(x.value).startswith("%") or y.value == x.value:
        return None
    if not (y.whole and x.whole and len(y.rows) == len(x.rows) and (y.rows == x.rows).all()):
        return None
    name = m.name(f"{m.module_of(node) or 'model'}.product", m.turn(node, "product"))
    codes = (y.rows[:, None] * y.width + torch.arange(y.width)).reshape(m.values[node].shape)
    return MultiplyMatch(
        name=name,
        inputs=(str(y.value), str(x.value)),
        outputs=(name,),
        nodes=frozenset({node}),
        defines={name: Boundary(node, codes, len(y.rows), y.width)},
        module=m.module_of(node),
    )
