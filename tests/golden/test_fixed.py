"""Rounding and saturation against exact rational arithmetic."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transept.golden.numerics.fixed import Clipping, bit_length, round_shift, saturate, wrap


@given(st.integers(-(1 << 61), 1 << 61), st.integers(0, 61))
def test_round_shift_is_the_nearest_integer_ties_up(x, shift):
    assert round_shift(x, shift) == math.floor(Fraction(x, 1 << shift) + Fraction(1, 2))


@given(st.lists(st.integers(-(1 << 40), 1 << 40), min_size=1), st.integers(0, 50))
def test_round_shift_of_arrays_is_that_of_integers(values, shift):
    expected = [round_shift(value, shift) for value in values]
    assert round_shift(np.array(values), shift).tolist() == expected
    assert round_shift(np.array(values), np.full(len(values), shift)).tolist() == expected


@given(st.integers(-(1 << 50), 1 << 50), st.integers(2, 32))
def test_saturate_never_gives_the_lowest_code(x, bits):
    limit = 2 ** (bits - 1) - 1
    y = saturate(x, bits)
    assert -limit <= y <= limit
    assert y == saturate(np.array([x]), bits)[0]
    assert y == x or abs(x) > limit


@given(st.lists(st.integers(-300, 300), min_size=1))
def test_clipping_saturates_and_remembers(values):
    clipping = Clipping()
    first = clipping(np.array(values), 9)
    assert first.tolist() == [saturate(value, 9) for value in values]
    assert clipping.elements.tolist() == [abs(value) > 255 for value in values]
    clipping(first, 8)
    # whatever was clipped once is clipped
    assert clipping.elements.tolist() == [abs(value) > 127 for value in values]


@given(st.integers(-(1 << 40), 1 << 40), st.integers(1, 32))
def test_wrap_keeps_the_low_bits(x, bits):
    y = wrap(x, bits)
    assert -(1 << bits - 1) <= y < 1 << bits - 1
    assert (x - y) % (1 << bits) == 0


@pytest.mark.parametrize("power", range(62))
def test_bit_length_around_powers_of_two(power):
    for x in (1 << power, (1 << power) + 1, (2 << power) - 1):
        assert bit_length(np.array([x]))[0] == x.bit_length()
