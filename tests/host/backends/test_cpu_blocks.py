"""How the CPU backend cuts its work, which forms it takes, and what it keeps in between."""

import types

import numpy as np
import pytest
import torch
from graphs import GraphBuilder
from operators import channel

from transept.golden.filters import Causal, Dense, TileThreshold, Window
from transept.host.backends.cpu import arrays, product
from transept.host.backends.cpu.arrays import Arrays, Rows, dtype_of, row_blocks, slices
from transept.host.backends.cpu.graph import _last_reads
from transept.host.backends.cpu.masks import HIDDEN, Mask
from transept.host.backends.cpu.product import Weights, has_int8_products, products
from transept.host.backends.cpu.requantise import LIMIT16, LIMIT25, Requantiser, half
from transept.host.backends.cpu.softmax import Scores
from transept.host.bench.gpu import attention_op


# --- parts
def test_work_is_cut_into_parts_of_a_size(monkeypatch):
    def cut(parts):
        return [(part.start, part.stop) for part in parts]

    assert cut(slices(7, 3)) == [(0, 3), (3, 6), (6, 7)]
    assert cut(slices(3, 0)) == [(0, 1), (1, 2), (2, 3)]
    assert cut(slices(2, 9)) == [(0, 2)]
    assert arrays.BLOCK == 1 << 18
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert arrays.block_elements() == 3 << 18
    monkeypatch.setattr(arrays, "BLOCK", 10)
    assert cut(row_blocks(8, 10)) == [(0, 3), (3, 6), (6, 8)]
    assert (dtype_of(8), dtype_of(16)) == (torch.int8, torch.int16)


def test_what_nothing_reads_any_more_is_dropped():
    held = Arrays()
    held |= {name: torch.zeros(1) for name in "abc"}
    held.operands["a"] = held.operands["b"] = Rows(held["a"], held["b"])
    held.forget(["a", "c"])
    assert (list(held), list(held.operands)) == (["b"], ["b"])


def test_values_are_kept_until_their_last_reader():
    """Outputs to the end, and inputs that nothing reads later not."""
    build = GraphBuilder(1)
    x = build.value(4)
    y = build.linear(x, 4)
    z = build.linear(y, 4)
    build.linear(z, 3)  # which nothing reads
    total = build.add(y, z)
    graph = build.graph([x], [total, z])
    assert [sorted(names) for names in _last_reads(graph)] == [["v0"], [], ["v3"], ["v1"]]


# --- products
@pytest.mark.parametrize("name", ["avx512_vnni", "avx_vnni", "amx_int8"])
def test_a_cpu_with_any_int8_instructions_multiplies_by_them(monkeypatch, name):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, name: True})
    monkeypatch.setattr(torch, "_int_mm", lambda x, y: (x.double() @ y.double()).int())
    assert has_int8_products.__wrapped__()


@pytest.mark.parametrize(
    ("rows", "depth", "columns", "fast"),
    [(64, 64, 64, True), (64, 63, 64, False), (128, 16, 128, True), (160, 15, 160, False)],
)
def test_large_and_deep_products_are_int8(monkeypatch, rows, depth, columns, fast):
    taken = []

    def int_mm(x, y, out):
        taken.append(x.shape)
        out.copy_((x.double() @ y.double()).int())

    monkeypatch.setattr(product, "has_int8_products", lambda: True)
    monkeypatch.setattr(torch, "_int_mm", int_mm)
    rng = np.random.default_rng(0)
    a, b = rng.integers(-127, 128, (2, rows, depth)), rng.integers(-127, 128, (2, depth, columns))
    found = products(*(torch.tensor(x, dtype=torch.int8) for x in (a, b)))
    assert np.array_equal(found.numpy(), a @ b)
    assert len(taken) == 2 * fast


def test_weights_of_any_depth_below_sixteen_are_floats(monkeypatch):
    assert (product.FLOAT_DEPTH, product.INT8_DEPTH, product.INT8_WORK) == (1040, 16, 1 << 18)
    monkeypatch.setattr(product, "has_int8_products", lambda: True)
    kinds = {k: Weights(np.zeros((3, k), np.int8))._turned.dtype for k in (15, 16)}
    assert kinds == {15: torch.float32, 16: torch.int8}


# --- the requantiser
def forms(largest, multiplier=1, shift=0, bias=0, most=1, **changes):
    """Whether it clips first, second and third, and merges the last two roundings."""
    largest = np.atleast_1d(largest)
    options = {"row_shift": 0, "out_shift": 0, "bits": 16} | changes
    kernel = Requantiser(
        channel(len(largest), multiplier, shift, bias), largest=largest, most=most, **options
    )
    return (kernel._clip_first, kernel._clip_second, kernel._clip_third, kernel._merged)


def test_limits():
    assert (LIMIT16, LIMIT25) == (32767, 16_777_215)
    assert [half(shift) for shift in range(4)] == [0, 1, 2, 4]


@pytest.mark.parametrize(
    ("constants", "form"),
    [
        ({"largest": LIMIT25 - 2}, (False, False, False, True)),
        ({"largest": LIMIT25 - 1}, (False, False, False, True)),
        ({"largest": LIMIT25}, (False, True, False, True)),
        ({"largest": LIMIT25, "shift": 1}, (False, False, False, True)),
        ({"largest": LIMIT25 + 1, "shift": 1}, (True, False, False, True)),
        # the third is seen if the result does not saturate where it does
        ({"largest": 1 << 20, "most": 32}, (False, False, False, True)),
        ({"largest": LIMIT25 - 2, "out_shift": 10}, (False, False, False, True)),
        ({"largest": LIMIT25 - 1, "out_shift": 10}, (False, False, True, False)),
        ({"largest": LIMIT25 - 1, "out_shift": 10, "bits": 8}, (False, False, False, True)),
        ({"largest": LIMIT25 - 1, "out_shift": 9, "bias": 255}, (False, False, False, True)),
        ({"largest": LIMIT25 - 1, "out_shift": 9, "bias": 767}, (False, False, True, False)),
        ({"largest": 1 << 20, "most": 32, "row_shift": 2, "out_shift": 10}, (0, 0, 0, True)),
        # with a bias, float64 holds a sum to so many places only
        ({"largest": 9, "row_shift": 28, "bias": 1}, (False, False, False, True)),
        ({"largest": 9, "row_shift": 29, "bias": -1}, (False, False, False, False)),
        ({"largest": 9, "row_shift": 20, "exponent": 9, "bias": 1}, (0, 0, 0, False)),
        ({"largest": 9, "row_shift": 20, "exponent": 8, "bias": 1}, (0, 0, 0, True)),
        ({"largest": 9, "row_shift": 40}, (False, False, False, True)),
    ],
)
def test_what_may_saturate_is_clipped(constants, form):
    assert forms(**constants) == form


@pytest.mark.parametrize(
    ("constants", "form"),
    [
        ({"largest": [9, LIMIT25 + 1], "shift": 1}, (True, False, False, True)),
        ({"largest": [LIMIT25] * 2, "shift": [1, 0]}, (False, True, False, True)),
        ({"largest": [9, LIMIT25 - 1], "out_shift": 10}, (False, False, True, False)),
        ({"largest": [LIMIT25 - 1] * 2, "out_shift": 9, "bias": [-767, 0]}, (0, 0, 1, 0)),
        ({"largest": [9, 9], "row_shift": 29, "bias": [0, 1]}, (False, False, False, False)),
    ],
)
def test_the_loudest_channel_counts(constants, form):
    assert forms(**constants) == form


# --- scores
def scores(multiplier, shift, later, depth=64):
    op = types.SimpleNamespace(
        score_multiplier=np.array(multiplier),
        score_shift=np.array(shift),
        score_row_shift=15 + later,
    )
    return Scores(op, depth)


@pytest.mark.parametrize(
    ("multiplier", "later", "merged"),
    [
        ([33_286], 10, True),
        ([33_287], 10, False),
        ([33_287], 9, True),
        ([33_287], 0, True),
        ([9], -1, False),
        ([9, 33_287], 10, False),
        ([33_287, 9], 10, False),
    ],
)
def test_when_the_roundings_of_scores_are_one(multiplier, later, merged):
    """Where 25 bits hold what is between them, or the result saturates as well."""
    between = (64 * 127 * 127 * max(multiplier) >> 11) + 1
    assert (between > LIMIT25) is (33_287 in multiplier)
    assert scores(multiplier, [11] * len(multiplier), later)._merged is merged


def test_scores_are_clipped_if_the_largest_may_saturate():
    """The bound meets every number near 32,767."""
    seen = set()
    for multiplier in range(33_230, 33_330):
        bound = (64 * 127 * 127 * multiplier >> 20) + 2
        assert scores([9, multiplier], [20, 20], 0)._clip is (bound > 32767)
        seen.add(bound)
    assert {32766, 32767, 32768} <= seen
    later = (64 * 127 * 127 * 50_000 >> 15) + 1 >> 6
    assert scores([50_000], [15], 6)._clip is (later + 1 > 32767)


# --- masks
def mask(rule, lengths, first=None, queries=5, keys=6, block=2):
    op = attention_op(1, 4, 8, rule)
    op = types.SimpleNamespace(filter=op.filter, block=block)
    ones = (torch.ones(len(lengths), 1, count, 4) for count in (queries, keys))
    return Mask(op, *ones, lengths, first or [0] * len(lengths))


def test_what_positions_and_lengths_hide():
    everything, rows = slice(None), slice(1, 4)
    assert HIDDEN == -131072.0
    assert mask(Dense(), [6, 6]).positions(everything, rows, 6) == []
    assert mask(Dense(), [6, 3]).positions(slice(0, 1), rows, 6) == []
    (padded,) = mask(Dense(), [6, 3]).positions(everything, rows, 4)
    assert padded[:, 0, 0].div(HIDDEN).tolist() == [[0, 0, 0, 0], [0, 0, 0, 1]]
    (causal,) = mask(Causal(), [6]).positions(everything, rows, 4)
    assert causal.div(HIDDEN).tolist() == [[0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
    (window,) = mask(Window(1, 0), [2]).positions(everything, rows, 3)
    assert window[0, 0].div(HIDDEN).tolist() == [[0, 0, 1], [1, 0, 1], [1, 1, 1]]
    assert mask(Causal(), [6]).tiles(everything, everything, rows, 4) == []


def test_what_positions_hide_from_rows_behind_others():
    everything, rows = slice(None), slice(0, 2)
    (same,) = mask(Causal(), [6, 6], [3, 3]).positions(everything, rows, 6)
    assert same.div(HIDDEN).tolist() == [[0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 1]]
    (each,) = mask(Causal(), [6, 3], [3, 1]).positions(everything, rows, 6)
    assert each[:, 0].div(HIDDEN).tolist() == [
        [[0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 1]],
        [[0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1]],
    ]
    (second,) = mask(Causal(), [6, 3], [3, 1]).positions(slice(1, 2), rows, 3)
    assert second.div(HIDDEN).tolist() == [[0, 0, 1], [0, 0, 0]]


def test_what_a_threshold_hides():
    """Sums of 2 x 2 rows of 4 ones are 16, whose estimate is 1; a tile that is not full is kept."""
    everything = slice(None)
    for threshold, hidden in ((1, 0), (2, 1)):
        found = mask(TileThreshold(threshold), [6, 3])
        (tiles,) = found.tiles(everything, everything, slice(1, 4), 5)
        shown = tiles[:, 0].div(HIDDEN)
        assert shown[0].tolist() == [[hidden] * 5] * 3
        assert shown[1].tolist() == [[hidden, hidden, 0, 0, 0]] * 3
