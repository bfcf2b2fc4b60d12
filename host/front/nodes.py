"""What a node of a torch graph is called with, whose types torch leaves open."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

__all__ = ["drops_nothing", "named", "operands"]


def operands(node: fx.Node) -> tuple[Any, ...]:
    """Positional operands: nodes, numbers, lists of them."""
    return node.args


def drops_nothing(node: fx.Node) -> bool:
    """Whether a node is a dropout that is not in training."""
    dropout = node.target is torch.ops.aten.dropout.default
    return dropout and (not operands(node)[2] or not operands(node)[1])


def named(node: fx.Node, name: str, default: Any = None) -> Any:
    """A named operand, or what it is if it was left out."""
    return node.kwargs.get(name, default)
