"""Reciprocal, reciprocal square root and exponential against float64 at their stated errors."""

import numpy as np
import pytest

from transept.golden.numerics import tables
from transept.golden.numerics.polynomial import evaluate, gather, reciprocal, rsqrt
from transept.golden.numerics.softmax import exponential

RELATIVE_ERROR = 2.0**-15


def _spread(rng: np.random.Generator, bits: int, count: int) -> np.ndarray:
    """Integers from 1 to 2**bits - 1, evenly over the exponents, with the ends of each octave."""
    ends = np.array([v for p in range(bits) for v in (1 << p, (2 << p) - 1)])
    random = np.exp2(rng.uniform(0, bits, count)).astype(np.int64).clip(1, (1 << bits) - 1)
    return np.concatenate([ends, random])


def test_reciprocal():
    n = _spread(np.random.default_rng(0), 24, 100_000)
    mantissa, exponent = reciprocal(n)
    approximation = mantissa * np.exp2(-16.0 - exponent)
    error = np.abs(approximation * n - 1)
    assert error[n < 1 << 18].max() < RELATIVE_ERROR
    assert error.max() < 2.0**-14.9
    assert mantissa.min() >= 1 << 15
    assert mantissa.max() == 1 << 16
    assert (exponent == np.floor(np.log2(n))).all()


def test_reciprocal_of_zero_is_zero():
    assert reciprocal(np.array([0]))[0] == 0


def test_rsqrt():
    v = _spread(np.random.default_rng(1), 62, 100_000)
    mantissa, exponent = rsqrt(v)
    approximation = mantissa * np.exp2(-16.0 - exponent)
    assert (np.abs(approximation * np.sqrt(v.astype(np.float64)) - 1) < RELATIVE_ERROR).all()
    assert mantissa.min() >= 1 << 15
    assert mantissa.max() == 1 << 16


def test_exponential():
    distance = np.arange(1024)
    mantissa, shift = exponential(-distance, np.zeros_like(distance))
    exact = 254 * 512 * np.exp2(-(distance & 255) / 256)
    assert np.abs(mantissa - exact).max() <= 6.0
    assert (shift == distance >> 8).all()


@pytest.mark.parametrize("table", [tables.EXP2, tables.RECIPROCAL, tables.RSQRT])
def test_products_of_the_tables_fit_a_multiplier(table):
    """c2 in 18 bits, the slope in 25 bits signed, positions in 13 bits."""
    for _, c1, c2 in table:
        assert abs(c2) < 1 << 17
        assert abs(c1) + abs(c2) < 1 << 24


def test_segments_meet():
    for table in (tables.EXP2, tables.RECIPROCAL, tables.RSQRT[:16], tables.RSQRT[16:]):
        for segment in range(len(table) - 1):
            last = evaluate(table, segment, 4095)
            step = last - evaluate(table, segment, 4094)
            assert abs(last + step - table[segment + 1][0]) <= 16


def test_gather_of_an_integer():
    assert gather([5, 6, 7], 1) == 6
