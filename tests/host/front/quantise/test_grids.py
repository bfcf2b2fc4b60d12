"""Integer grids: by hand what each function gives at its limits."""

import numpy as np
import pytest

from transept.host.front.quantise import grids
from transept.host.front.quantise.grids import int24, largest_shift, multipliers, power_of_two


def test_limits_are_those_of_the_hardware():
    assert (grids.INT16, grids.INT8) == (32767, 127)
    assert grids.PRODUCT_LIMIT == 16777215  # signed 25 bits
    assert (grids.MARGIN16, grids.OUT_SHIFT) == (2.0, 8)


@pytest.mark.parametrize(
    ("real", "multiplier", "shift"),
    [
        (1.0, 32768, 15),
        (0.75, 49152, 16),
        (2.0 - 2.0**-17, 65535, 15),  # rounds to 17 bits
        (40000.4, 40000, 0),
        (80000.0, 65535, 0),
        (1.25 * 2.0**-16, 40960, 31),
        (1.25 * 2.0**-17, 20480, 31),
        (2.0**-40, 0, 31),
        (0.0, 0, 31),
    ],
)
def test_a_multiplier_has_its_sixteenth_bit_set_if_31_shifts_reach(real, multiplier, shift):
    found = multipliers(np.array([real, 1.0]))
    assert [part.tolist() for part in found] == [[multiplier, 32768], [shift, 15]]


def test_int24_is_rounded_and_symmetric():
    found = int24(np.array([8388607.6, -8388608.0, -1.6, 1.4]))
    assert found.tolist() == [8388607, -8388607, -2, 1]


def test_the_smallest_exponent_that_holds_a_magnitude():
    assert [power_of_two(largest, 127) for largest in (127.0, 127.1, 254.0, 63.5, 63.6)] == [
        *(0, 1, 1, -1, 0)
    ]


@pytest.mark.parametrize(
    ("values", "shift"),
    [([1.0, -4.0], 4), ([3.97, 1.0], 4), ([3.96], 5), ([0.0], 9), ([1e-3], 9), ([100.0], 2)],
)
def test_the_largest_shift_that_fits(values, shift):
    assert largest_shift(np.array(values), 127, 2, 9) == shift
