"""Products of two values of the same rows: what gates a feed-forward layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from transept.host.front.matches import MultiplyMatch
from transept.host.front.patterns.pair import pair_facts, whole_pair

if TYPE_CHECKING:
    from transept.host.front.matcher import Matcher


__all__ = ["match_product"]

aten = torch.ops.aten


def match_product(m: Matcher, node: fx.Node) -> MultiplyMatch | None:
    """``y * x`` of two values that operators define."""
    if node.target is not aten.mul.Tensor:
        return None
    pair = whole_pair(m, node)
    if pair is None:
        return None
    y, x = pair
    if str(y.value).startswith("%") or str(x.value).startswith("%") or y.value == x.value:
        return None
    return MultiplyMatch(**pair_facts(m, node, y, x, "product"))
