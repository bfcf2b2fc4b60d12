"""Operators of the quantised graph, one file each: what it computes, and nothing of how."""

from transept.golden.ops.attention import Attention
from transept.golden.ops.cache import Append, CachedAttention
from transept.golden.ops.elementwise import Add, Multiply
from transept.golden.ops.linear import Linear
from transept.golden.ops.norm import Norm
from transept.golden.ops.rotary import Rotary

__all__ = [
    "OPERATORS",
    "Add",
    "Append",
    "Attention",
    "CachedAttention",
    "Linear",
    "Multiply",
    "Norm",
    "Rotary",
]

#: Every operator by its name in program files; a graph with states is made of one without.
OPERATORS = {op.__name__.lower(): op for op in (Linear, Norm, Attention, Add, Multiply, Rotary)}
