"""Sums of two values of the same rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from transept.host.front.matches import AddMatch
from transept.host.front.patterns.pair import pair_facts, whole_pair

if TYPE_CHECKING:
    from transept.host.front.matcher import Matcher


__all__ = ["match_add"]

aten = torch.ops.aten


def match_add(m: Matcher, node: fx.Node) -> AddMatch | None:
    """``y + x`` of which an operator defines at least one."""
    if node.target is not aten.add.Tensor or node.kwargs:
        return None
    pair = whole_pair(m, node)
    if pair is None:
        return None
    y, x = pair
    if str(y.value).startswith("%") and str(x.value).startswith("%"):
        return None
    if y.width < 2:  # the vector unit has no shorter rows
        return None
    # the compiler streams the first operand, and keeps the second, which is older
    made = {out: place for place, op in enumerate(m.matches) for out in op.outputs}
    if made.get(str(x.value), -1) > made.get(str(y.value), -1):
        y, x = x, y
    return AddMatch(**pair_facts(m, node, y, x, "sum"))
