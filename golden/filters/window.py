"""The window filter: keys near the query (Longformer, Beltagy et al. 2020; Mistral, 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from transept.golden.filters.rule import KeyFilter, QueryBlock
from transept.golden.isa import Filter
from transept.golden.numerics.fixed import Array

__all__ = ["REACH_BITS", "Window"]

#: Bits of either reach in the parameter.
REACH_BITS = 12


@dataclass(frozen=True)
class Window(KeyFilter):
    """``query - before <= key <= query + after``; keeps the tiles that touch any row's window.

    before, after: 0 to 4095. A causal sliding window of n keys has before = n - 1 and after = 0.

    Raises
    ------
    ValueError
        If a reach is outside its limits.
    """

    kind: ClassVar[Filter] = Filter.WINDOW

    before: int
    after: int

    def __post_init__(self) -> None:
        for name, reach in (("before", self.before), ("after", self.after)):
            if not 0 <= reach < 1 << REACH_BITS:
                raise ValueError(f"window {name}={reach} is outside 0 to {(1 << REACH_BITS) - 1}")

    @property
    def parameter(self) -> int:
        """``before`` in the lower half, ``after`` in the upper one."""
        return self.before | self.after << REACH_BITS

    @classmethod
    def decode(cls, parameter: int) -> Window:
        """The inverse of ``parameter``."""
        return cls(before=parameter & ((1 << REACH_BITS) - 1), after=parameter >> REACH_BITS)

    def keeps(self, block: QueryBlock, tile: int) -> bool:
        """Whether the tile lies neither after the last window nor before the first one."""
        first, last = block.first_key(tile), block.first_key(tile + 1) - 1
        return first <= block.last_position + self.after and last >= block.position - self.before

    def sees(self, query: Array, key: Array) -> Array:
        """Whether the key is in the query's window."""
        return (key >= query - self.before) & (key <= query + self.after)
