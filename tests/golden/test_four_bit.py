"""Four-bit weights: their numbers, their bytes, and what is no such weight."""

import numpy as np
import pytest

from transept.golden.layouts import (
    BLOCK_WORDS,
    PACKED_BLOCK,
    pack_four_bit,
    packed_words,
    unpack_four_bit,
)
from transept.golden.numerics.four_bit import GROUP, FourBitWeights


def weights(n, k, seed=0):
    rng = np.random.default_rng(seed)
    groups = (n, k // GROUP)
    return FourBitWeights(
        rng.integers(0, 16, (n, k), np.uint8),
        rng.integers(0, 1 << 12, groups).astype(np.uint16),
        rng.integers(-(1 << 11), 1 << 11, groups).astype(np.int16),
    )


@pytest.mark.parametrize(
    ("scale", "minimum", "expected"),
    [
        (128, 0, [0, 1, 2, 15]),
        (128, -16, [-1, 0, 1, 14]),
        (64, 0, [0, 1, 1, 8]),  # halves are rounded up
        (64, -16, [-1, 0, 0, 7]),
        (4095, -2048, [-127, -96, -64, 127]),
        (0, 2047, [127] * 4),
        (0, -2048, [-127] * 4),  # -128 steps
        (1, 7, [0, 0, 0, 1]),
        (1, 8, [1, 1, 1, 1]),
    ],
)
def test_unpacked_numbers(scale, minimum, expected):
    codes = np.zeros((1, GROUP), np.uint8)
    codes[0, :4] = 0, 1, 2, 15
    found = FourBitWeights(
        codes, np.array([[scale]], np.uint16), np.array([[minimum]], np.int16)
    ).unpack()
    assert found.dtype == np.int8
    assert found[0, :4].tolist() == expected


def test_each_group_has_its_own_numbers():
    some = weights(5, 3 * GROUP)
    found = some.unpack()
    for n in range(5):
        for k in range(3 * GROUP):
            scale, minimum = (int(x[n, k // GROUP]) for x in (some.scale, some.minimum))
            exact = (scale * int(some.codes[n, k]) + 8 * minimum + 64) // 128
            assert found[n, k] == max(-127, min(127, exact))


@pytest.mark.parametrize("tile", [4, 8, 16, 32])
def test_packed_words_are_those_of_transposed_tiles(tile):
    some = weights(3 * tile - 1, 2 * GROUP, tile)
    packed = pack_four_bit(some, tile)
    assert packed.size == 3 * 2 * PACKED_BLOCK * tile
    words = unpack_four_bit(packed, tile)
    # word n of a tile has its inputs; tiles of an output tile lie one behind the other
    tiles = words.reshape(3, 2 * GROUP // tile, tile, tile)
    found = tiles.transpose(0, 2, 1, 3).reshape(3 * tile, -1)
    assert np.array_equal(found[: 3 * tile - 1], some.unpack())
    assert not found[-1].any()


def test_the_bytes_of_a_block():
    codes = (np.arange(16)[:, None] + np.arange(GROUP)).astype(np.uint8) % 16
    scale = np.arange(16, dtype=np.uint16)[:, None] + 0xA00
    minimum = -np.arange(1, 17, dtype=np.int16)[:, None]
    block = pack_four_bit(FourBitWeights(codes, scale, minimum), 16).reshape(PACKED_BLOCK, 16)
    assert block[0].tolist() == list(range(16))
    assert block[1].tolist() == list(range(255, 239, -1))
    assert block[2].tolist() == [0xFA] * 16
    # the word of output 3: inputs 0 to 15 in the lower half bytes, 16 to 31 in the upper ones
    assert block[3 + 3].tolist() == [n * 0x11 for n in [*range(3, 16), 0, 1, 2]]


def test_words_in_dram():
    assert (BLOCK_WORDS, PACKED_BLOCK) == (32, 19)
    assert [packed_words(n) for n in (0, 8, 31, 32, 40, 64, 136)] == [0, 8, 31, 19, 27, 38, 84]
    assert packed_words(np.array([40, 64])).tolist() == [27, 38]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"codes": np.zeros((2, 31), np.uint8)},
            r"codes is uint8\[2, 31\], must be uint8\[2, 32\]",
        ),
        ({"codes": np.zeros((2, 32), np.int8)}, r"codes is int8\[2, 32\], must be uint8"),
        ({"codes": np.arange(64, dtype=np.uint8).reshape(2, 32) // 4}, None),
        ({"codes": np.full((2, 32), 15, np.uint8)}, None),
        ({"codes": np.eye(2, 32, dtype=np.uint8) * 16}, "codes 0 to 16 is outside 0 to 15"),
        ({"scale": np.array([[0], [4095]], np.uint16)}, None),
        ({"scale": np.array([[5], [4096]], np.uint16)}, "scale 5 to 4096 is outside 0 to 4095"),
        ({"minimum": np.array([[-2048], [2047]], np.int16)}, None),
        (
            {"minimum": np.array([[5], [2048]], np.int16)},
            "minimum 5 to 2048 is outside -2048 to 2047",
        ),
        (
            {"minimum": np.array([[5], [-2049]], np.int16)},
            "minimum -2049 to 5 is outside -2048 to 2047",
        ),
        (
            {"scale": np.zeros((1, 1), np.uint16)},
            r"scale is uint16\[1, 1\], must be uint16\[2, 1\]",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_what_just_does_is_not(change, message):
    some = weights(2, 32)
    some.check((2, 32))
    parts = {name: getattr(some, name) for name in ("codes", "scale", "minimum")} | change
    changed = FourBitWeights(**parts)
    if message is None:
        changed.check((2, 32))
    else:
        with pytest.raises(ValueError, match=message):
            changed.check((2, 32))


def test_inputs_come_in_groups():
    with pytest.raises(ValueError, match="48 inputs are no multiple of 32"):
        weights(2, 64).check((2, 48))


def test_real_scales_become_whole_ones():
    codes = np.zeros((2, 32), np.uint8)
    found = FourBitWeights.of(codes, np.array([[1.0], [0.121]]), np.array([[-3.03], [127.9]]))
    assert found.scale.tolist() == [[128], [15]]
    assert found.minimum.tolist() == [[-48], [2046]]
    most = FourBitWeights.of(codes, np.array([[0.0], [31.995]]), np.array([[-128.0], [127.95]]))
    assert most.scale.tolist() == [[0], [4095]]
    assert most.minimum.tolist() == [[-2048], [2047]]
    for scale, minimum, message in (
        (32.0, 0.0, "scale 128 to 4096 is beyond 12 bits"),
        (-0.01, 0.0, "scale -1 to 128 is beyond 12 bits"),
        (1.0, 128.0, "minimum 0 to 2048 is beyond 12 bits"),
        (1.0, -128.1, "minimum -2050 to 0 is beyond 12 bits"),
    ):
        with pytest.raises(ValueError, match=message):
            FourBitWeights.of(codes, np.array([[1.0], [scale]]), np.array([[0.0], [minimum]]))


def test_some_outputs():
    some = weights(6, 64)
    part = some.outputs(2, 5)
    part.check((3, 64))
    assert np.array_equal(part.unpack(), some.unpack()[2:5])
