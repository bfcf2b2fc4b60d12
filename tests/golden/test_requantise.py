"""The linear layer's arithmetic against float64."""

import math

import numpy as np
import pytest

from transept.golden.numerics.fixed import Clipping
from transept.golden.numerics.requantise import (
    ROW_MAX_FLOOR,
    SEGMENTS,
    ActivationTable,
    ChannelParameters,
    activation,
    join_halves,
    quantise_halves,
    quantise_row,
    quantise_scale,
    requantise,
)


def test_quantise_row_is_within_rounding_of_the_exact_grid():
    rng = np.random.default_rng(0)
    row_max = np.concatenate([np.arange(0, 600), rng.integers(0, 32768, 3000), [32767, 32768]])
    x = rng.integers(-1, 2, (len(row_max), 16)) * row_max[:, None]
    x = np.where(rng.random(x.shape) < 0.5, x, rng.integers(-32768, 32768, x.shape) % 32768)
    x = x.clip(-row_max[:, None], row_max[:, None])
    scale = np.maximum(row_max, ROW_MAX_FLOOR)[:, None]
    q = quantise_row(x, row_max)
    assert np.abs(q).max() == 127
    # half a step, and 127 times the error of the reciprocal
    assert np.abs(q - x * 127 / scale).max() < 0.5 + 127 * 2.0**-14


def test_scales_of_rows_by_value():
    row_max = np.array([-5, 0, 255, 256, 257, 300, 1000, 12345, 32766, 32767, 40000])
    assert quantise_scale(row_max).tolist() == [
        *(16646144, 16646144, 16646144, 16646144, 16581374, 14204696),
        *(4261358, 345194, 130056, 130052, 130052),
    ]


def test_halves_are_the_row_in_fifteen_bits():
    rng = np.random.default_rng(1)
    row_max = np.concatenate([np.arange(0, 600), rng.integers(0, 32768, 3000), [32767]])
    x = rng.integers(-1, 2, (len(row_max), 16)) * row_max[:, None]
    x = np.where(rng.random(x.shape) < 0.5, x, rng.integers(-32767, 32768, x.shape))
    x = x.clip(-row_max[:, None], row_max[:, None])
    high, low = quantise_halves(x, row_max)
    assert np.array_equal(high, quantise_row(x, row_max))
    assert (low.min(), low.max()) == (-64, 63)
    exact = x * 127 * 128 / np.maximum(row_max, ROW_MAX_FLOOR)[:, None]
    error = exact - (128 * high + low)
    bound = 127 * 128 * 2.0**-14
    assert -bound < error.min() < error.max() < 1 + bound


def test_elements_beyond_their_row_are_clipped():
    x = np.array([[32767, -32767, 301, -302, 300]])
    assert quantise_row(x, np.array([300])).tolist() == [[127, -127, 127, -127, 127]]


def test_halves_beyond_their_row_keep_their_lower_bits():
    high, low = quantise_halves(np.array([[32767, -32767, 301]]), np.array([300]))
    scaled = np.array([32767, -32767, 301]) * int(quantise_scale(np.array(300)))
    assert high.tolist() == [[127, -127, 127]]
    assert low.tolist() == [[(int(p >> 18) + 64) % 128 - 64 for p in scaled]]


def test_joined_halves_are_floored():
    high, low = np.array([5, 5, -5, -5, 0]), np.array([127, 128, -1, 0, -129])
    assert join_halves(high, low).tolist() == [5, 6, -6, -5, -2]


def test_row_maximum_maps_to_127():
    row_max = np.arange(ROW_MAX_FLOOR, 32768)
    assert (quantise_row(row_max[:, None], row_max) == 127).all()
    assert (quantise_row(-row_max[:, None], row_max) == -127).all()


def test_quantise_scale_fits_25_bits():
    assert quantise_scale(np.arange(0, 32769)).max() < 1 << 24


@pytest.mark.parametrize("seed", range(20))
def test_requantise_against_exact_arithmetic(seed):
    rng = np.random.default_rng(seed)
    rows, channels = 8, 32
    pre, row_shift, out_shift = rng.integers(0, 5), rng.integers(10, 25), rng.integers(0, 8)
    acc = rng.integers(-(1 << 20), 1 << 20, (rows, channels))
    channel = ChannelParameters(
        rng.integers(0, 1 << 16, channels),
        rng.integers(14, 20, channels),
        rng.integers(-(1 << 16), 1 << 16, channels),
    )
    multiplier, exponent = rng.integers(0, (1 << 16) + 1, rows), rng.integers(0, 4, rows)
    shifts = {"pre": int(pre), "row_shift": int(row_shift), "out_shift": int(out_shift)}
    y = requantise(acc, channel, multiplier, exponent, **shifts, bits=16)
    m = channel.multiplier / np.exp2(channel.shift)
    r = (multiplier / np.exp2(row_shift + exponent))[:, None]
    exact = (acc / 2.0**pre * m * r + channel.bias) / 2.0**out_shift
    bound = 0.5 + (0.5 + r * (0.5 + m * 0.5)) / 2.0**out_shift
    limit = (1 << 24) - 1
    inside = (np.abs(acc / 2.0**pre * m) < limit) & (np.abs(acc / 2.0**pre * m * r) < limit)
    assert inside.mean() > 0.5
    assert (np.abs(y - exact.clip(-32767, 32767)) <= bound)[inside].all()
    narrow = requantise(acc, channel, multiplier, exponent, **shifts, bits=8)
    assert (narrow == y.clip(-127, 127)).all()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("acc", "multiplier", "shift", "row", "row_shift", "bias", "out_shift", "expected"),
    [
        # the accumulator: without its limit four times as much
        ((1 << 26) - 1, 1, 8, 1 << 15, 15, 0, 2, 1 << 14),
        # the channel product, the row product, and the result
        (1 << 20, 1 << 15, 0, 1, 8, 0, 2, 1 << 14),
        (1 << 20, 1, 0, 1 << 15, 0, 1 - (1 << 23), 9, 1 << 14),
        (1 << 20, 1, 0, 1 << 15, 15, 0, 0, 32767),
    ],
)
def test_requantise_saturates_every_step(
    sign, acc, multiplier, shift, row, row_shift, bias, out_shift, expected
):
    channel = ChannelParameters(*np.array([[multiplier], [shift], [sign * bias]]))
    y = requantise(
        np.array([[sign * acc]]),
        channel,
        np.array([row]),
        np.array([0]),
        pre=0,
        row_shift=row_shift,
        out_shift=out_shift,
        bits=16,
    )
    assert y.item() == sign * expected


def test_a_negative_maximum_counts_as_the_floor():
    x = np.array([[300, -20]])
    assert (quantise_row(x, np.array([-4])) == quantise_row(x, np.array([ROW_MAX_FLOOR]))).all()


@pytest.mark.parametrize(
    ("acc", "multiplier", "shift", "row_shift", "bias", "out_shift"),
    [
        ((1 << 26) - 1, 1, 25, 15, 0, 0),
        (1 << 20, 1 << 15, 10, 31, 0, 0),
        (1 << 10, 1 << 14, 0, 8, 0, 10),
        (1 << 15, 1, 0, 15, 0, 0),
        (0, 1, 0, 15, (1 << 23) - 1, 0),
    ],
)
def test_every_step_counts_what_it_clips_once(acc, multiplier, shift, row_shift, bias, out_shift):
    channel = ChannelParameters(*np.array([[multiplier], [shift], [bias]]))
    shifts = {"pre": 0, "row_shift": row_shift, "out_shift": out_shift, "bits": 16}
    for value, wide in ((acc, True), (3, bias > 0)):
        clipping = Clipping()
        rows = np.array([1 << 15]), np.array([0])
        requantise(np.array([[value]]), channel, *rows, **shifts, clip=clipping)
        assert clipping.elements.sum() == wide


def test_the_activation_counts_what_it_clips():
    zero = np.zeros(SEGMENTS, np.int64)
    line = ActivationTable(-1024, 5, 0, 8, np.arange(-1024, 1024, 32), zero + 512, zero)
    clipping = Clipping()
    activation(np.array([-32767, -1024, 0, 1023, 32767]), line, clipping)
    assert clipping.elements.tolist() == [True, False, False, False, True]


def test_the_largest_shift_leaves_the_bias():
    acc = np.array([[(1 << 26) - 1, 1 - (1 << 26)]])
    channel = ChannelParameters(*np.array([[65535, 65535], [0, 0], [5, -7]]))
    row = np.array([1 << 16]), np.array([23])
    y = requantise(acc, channel, *row, pre=0, row_shift=63, out_shift=0, bits=16)
    assert y.tolist() == [[5, -7]]


def _gelu(x: float) -> float:
    return x * 0.5 * (1 + math.erf(x / math.sqrt(2)))


def gelu_table(fraction_bits: int = 11) -> ActivationTable:
    """GELU in and out with ``fraction_bits``, quadratics through three points of each segment."""
    start, width, slope_shift, out_shift = -(1 << 13), 8, 10, 16
    step, scale = 1 << width, float(1 << fraction_bits)
    c0, c1, c2 = [], [], []
    for segment in range(SEGMENTS):
        at = start + segment * step
        left, middle, right = (_gelu((at + d) / scale) * scale for d in (0, step / 2, step))
        curve = 2 * (left - 2 * middle + right) / step**2
        slope = (right - left) / step - curve * step
        c0.append(round(left * 2 ** (out_shift - 8)))
        c1.append(round(slope * 2**out_shift))
        c2.append(round(curve * 2 ** (out_shift + slope_shift)))
    return ActivationTable(
        start, width, slope_shift, out_shift, np.array(c0), np.array(c1), np.array(c2)
    )


def test_activation_of_gelu_is_within_one_step():
    x = np.arange(-(1 << 13), 1 << 13)
    exact = np.array([_gelu(value / 2048) * 2048 for value in x.tolist()])
    assert np.abs(activation(x, gelu_table()) - exact).max() < 1


@pytest.mark.parametrize(("slope_shift", "out_shift"), [(0, 12), (4, 12), (17, 20)])
def test_activation_to_the_bit(slope_shift, out_shift):
    """By integers alone, with slopes beyond 25 bits where nothing shifts them."""
    rng = np.random.default_rng(slope_shift)
    c0, c1, c2 = (rng.integers(-(1 << bits), 1 << bits, SEGMENTS) for bits in (15, 12, 15))
    table = ActivationTable(-9000, 8, slope_shift, out_shift, c0, c1, c2)
    x = np.concatenate([rng.integers(-32767, 32768, 2000), [-32767, -9001, -9000, 7383, 7384]])
    wanted, slopes = [], []
    for value in x.tolist():
        index = max(0, min(63, (value + 9000) // 256))
        d = value + 9000 - 256 * index
        slopes.append(
            int(c1[index]) + (2 * int(c2[index]) * d + (1 << slope_shift)) // (2 << slope_shift)
        )
        limit = (1 << 24) - 1
        total = max(-limit, min(limit, slopes[-1])) * d + 256 * int(c0[index])
        y = (2 * total + (1 << out_shift)) // (2 << out_shift)
        wanted.append(max(-32767, min(32767, y)))
    assert activation(x, table).tolist() == wanted
    assert (np.abs(slopes).max() > limit) == (slope_shift == 0)
    assert len(set(wanted)) > 100


def test_slopes_of_an_activation_have_25_bits():
    """30000 * 400 fits, 30000 * 1000 does not."""
    zero = np.zeros(SEGMENTS, np.int64)
    curve = ActivationTable(0, 15, 0, 20, zero, zero, zero + 30000)
    assert activation(np.array([400, 1000]), curve).tolist() == [4578, 16000]


def test_outer_segments_go_on():
    zero = np.zeros(SEGMENTS, np.int64)
    line = ActivationTable(-1024, 5, 0, 8, np.arange(-1024, 1024, 32), zero + 256, zero)
    x = np.array([-32767, -1025, -1024, 0, 1023, 1024, 32767])
    assert activation(x, line).tolist() == x.tolist()
