"""The tile-threshold filter: key tiles whose estimated scores are large enough.

The estimate is the dot product of two sums, that of the query rows of a block and that of the keys
of a tile: sixteen times the mean score, unscaled. Sums of keys are kept on chip, one *summary* of
``tile`` columns for each word of a key and each key tile. They are made as the keys are written,
by instructions with ``observe``: the first row of a tile begins a summary, the others are added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from transept.golden.filters.rule import KeyFilter, QueryBlock
from transept.golden.isa import Filter
from transept.golden.numerics.fixed import Array, wrap

__all__ = ["ESTIMATE_SHIFT", "TileThreshold", "key_sums", "summary_bits"]

#: Right shift of the dot product of sums before it is compared with the threshold.
ESTIMATE_SHIFT = 4
_PARAMETER_BITS = 24


def summary_bits(tile: int) -> int:
    """Bits of one column of a summary: the signed sum of ``tile`` bytes. Longer sums wrap."""
    return 8 + tile.bit_length() - 1


def key_sums(keys: Array, tile: int) -> Array:
    """Sums of each ``tile`` rows of int8[n, d], int64[key tiles, d]; the last ones may be fewer."""
    count = keys.shape[0]
    total = keys.cumsum(0)
    ends = [min(end, count) - 1 for end in range(tile, count + tile, tile)]
    sums = total[ends]
    sums[1:] = sums[1:] - total[ends[:-1]]
    return sums


@dataclass(frozen=True)
class TileThreshold(KeyFilter):
    """``floor((sum of queries) . (sum of keys) / 2**4) >= threshold``.

    A tile of which some keys do not exist is always kept, so that nothing beyond the keys can
    decide. threshold: -2**23 to 2**23 - 1.

    Raises
    ------
    ValueError
        If the threshold is outside its limits.
    """

    kind: ClassVar[Filter] = Filter.TILE_THRESHOLD
    looks: ClassVar[bool] = True

    threshold: int

    def __post_init__(self) -> None:
        if wrap(self.threshold, _PARAMETER_BITS) != self.threshold:
            limit = 1 << (_PARAMETER_BITS - 1)
            raise ValueError(f"threshold={self.threshold} is outside {-limit} to {limit - 1}")

    @property
    def parameter(self) -> int:
        """The threshold in two's complement."""
        return self.threshold & ((1 << _PARAMETER_BITS) - 1)

    @classmethod
    def decode(cls, parameter: int) -> TileThreshold:
        """The inverse of ``parameter``."""
        return cls(wrap(parameter, _PARAMETER_BITS))

    @staticmethod
    def estimate(block: QueryBlock, tile: int) -> int:
        """What is compared with the threshold."""
        return int((block.query_sum * block.key_sums[tile]).sum()) >> ESTIMATE_SHIFT

    def keeps(self, block: QueryBlock, tile: int) -> bool:
        """Whether the tile is partial, or its estimate reaches the threshold."""
        return block.partial(tile) or self.estimate(block, tile) >= self.threshold
