"""What a node of a torch graph is called with, whose types torch leaves open."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

__all__ = ["drops_nothing", "is_fixed", "mark_fixed", "named", "operands"]


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


def mark_fixed(graph: fx.Graph) -> None:
    """Let every node know whether it ``is_fixed``."""
    for node in graph.nodes:
        drawn = torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
        if node.op != "call_function":
            fixed = node.op == "get_attr"
        elif drawn and not drops_nothing(node):
            fixed = False
        else:
            fixed = all(is_fixed(n) for n in node.all_input_nodes)
        node.meta["fixed"] = fixed


def is_fixed(node: object) -> bool:
    """Whether a value does not depend on any input of the graph, nor on chance."""
    return not isinstance(node, fx.Node) or node.meta["fixed"]
