"""What every key filter says: which key tiles a block of queries computes, which keys of them."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar

from transept.golden.isa import Filter
from transept.golden.numerics.fixed import Array

__all__ = ["KeyFilter", "QueryBlock", "kept_tiles"]


@dataclass(frozen=True)
class QueryBlock:
    """One block of up to ``tile`` query rows, and the keys that it may see.

    position: of its first row in the sequence; key_base: position of the first key; keys: how many.
    For filters with ``looks`` also query_sum: int[d], the sum of its rows, and key_sums:
    int[key tiles, d], the sum of the keys of each tile (``key_sums``).
    """

    tile: int
    position: int
    keys: int
    key_base: int = 0
    query_sum: Array = None
    key_sums: Array = None

    @property
    def last_position(self) -> int:
        """Position of the last row of a full block; partial ones keep the same tiles."""
        return self.position + self.tile - 1

    def first_key(self, tile: int) -> int:
        """Position of the first key of a tile."""
        return self.key_base + tile * self.tile

    def partial(self, tile: int) -> bool:
        """Whether some keys of a tile do not exist."""
        return (tile + 1) * self.tile > self.keys


@dataclass(frozen=True)
class KeyFilter(abc.ABC):
    """A rule about keys; the fields of a subclass are its parameters."""

    kind: ClassVar[Filter]
    #: Whether it looks at the data, and not at positions alone.
    looks: ClassVar[bool] = False

    @property
    @abc.abstractmethod
    def parameter(self) -> int:
        """The 24-bit operand ``parameter`` of SCORES."""

    @classmethod
    @abc.abstractmethod
    def decode(cls, parameter: int) -> KeyFilter:
        """The filter with this operand; ValueError if it uses bits that have no meaning."""

    @abc.abstractmethod
    def keeps(self, block: QueryBlock, tile: int) -> bool:
        """Whether a block of queries computes a key tile."""

    def sees(self, query: Array, key: Array) -> Array:
        """Whether the query at one position sees a key of a kept tile at another one.

        Positions are integers or arrays that broadcast; True alone says that every query sees every
        key. Keys that do not exist are masked by whoever counts them.
        """
        return True


def kept_tiles(rule: KeyFilter, block: QueryBlock) -> list[int]:
    """Kept key tiles of one block, ascending.

    The hardware computes at least one tile: if none is kept, tile 0 with every key masked, so that
    no result depends on how the keys of a row are cut.
    """
    return [tile for tile in range(-(-block.keys // block.tile)) if rule.keeps(block, tile)]
