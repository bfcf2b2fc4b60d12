"""Operators on the elements of two values of the same rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from transept.host.front.matches import Boundary
from transept.host.front.nodes import operands
from transept.host.front.views import Rows

if TYPE_CHECKING:
    from transept.host.front.matcher import Matcher


__all__ = ["pair_facts", "whole_pair"]


def whole_pair(m: Matcher, node: fx.Node) -> tuple[Rows, Rows] | None:
    """Both operands as whole rows of values, the same ones in the same order; None if they are
    none."""
    first, second = operands(node)[:2]
    y, x = m.rows(first), m.rows(second)
    if y is None or x is None or m.values[first].shape != m.values[second].shape:
        return None
    same = len(y.rows) == len(x.rows) and bool((y.rows == x.rows).all())
    return (y, x) if y.whole and x.whole and same else None


def pair_facts(m: Matcher, node: fx.Node, y: Rows, x: Rows, kind: str) -> dict[str, Any]:
    """What a match of the operator says of itself; its result lies as its operands do."""
    name = m.name(f"{m.module_of(node) or 'model'}.{kind}", m.turn(node, kind))
    codes = (y.rows[:, None] * y.width + torch.arange(y.width)).reshape(m.values[node].shape)
    return {
        "name": name,
        "inputs": (str(y.value), str(x.value)),
        "outputs": (name,),
        "nodes": frozenset({node}),
        "defines": {name: Boundary(node, codes, len(y.rows), y.width)},
        "module": m.module_of(node),
    }
