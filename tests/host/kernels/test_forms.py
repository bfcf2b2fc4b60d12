"""When nested roundings are one, what is shifted for that, and which tiles are computed."""

import types

import numpy as np
import pytest
import torch

from transept.golden.filters import TileThreshold
from transept.golden.numerics import tables
from transept.host.kernels.arithmetic import fixed_tables
from transept.host.kernels.attention_forms import AttentionBlocks, ContextForm, ScoreForm
from transept.host.kernels.attention_short import MOST_KEYS, WIDTHS
from transept.host.kernels.matmul import LIMIT25, MOST, joinable, left_shift, merged
from transept.host.kernels.softmax import OPERAND_BASE
from transept.host.kernels.tiles import KeptTiles, _coarse, threshold_tiles

CPU = torch.device("cpu")


def channel(multiplier, shift, bias=0):
    facts = {"multiplier": multiplier, "shift": shift, "bias": bias}
    return types.SimpleNamespace(**{name: np.atleast_1d(value) for name, value in facts.items()})


def test_limits():
    assert (LIMIT25, MOST, MOST_KEYS, WIDTHS) == (16_777_215, 32768, 512, (32, 64, 128))
    rows = fixed_tables(CPU)
    assert (rows.shape, rows.dtype) == ((64, 4), torch.int32)
    assert rows[:, :3].tolist() == [list(row) for row in (*tables.RECIPROCAL, *tables.RSQRT)]


def test_operands_are_bits_of_a_float():
    """Of the sum that a GPU makes of each level: level - 127 in the second byte."""
    sums = (np.float32(OPERAND_BASE.value) + np.arange(255, dtype=np.float32)).view(np.int32)
    assert (sums >> 8).astype(np.int8).tolist() == list(range(-127, 128))
    assert np.spacing(np.float32(OPERAND_BASE.value + 127)) == 1 / 256


@pytest.mark.parametrize(
    ("tile", "says"),
    [
        ({"m": 32}, "m=32 must be a power of two and at least 64"),
        ({"n": 96}, "n=96 must be a power of two and at least 64"),
        ({"m": 64, "warps": 8}, "warps=8 must be at most m / 16, m=64"),
    ],
)
def test_tiles_whose_rows_a_thread_has_not(tile, says):
    assert AttentionBlocks(m=64, n=64, warps=4).stages == 3
    with pytest.raises(ValueError, match=f"^{says}$"):
        AttentionBlocks(**tile)


# --- products
def test_a_shift_is_the_least_that_fits():
    """Of a factor, and of multipliers for the rest of 32 bits, both in 31."""
    found = 0
    for largest in (1, 127, (1 << 24) - 1, 1 << 24, 1 << 29):
        for multiplier in (1, 2, 32767, 32768, 65535):
            for shift in range(32):
                fits = [
                    left
                    for left in range(33 - shift)
                    if largest << left < 1 << 31 and multiplier << 32 - shift - left < 1 << 31
                ]
                wanted = fits[0] if fits else None
                assert left_shift(np.array([multiplier]), np.array([shift]), largest) == wanted
                found += wanted is None
    assert found > 20
    assert left_shift(np.array([3, 65535, 3]), np.array([20, 15, 2]), 1) == left_shift(
        np.array([65535, 3]), np.array([15, 2]), 1
    )
    assert left_shift(np.array([65535, 1]), np.array([15, 31]), 1) is None


def layer(t, o, multiplier=1 << 15, shift=15, bias=0, weight=5, table=None):
    """A layer of one column and one weight."""
    return types.SimpleNamespace(
        channel=channel(multiplier, shift, bias),
        weight=np.array([[weight]], np.int8),
        row_shift=t,
        out_shift=o,
        table=table,
    )


def test_constants_of_one_rounding():
    """``y = floor((v r + B) / 2**T)`` with T = 23 and B = 2**14 + (100 + 2**7) 2**15, at bit 32."""
    form = merged([layer(15, 8, bias=100)], 16)
    assert (form.left, form.clip, form.row_left) == (2, False, 9)
    assert (form.multiplier.tolist(), form.value_left.tolist()) == ([1 << 30], [0])
    assert form.addend.tolist() == [(1 << 14) + (100 + (1 << 7) << 15) << 9]


@pytest.mark.parametrize(
    ("t", "o", "row_left", "value_left"),
    [(11, 0, 15, 6), (12, 0, 15, 5), (17, 0, 15, 0), (18, 0, 14, 0), (20, 12, 0, 0)],
)
def test_row_multipliers_are_shifted_first(t, o, row_left, value_left):
    form = merged([layer(t, o)], 8)
    assert (form.row_left, form.value_left.tolist()) == (row_left, [value_left])


@pytest.mark.parametrize(("t", "o"), [(10, 0), (2, 8), (20, 13), (33, 0)])
def test_shifts_for_which_there_is_no_room(t, o):
    assert merged([layer(t, o)], 8) is None


def test_what_saturates_is_merged_where_nobody_sees_it():
    """A number of 26 bits before the last rounding; accumulators of 1,040 products are below."""
    wide = np.full((1, 1040), 127, np.int8)
    for bits, o, merges in (
        (16, 9, True),
        (16, 10, False),
        (8, 10, True),
        (8, 17, True),
        (8, 18, 0),
    ):
        op = layer(14, o)
        op.weight = wide
        assert (merged([op], bits) is not None) is bool(merges)
    for count, clip in ((1040, False), (1041, True)):
        op = layer(15, 8, shift=16)
        op.weight = np.full((1, count), 127, np.int8)
        assert merged([op], 16).clip is clip


def test_layers_are_joined_if_their_last_steps_are_alike():
    assert joinable([layer(15, 8), layer(15, 8)], 16)
    assert joinable([layer(40, 8), layer(40, 8)], 16)
    assert joinable([layer(15, 8), layer(17, 8)], 16)
    assert not joinable([layer(40, 8), layer(41, 8)], 16)
    assert not joinable([layer(15, 8), layer(15, 7)], 16)
    assert not joinable([layer(15, 8), layer(15, 8, table="one")], 16)


# --- attention
def scores(multiplier, shift, row_shift):
    op = types.SimpleNamespace(
        score_multiplier=np.array(multiplier),
        score_shift=np.array(shift),
        score_row_shift=row_shift,
    )
    return ScoreForm.of(op, 64, CPU)


def test_constants_of_scores():
    """Of 64 elements, whose products have 20 bits."""
    form = scores([1 << 15, 3 << 13], [12, 13], 19)
    assert (form.merged, form.clip, form.left) == (True, True, 1)
    assert form.parameters.tolist() == [[1 << 30, 3 << 27], [12, 13]]
    halves = [(1 << 11) + (8 << 12) << 16, (1 << 12) + (8 << 13) << 15]
    assert (form.half.tolist(), form.parameters.dtype) == (halves, torch.int32)
    apart = scores([1 << 15], [15], 14)
    assert (apart.merged, apart.clip, apart.half.tolist()) == (False, True, [0])
    assert apart.parameters.tolist() == [[1 << 15], [15]]
    assert not scores([1 << 15, 65535], [12, 3], 30).merged  # one is too loud for 25 bits


def test_scores_are_clipped_if_the_largest_product_may_saturate():
    """The bound meets every number near 32,767."""
    largest, seen = 64 * 127 * 127, set()
    for multiplier in range(33_230, 33_330):
        bound = (largest * multiplier >> 20) + 2
        assert scores([multiplier], [20], 15).clip is (bound > 32767)
        seen.add(bound)
    assert {32766, 32767, 32768} <= seen


def context(row_shift, out_shift, bias=0, multiplier=1 << 15, shift=15):
    op = types.SimpleNamespace(
        context=channel(multiplier, shift, bias),
        context_row_shift=row_shift,
        context_out_shift=out_shift,
    )
    return ContextForm(op, CPU)


@pytest.mark.parametrize(
    ("row_shift", "out_shift", "bias", "left"),
    [
        (5, 0, 0, 2),
        (4, 0, 0, -1),
        (0, 5, 0, 2),
        (0, 4, 0, -1),
        (15, 0, 0, 2),
        (16, 0, 0, -1),
        (0, 9, 0, 2),
        (0, 10, 0, -1),
        (10, 8, 1, -1),
    ],
)
def test_when_the_last_roundings_of_a_context_are_one(row_shift, out_shift, bias, left):
    form = context(row_shift, out_shift, bias)
    assert form.left == left
    assert form.channel.tolist() == [[1 << 30 if left == 2 else 1 << 15], [15], [bias]]
    assert form.channel.dtype == torch.int32


def test_sums_over_so_many_keys_have_25_bits():
    """Of levels up to 254 and values up to 127, and of what a channel makes of them."""
    assert [context(10, 8).clip(keys) for keys in (520, 521)] == [False, True]
    twice = context(10, 8, multiplier=1 << 15, shift=14)
    assert [twice.clip(keys) for keys in (260, 261)] == [False, True]


@pytest.mark.parametrize(
    ("row_shift", "out_shift", "ups"),
    [
        (10, 8, {1: 0, 64: 0, 128: 0, 256: 0, 257: 0, 259: -1}),
        (0, 8, {1: 3, 8192: 3, 16384: 3, 33000: -1}),
        (0, 5, {1: 6, 16384: 6, 33000: -1}),
        (0, 4, {1: -1}),
    ],
)
def test_how_far_sums_are_shifted_for_their_reciprocals(row_shift, out_shift, ups):
    form = context(row_shift, out_shift)
    rest = 32 - row_shift - out_shift
    for keys in ups:
        fits = [
            up
            for up in range(7)
            if rest - up - 7 <= 14 and rest - up - ((254 * keys).bit_length() - 1) >= 0
        ]
        wanted = fits[0] if fits and form.left >= 0 else -1
        assert form.up(keys) == wanted, keys


# --- tiles
def test_tiles_that_are_kept_come_first():
    kept = torch.tensor([[[[1, 0, 1], [0, 0, 1], [0, 0, 0]]]], dtype=torch.bool)
    found = KeptTiles.of(kept)
    assert (found.count.tolist(), found.fine, found.block) == ([[[2, 1, 0]]], None, 0)
    assert found.tiles.tolist() == [[[[0, 2, 1], [2, 0, 1], [0, 1, 2]]]]
    assert {found.count.dtype, found.tiles.dtype} == {torch.int32}


def test_a_tile_is_kept_if_any_of_its_blocks_is():
    fine = torch.tensor([[1, 0, 0, 0, 1], [0, 0, 0, 0, 0], [0, 0, 0, 1, 0]], dtype=torch.bool)
    assert _coarse(fine, -1, 2).tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert _coarse(fine, -2, 2).tolist() == [[1, 0, 0, 0, 1], [0, 0, 0, 1, 0]]
    assert torch.equal(_coarse(fine, -1, 1), fine)


def test_blocks_that_reach_a_threshold():
    """Blocks of 2 rows of one element: the product of sums over 16. Blocks that some key lacks are
    kept, those without any are not."""
    op = types.SimpleNamespace(block=2, heads=2, kv_heads=1, filter=TileThreshold(1))
    q = torch.tensor([[[4, 1], [4, 1], [0, 9]]], dtype=torch.int8).repeat(2, 1, 1)
    k = torch.tensor([[[1], [1], [1], [0], [99], [99], [99], [99]]], dtype=torch.int8)
    k, keys = k.repeat(2, 1, 1), torch.tensor([5, 4], dtype=torch.int32)
    found = threshold_tiles(op, q, k, keys, 2, 4)
    first, second = [[1, 0, 1, 0], [0, 0, 1, 0]], [[0, 0, 1, 0], [1, 0, 1, 0]]
    shorter = [[1, 0, 0, 0], [0, 0, 0, 0]], [[0, 0, 0, 0], [1, 0, 0, 0]]
    assert found.fine.tolist() == [[first, second], [*shorter]]
    assert (found.fine.dtype, found.block) == (torch.int8, 2)
    assert found.count.tolist() == [[[2, 1], [1, 2]], [[1, 0], [0, 1]]]
    assert found.tiles[0].tolist() == [[[0, 1], [1, 0]], [[1, 0], [0, 1]]]
