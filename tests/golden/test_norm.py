"""LayerNorm in integers against float64."""

import dataclasses

import numpy as np
import pytest

from transept.golden.numerics.fixed import Clipping
from transept.golden.numerics.norm import (
    NormParameters,
    inverse_count,
    layer_norm,
    normalise,
    residual_sum,
    rounded_sum,
)
from transept.golden.numerics.polynomial import rsqrt

OUT_SHIFT = 12
OUT_SCALE = 1 / 2048  # of one output step


def _parameters(weight: np.ndarray, bias: np.ndarray, y_shift: int, x_shift: int):
    count = len(weight)
    gamma = weight * count / 2 ** (count - 1).bit_length() * 2 ** (OUT_SHIFT - 11) / OUT_SCALE
    zero = np.zeros(count, np.int64)
    return NormParameters(
        np.round(gamma).astype(np.int64),
        np.round(bias / OUT_SCALE * 2 ** (OUT_SHIFT - 8)).astype(np.int64),
        zero + y_shift,
        zero + x_shift,
    )


@pytest.mark.parametrize("count", [2, 3, 16, 33, 384, 1024])
@pytest.mark.parametrize("magnitude", [300, 3000, 32767])
def test_against_float(count, magnitude):
    rng = np.random.default_rng(count)
    y, x = rng.integers(-magnitude, magnitude + 1, (2, 20, count))
    weight, bias = rng.uniform(0.3, 2, count), rng.uniform(-1, 1, count)
    parameters = _parameters(weight, bias, 3, 1)
    out = layer_norm(y, x, parameters, epsilon=count * count, out_shift=OUT_SHIFT)
    z = y * 8.0 + x * 2.0
    # epsilon counts squares of the sum rounded by 64
    variance = z.var(-1, keepdims=True) + 64.0**2
    scaled = (z - z.mean(-1, keepdims=True)) / np.sqrt(variance) * weight / OUT_SCALE
    exact = (scaled + bias / OUT_SCALE).clip(-32767, 32767)
    # the deviation is that of values rounded to multiples of 64, each off by at most 32
    tolerance = 3 + np.abs(scaled) * (32 / np.sqrt(variance) + 2.0**-9)
    assert (np.abs(out - exact) <= tolerance).all()
    assert np.abs(out).max() <= 32767


def test_without_residual_is_a_zero_residual():
    rng = np.random.default_rng(0)
    y = rng.integers(-5000, 5000, (4, 24))
    parameters = _parameters(np.ones(24), np.zeros(24), 2, 5)
    options = {"epsilon": 7, "out_shift": OUT_SHIFT}
    assert (
        layer_norm(y, None, parameters, **options)
        == layer_norm(y, np.zeros_like(y), parameters, **options)
    ).all()


def test_a_constant_row_gives_the_bias():
    bias = np.linspace(-1, 1, 16)
    parameters = _parameters(np.ones(16), bias, 0, 0)
    for value in (0, 5, -32768, 32767):
        out = layer_norm(np.full((1, 16), value), None, parameters, epsilon=0, out_shift=OUT_SHIFT)
        assert np.abs(out - bias / OUT_SCALE).max() <= 1


@pytest.mark.parametrize("sign", [1, -1])
def test_the_residual_sum_saturates_at_24_bits(sign):
    y = sign * np.array([[32767, 16384, -3000, -32767]])
    x = sign * np.array([[255, 0, 0, -255]])
    weight, bias = np.ones(4), np.zeros(4)
    shift = {"epsilon": 0, "out_shift": OUT_SHIFT}
    exact = _parameters(weight, bias, 8, 0)  # elements 0 and 3 are the limits themselves
    beyond = dataclasses.replace(exact, y_shift=np.array([15, 8, 8, 15]))
    assert (layer_norm(y, x, beyond, **shift) == layer_norm(y, x, exact, **shift)).all()


@pytest.mark.parametrize("count", [4, 1024])
def test_a_row_whose_rounded_squares_vanish_has_variance_one(count):
    """Elements up to 31 round to no multiple of 64. They are then divided by 1, with ``5 + b``
    fractional bits, which leave 18 bits in long rows."""
    z = np.tile([31, -31, 5, -5], count // 4)[None]
    zero = np.zeros(count, np.int64)
    parameters = NormParameters(zero + 1, zero, zero, zero)
    out = layer_norm(z, None, parameters, epsilon=0, out_shift=2)
    bits = (count - 1).bit_length()
    u = (z << (5 + bits)).clip(-(1 << 17) + 1, (1 << 17) - 1)
    assert (out == np.floor(u / 4 + 0.5).clip(-32767, 32767)).all()


@pytest.mark.parametrize("count", [2, 3, 16, 33, 384, 1024])
@pytest.mark.parametrize("magnitude", [300, 3000, 32767])
def test_rms_norm_against_float(count, magnitude):
    rng = np.random.default_rng(count)
    y = rng.integers(-magnitude, magnitude + 1, (20, count)) + magnitude // 2
    weight = rng.uniform(0.3, 2, count)
    parameters = _parameters(weight, np.zeros(count), 3, 0)
    z = residual_sum(y.clip(-32767, 32767), None, parameters)
    out = normalise(z, parameters, epsilon=count * count, out_shift=OUT_SHIFT, centre=False)
    square = (z.astype(float) ** 2).mean(-1, keepdims=True) + 64.0**2
    scaled = z / np.sqrt(square) * weight / OUT_SCALE
    tolerance = 3 + np.abs(scaled) * (32 / np.sqrt(square) + 2.0**-9)
    assert (np.abs(out - scaled.clip(-32767, 32767)) <= tolerance).all()


def test_rms_norm_of_a_row_without_mean_is_its_layer_norm():
    half = np.random.default_rng(1).integers(-4000, 4000, (5, 12))
    y = np.concatenate([half, -half], 1)
    parameters = _parameters(np.ones(24), np.zeros(24), 6, 0)  # 6: no rounding before the square
    z = residual_sum(y, None, parameters)
    options = {"epsilon": 5, "out_shift": OUT_SHIFT}
    expected = layer_norm(y, None, parameters, **options)
    assert (normalise(z, parameters, centre=False, **options) == expected).all()


def test_the_sum_is_rounded_by_the_shift_of_its_channel():
    z = np.array([[5, -5, 6, -6, 1 << 22, (1 << 23) - 1, 1 - (1 << 23)]])
    shift = np.array([1, 1, 2, 2, 8, 9, 8])
    zero = np.zeros(7, np.int64)
    parameters = NormParameters(zero, zero, zero, zero, shift)
    assert rounded_sum(z, parameters).tolist() == [[3, -2, 2, -1, 16384, 16384, -32767]]


def test_a_sum_without_a_shift_is_written_as_it_is():
    zero = np.zeros(3, np.int64)
    z = np.array([[5, 40000, -40000]])
    assert rounded_sum(z, NormParameters(*[zero] * 4)).tolist() == [[5, 32767, -32767]]


def test_a_plain_residual_add():
    rng = np.random.default_rng(2)
    y, x = rng.integers(-32767, 32768, (2, 3, 10))
    zero = np.zeros(10, np.int64)
    parameters = NormParameters(zero, zero, zero + 4, zero + 4, zero + 4)
    total = rounded_sum(residual_sum(y, x, parameters), parameters)
    assert (total == (y + x).clip(-32767, 32767)).all()


def test_every_step_counts_what_it_clips_once():
    zero = np.zeros(4, np.int64)
    one = NormParameters(zero + (1 << 16), zero, zero + 8, zero, zero)
    clipping = Clipping()
    y = np.array([[32767, -32768, 100, -100], [5, -5, 5, -5]])
    z = residual_sum(y, None, one, clipping)
    assert clipping.elements.tolist() == [[False, True, False, False], [False] * 4]
    rounded_sum(z, one, clipping)
    assert clipping.elements.tolist() == [[True, True, False, False], [False] * 4]
    normalise(z, one, epsilon=0, out_shift=12, clip=clipping)
    clipped = clipping.elements.tolist()
    assert clipped[0][:2] == [True, True]
    loud = Clipping()
    normalise(z, one, epsilon=0, out_shift=0, clip=loud)
    assert loud.elements.all()


def rounded(x, shift):
    return (2 * x + (1 << shift)) // (2 << shift)


def limited(x, bits):
    limit = (1 << bits - 1) - 1
    return max(-limit, min(limit, x))


def normalised(z, gamma, beta, epsilon, out_shift, centre):
    """A row by integers alone."""
    count, bits = len(z), (len(z) - 1).bit_length()
    w = [limited(rounded(value, 6), 18) for value in z]
    v = count * sum(value * value for value in w) + epsilon
    mean = 0
    if centre:
        v -= sum(w) ** 2
        mean = rounded(sum(z) * int((1 << 15 + bits) / count + 0.5), 15 + bits)
    mantissa, exponent = (int(part) for part in rsqrt(np.array(max(1, v))))
    out = []
    for value, weight, bias in zip(z, gamma, beta, strict=True):
        u = limited(rounded((value - mean) * mantissa, 11 - bits + exponent), 18)
        out.append(limited(rounded(u * weight + (bias << 8), out_shift), 16))
    return out


@pytest.mark.parametrize("centre", [True, False], ids=["layer norm", "RMS norm"])
@pytest.mark.parametrize("count", [2, 3, 4, 5, 24, 65])
def test_norms_to_the_bit(count, centre):
    """Of rows within 24 bits, of their ends, and of one far from all others."""
    rng = np.random.default_rng(count)
    most = (1 << 23) - 1
    z = np.concatenate([rng.integers(-limit, limit + 1, (3, count)) for limit in (90, 5000, most)])
    z = np.concatenate([z, np.where(np.arange(count) > 0, -most, most) * [[1], [-1]]])
    gamma = rng.integers(1 << 14, 1 << 17, count) * rng.choice([-1, 1], count)
    beta, zero = rng.integers(-(1 << 20), 1 << 20, count), np.zeros(count, np.int64)
    parameters = NormParameters(gamma, beta, zero, zero)
    for epsilon, out_shift in ((0, 14), (1 << 20, 17)):
        options = {"epsilon": epsilon, "out_shift": out_shift, "centre": centre}
        wanted = [normalised(row, gamma.tolist(), beta.tolist(), **options) for row in z.tolist()]
        assert normalise(z, parameters, **options).tolist() == wanted


def test_inverse_count():
    for count in range(2, 2000):
        value = inverse_count(count)
        assert 1 << 15 <= value < 1 << 16
        exact = 2 ** (15 + (count - 1).bit_length()) / count
        assert value == int(exact + 0.5)
    assert inverse_count((1 << 17) + 1) == (1 << 16) - 1
    with pytest.raises(ValueError, match="at least 2 elements, got 1"):
        inverse_count(1)
