"""Operators of the quantised graph, one file each: what it computes, and nothing of how."""

from transept.golden.ops.attention import Attention
from transept.golden.ops.elementwise import Add
from transept.golden.ops.linear import Linear
from transept.golden.ops.norm import Norm

__all__ = ["OPERATORS", "Add", "Attention", "Linear", "Norm"]

#: Every operator by its name in program files.
OPERATORS = {op.__name__.lower(): op for op in (Linear, Norm, Attention, Add)}
