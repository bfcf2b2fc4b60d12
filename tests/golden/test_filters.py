"""Key filters against their definitions, key by key."""

import numpy as np
import pytest

from transept.golden.isa import Filter
from transept.golden.numerics.filters import keeps, kept_tiles, select_tiles, tile_estimate

TILE = 4


def _block(seed: int) -> tuple[np.ndarray, np.ndarray, int]:
    rng = np.random.default_rng(seed)
    queries = rng.integers(-127, 128, (rng.integers(1, TILE + 1), 8))
    keys = rng.integers(-127, 128, (rng.integers(1, 40), 8))
    return queries, keys, int(rng.integers(0, 50))


@pytest.mark.parametrize("kind", Filter)
@pytest.mark.parametrize("seed", range(20))
def test_selection(kind, seed):
    queries, keys, position = _block(seed)
    selection = select_tiles(
        kind, queries, keys, position=position, tile=TILE, threshold=2000 * (seed - 10)
    )
    tiles = [tile for tile, _ in selection]
    assert tiles == sorted(set(tiles))
    assert tiles
    for tile, mask in selection:
        for row, bits in enumerate(mask):
            for lane, bit in enumerate(bits):
                key = tile * TILE + lane
                causal = kind != Filter.CAUSAL or key <= position + row
                assert bit == (key < len(keys) and causal)


@pytest.mark.parametrize("seed", range(20))
def test_causal_leaves_out_nothing_that_a_query_sees(seed):
    queries, keys, position = _block(seed)
    kept = kept_tiles(Filter.CAUSAL, queries, keys, position=position, tile=TILE)
    for row in range(len(queries)):
        for key in range(len(keys)):
            if keeps(Filter.CAUSAL, position + row, key, len(keys)):
                assert key // TILE in kept


@pytest.mark.parametrize("seed", range(20))
def test_threshold_compares_the_mean_score(seed):
    queries, keys, _ = _block(seed)
    for tile in range(-(-len(keys) // TILE)):
        part = keys[tile * TILE : (tile + 1) * TILE]
        assert tile_estimate(queries, part) == int((queries @ part.T).sum()) // 16
    options = {"position": 0, "tile": TILE}
    every = kept_tiles(Filter.TILE_THRESHOLD, queries, keys, threshold=-(1 << 23), **options)
    assert every == kept_tiles(Filter.DENSE, queries, keys, **options)
    none = kept_tiles(Filter.TILE_THRESHOLD, queries, keys, threshold=(1 << 23) - 1, **options)
    assert none == [0]


def test_masks_broadcast():
    mask = keeps(Filter.CAUSAL, np.arange(3, 6)[:, None], np.arange(8), 5)
    assert mask.tolist() == [[k < 5 and k <= q for k in range(8)] for q in range(3, 6)]
