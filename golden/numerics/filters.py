"""Key filters: which keys a block of query rows computes. Dense is the trivial one.

A filter sees every K row as it is written, gets a block of query rows, and answers with key tiles
and masks. Maximum and sum of the softmax run over kept keys only.
"""

from __future__ import annotations

from transept.golden.isa import Filter
from transept.golden.numerics.fixed import Array

__all__ = ["ESTIMATE_SHIFT", "keeps", "kept_tiles", "select_tiles", "tile_estimate"]

#: Right shift of the dot product of sums before it is compared with the threshold.
ESTIMATE_SHIFT = 4


def tile_estimate(queries: Array, keys: Array) -> int:
    """``floor((sum of queries) . (sum of keys) / 2**4)``: sixteen times the mean score, unscaled.

    queries: int8[r, d], keys: int8[<= tile, d], as int64.
    """
    return int((queries.sum(0) * keys.sum(0)).sum()) >> ESTIMATE_SHIFT


def kept_tiles(
    kind: Filter,
    queries: Array,
    keys: Array,
    *,
    position: int,
    tile: int,
    threshold: int = 0,
) -> list[int]:
    """Kept key tiles of one block of query rows, ascending, never empty.

    queries: int8[r, d], the block whose first row has ``position``; keys: int8[n, d].
    DENSE keeps every tile; CAUSAL the tiles that hold a key at or before the last query of a full
    block (``position + tile - 1``); TILE_THRESHOLD the tiles with ``tile_estimate >= threshold``,
    or tile 0 alone if none reaches it.
    """
    tiles = range(-(-keys.shape[0] // tile))
    if kind == Filter.CAUSAL:
        return list(tiles)[: (position + tile - 1) // tile + 1]
    if kind == Filter.TILE_THRESHOLD:
        estimates = (tile_estimate(queries, keys[t * tile : (t + 1) * tile]) for t in tiles)
        return [t for t, estimate in enumerate(estimates) if estimate >= threshold] or [0]
    return list(tiles)


def keeps(kind: Filter, query: Array, key: Array, count: int) -> Array:
    """Whether the query at one position sees a key of a kept tile: ``key < count``, and for CAUSAL
    ``key <= query``. Positions are integers or arrays that broadcast."""
    seen = key < count
    return seen & (key <= query) if kind == Filter.CAUSAL else seen


def select_tiles(
    kind: Filter,
    queries: Array,
    keys: Array,
    *,
    position: int,
    tile: int,
    threshold: int = 0,
) -> list[tuple[int, list[list[bool]]]]:
    """``kept_tiles``, each with its mask [r][tile] (``keeps``)."""
    kept = kept_tiles(kind, queries, keys, position=position, tile=tile, threshold=threshold)
    rows = range(position, position + queries.shape[0])
    return [
        (t, [[keeps(kind, r, t * tile + j, keys.shape[0]) for j in range(tile)] for r in rows])
        for t in kept
    ]
