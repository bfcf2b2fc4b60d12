"""What a node of a torch graph is called with, whose types torch leaves open."""

from __future__ import annotations

from typing import Any

from torch import fx

__all__ = ["named", "operands"]


def operands(node: fx.Node) -> tuple[Any, ...]:
    """Positional operands: nodes, numbers, lists of them."""
    return node.args


def named(node: fx.Node, name: str, default: Any = None) -> Any:
    """A named operand, or what it is if it was left out."""
    return node.kwargs.get(name, default)
