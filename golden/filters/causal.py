"""The causal filter: keys up to the query's own position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from transept.golden.filters.rule import KeyFilter, QueryBlock
from transept.golden.isa import Filter
from transept.golden.numerics.fixed import Array

__all__ = ["Causal"]


@dataclass(frozen=True)
class Causal(KeyFilter):
    """``key <= query``; keeps the tiles that begin at or before the block's last row.

    No parameters.
    """

    kind: ClassVar[Filter] = Filter.CAUSAL

    @property
    def parameter(self) -> int:
        """0."""
        return 0

    @classmethod
    def decode(cls, parameter: int) -> Causal:
        """ValueError unless the parameter is 0."""
        if parameter:
            raise ValueError(f"filter CAUSAL has no parameter, got {parameter}")
        return cls()

    def keeps(self, block: QueryBlock, tile: int) -> bool:
        """Whether the tile begins at or before the block's last row."""
        return block.first_key(tile) <= block.last_position

    def sees(self, query: Array, key: Array) -> Array:
        """Whether the key is not after the query."""
        return key <= query
