"""Key filters against their definitions, key by key."""

import numpy as np
import pytest

from transept.golden import filters
from transept.golden.filters import (
    FILTERS,
    Causal,
    Dense,
    KeyFilter,
    QueryBlock,
    TileThreshold,
    Window,
    kept_tiles,
    key_sums,
    summary_bits,
)
from transept.golden.isa import Filter

TILE = 4
RULES = [
    Dense(),
    Causal(),
    TileThreshold(-3000),
    Window(before=3, after=0),
    Window(before=0, after=9),
]


def _block(seed: int) -> tuple[QueryBlock, np.ndarray, np.ndarray]:
    """A block about where its keys are, its query rows and its keys."""
    rng = np.random.default_rng(seed)
    key_base = int(rng.integers(0, 50))
    queries = rng.integers(-127, 128, (rng.integers(1, TILE + 1), 8))
    keys = rng.integers(-127, 128, (rng.integers(1, 40), 8))
    block = QueryBlock(
        tile=TILE,
        position=max(0, key_base + int(rng.integers(-6, len(keys) + 6))),
        keys=len(keys),
        key_base=key_base,
        query_sum=queries.sum(0),
        key_sums=key_sums(keys, TILE),
    )
    return block, queries, keys


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(20))
def test_kept_tiles_are_ascending_and_exist(rule, seed):
    block, _, keys = _block(seed)
    tiles = kept_tiles(rule, block)
    assert tiles == sorted(set(tiles))
    assert set(tiles) <= set(range(-(-len(keys) // TILE)))


@pytest.mark.parametrize("rule", [Dense(), Causal(), *RULES[3:]])
@pytest.mark.parametrize("seed", range(40))
def test_no_tile_that_a_query_sees_is_left_out(rule, seed):
    block, queries, keys = _block(seed)
    kept = kept_tiles(rule, block)
    for row in range(len(queries)):
        for key in range(len(keys)):
            if rule.sees(block.position + row, block.key_base + key):
                assert key // TILE in kept


@pytest.mark.parametrize("rule", [Causal(), *RULES[3:]])
@pytest.mark.parametrize("seed", range(40))
def test_every_kept_tile_is_seen_by_a_row_of_a_full_block(rule, seed):
    block, *_ = _block(seed)
    rows = block.position + np.arange(TILE)[:, None]
    for tile in kept_tiles(rule, block):
        assert np.any(rule.sees(rows, block.first_key(tile) + np.arange(TILE)))


@pytest.mark.parametrize("position", range(4, 9))
def test_a_tile_is_kept_from_its_first_key_on(position):
    """Keys 8 to 11 at positions 9 to 12: the last row of the block is at ``position + 3``."""
    block = QueryBlock(tile=TILE, position=position, keys=20, key_base=1)
    assert Causal().keeps(block, 2) == (position >= 6)
    assert Window(before=0, after=1).keeps(block, 2) == (position >= 5)
    assert Window(before=2, after=0).keeps(block, 0) == (position <= 6)
    assert QueryBlock(tile=TILE, position=position, keys=20).first_key(2) == 8


def test_every_key_is_seen_by_dense():
    assert Dense().sees(0, 9) is True


def test_bits_of_a_summary():
    assert [summary_bits(tile) for tile in (1, 4, 8, 16, 32, 64)] == [8, 10, 11, 12, 13, 14]


def test_causal():
    seen = Causal().sees(np.arange(3, 6)[:, None], np.arange(8))
    assert seen.tolist() == [[k <= q for k in range(8)] for q in range(3, 6)]


@pytest.mark.parametrize(("before", "after"), [(0, 0), (2, 0), (0, 3), (5, 1)])
def test_window(before, after):
    seen = Window(before=before, after=after).sees(np.arange(30)[:, None], np.arange(30))
    for query in range(30):
        near = range(max(0, query - before), min(29, query + after) + 1)
        assert np.flatnonzero(seen[query]).tolist() == list(near)


def test_a_window_to_the_beginning_is_causal():
    for seed in range(20):
        block, *_ = _block(seed)
        assert kept_tiles(Window(before=4095, after=0), block) == kept_tiles(Causal(), block)


@pytest.mark.parametrize("seed", range(20))
def test_threshold_compares_the_mean_score(seed):
    block, queries, keys = _block(seed)
    whole = len(keys) // TILE
    for tile in range(whole):
        part = keys[tile * TILE : (tile + 1) * TILE]
        assert TileThreshold.estimate(block, tile) == int((queries @ part.T).sum()) // 16
        threshold = TileThreshold.estimate(block, tile)
        assert TileThreshold(threshold).keeps(block, tile)
        assert not TileThreshold(threshold + 1).keeps(block, tile)
    every = TileThreshold(-(1 << 23))
    assert kept_tiles(every, block) == kept_tiles(Dense(), block)
    partial = list(range(whole, -(-len(keys) // TILE)))
    assert kept_tiles(TileThreshold((1 << 23) - 1), block) == partial


def test_nothing_beyond_the_keys_can_decide():
    """The last tile has rows that do not exist: whatever its sum, it is kept."""
    block, *_ = _block(4)
    assert block.keys % TILE
    last = block.keys // TILE
    for value in (-5000, 5000):
        block.key_sums[last] = value
        assert last in kept_tiles(TileThreshold(100), block)


@pytest.mark.parametrize("count", range(1, 20))
def test_key_sums(count):
    keys = np.random.default_rng(count).integers(-127, 128, (count, 8))
    expected = [keys[at : at + TILE].sum(0).tolist() for at in range(0, count, TILE)]
    assert key_sums(keys, TILE).tolist() == expected


def test_registry_and_parameters():
    assert [rule.kind for rule in FILTERS.values()] == list(Filter)
    assert list(FILTERS) == ["dense", "causal", "tile_threshold", "window"]
    for rule in (*RULES, TileThreshold((1 << 23) - 1), Window(before=4095, after=4094)):
        assert isinstance(rule, KeyFilter)
        assert 0 <= rule.parameter < 1 << 24
        assert filters.decode(rule.kind, rule.parameter) == rule


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: filters.decode(Filter.DENSE, 1), "filter DENSE has no parameter, got 1"),
        (lambda: filters.decode(Filter.CAUSAL, 5), "filter CAUSAL has no parameter, got 5"),
        (lambda: TileThreshold(1 << 23), "threshold=8388608 is outside -8388608 to 8388607"),
        (lambda: Window(before=4096, after=0), "window before=4096 is outside 0 to 4095"),
        (lambda: Window(before=0, after=-1), "window after=-1 is outside 0 to 4095"),
    ],
)
def test_parameters_without_meaning_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
