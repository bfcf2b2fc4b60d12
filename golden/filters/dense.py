"""The dense filter: every key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from transept.golden.filters.rule import KeyFilter, QueryBlock
from transept.golden.isa import Filter

__all__ = ["Dense"]


@dataclass(frozen=True)
class Dense(KeyFilter):
    """Keeps every key tile. No parameters."""

    kind: ClassVar[Filter] = Filter.DENSE

    @property
    def parameter(self) -> int:
        """0."""
        return 0

    @classmethod
    def decode(cls, parameter: int) -> Dense:
        """ValueError unless the parameter is 0."""
        if parameter:
            raise ValueError(f"filter DENSE has no parameter, got {parameter}")
        return cls()

    def keeps(self, block: QueryBlock, tile: int) -> bool:
        """Always."""
        return True
