"""Key filters: which keys a block of query rows computes. Dense is the trivial one.

A filter sees every K row as it is written, gets a block of query rows, and answers with key tiles
and masks. Maximum and sum of the softmax run over kept keys only.
"""

from __future__ import annotations

from transept.golden.isa import Filter
from transept.golden.numerics.fixed import Array

__all__ = ["ESTIMATE_SHIFT", "select_tiles", "tile_estimate"]

#: Right shift of the dot product of sums before it is compared with the threshold.
ESTIMATE_SHIFT = 4


def tile_estimate(queries: Array, keys: Array) -> int:
    """``floor((sum of queries) . (sum of keys) / 2**4)``: sixteen times the mean score, unscaled.

    queries: int8[r, d], keys: int8[<= tile, d], as int64.
    """
    return int((queries.sum(0) * keys.sum(0)).sum()) >> ESTIMATE_SHIFT


def select_tiles(
    kind: Filter,
    queries: Array,
    keys: Array,
    *,
    position: int,
    tile: int,
    threshold: int = 0,
) -> list[tuple[int, list[list[bool]]]]:
    """Kept key tiles in ascending order, each with a mask [r][tile]; never empty.

    queries: int8[r, d], the block whose first row has ``position``; keys: int8[n, d].
    DENSE keeps every tile; CAUSAL the tiles that hold a key at or before the last query of a full
    block (``position + tile - 1``), masked to ``key <= query``; TILE_THRESHOLD the tiles with
    ``tile_estimate >= threshold``, or tile 0 alone if none reaches it. Keys beyond n are masked.
    """
    count = keys.shape[0]
    tiles = range(-(-count // tile))
    if kind == Filter.CAUSAL:
        tiles = range(min(len(tiles), (position + tile - 1) // tile + 1))
    kept = list(tiles)
    if kind == Filter.TILE_THRESHOLD:
        kept = [
            t for t in tiles if tile_estimate(queries, keys[t * tile : (t + 1) * tile]) >= threshold
        ] or [0]

    def keeps(row: int, key: int) -> bool:
        return key < count and (kind != Filter.CAUSAL or key <= position + row)

    rows = range(queries.shape[0])
    return [(t, [[keeps(r, t * tile + j) for j in range(tile)] for r in rows]) for t in kept]
