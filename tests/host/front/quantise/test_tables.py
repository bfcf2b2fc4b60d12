"""Activation tables: their segments worked out by hand, and limits of their constants.

How close tables are to all kinds of functions is in ``test_quantise``.
"""

import numpy as np
import pytest
import torch

from transept.host.front.quantise.tables import fit_table

LOW = np.arange(-32, 32)  # where segments begin, in their width


def constants(found):
    table = found.table
    return table.start, table.width, table.slope_shift, table.out_shift


def test_segments_of_a_square_are_the_square():
    """y = x**2 / 2**14 in steps: in a segment from ``low``, d**2 + 2 low d + low**2 of that."""
    found = fit_table(torch.square, 1.0, -12)
    assert (found.in_exponent, found.out_exponent) == (-13, -12)
    assert constants(found) == (-16384, 9, 10, 16)
    low, table = 512 * LOW, found.table
    inner = slice(1, -1)
    assert table.c0[inner].tolist() == (low**2 // 64)[inner].tolist()
    assert table.c1[inner].tolist() == (8 * low)[inner].tolist()
    assert table.c2[inner].tolist() == [4096] * 62
    outer = [0, -1]  # lines through a parabola that ends at 32767
    assert table.c2[outer].tolist() == [0, 0]
    assert table.c0[outer].tolist() == [5353343, 5196527]
    assert table.c1[outer].tolist() == [-64954, 65762]
    assert found.error == pytest.approx(2.0**-13, rel=1e-3)


def test_the_widest_segments_reach_as_far_as_int16():
    """Half of the grid, for calibration reached only so far; no outer segment is a line."""
    found = fit_table(torch.square, 1.99, -12)
    assert constants(found) == (-32768, 10, 8, 15)
    inside = slice(10, 54)
    low = 1024 * LOW[inside]
    assert found.table.c0[inside].tolist() == (low**2 // 128).tolist()
    assert found.table.c0[[0, -1]].tolist() == [32767 * 128] * 2
    assert found.error == pytest.approx(3.08e-5, rel=1e-2)


def test_a_ramp_bends_where_a_segment_begins():
    found = fit_table(torch.relu, 1.0, -14)
    assert (*constants(found), found.error) == (-16384, 9, 10, 16, 0.0)
    ramp = np.maximum(LOW, 0)
    assert found.table.c0[:-1].tolist() == (ramp * 2**18)[:-1].tolist()
    assert found.table.c1[:-1].tolist() == [0] * 32 + [2**17] * 31
    assert (found.table.c0[-1], found.table.c1[-1]) == (8370742, 399)
    assert not found.table.c2.any()


def test_segments_of_an_s_curve():
    found = fit_table(torch.tanh, 4.0, -15)
    table, some = found.table, [0, 20, 32, 33, 63]
    assert (found.in_exponent, *constants(found)) == (-11, -16384, 9, 7, 16)
    assert table.c0[some].tolist() == [-8388352, -8347073, -2023, 2053309, 8388352]
    assert table.c1[some].tolist() == [0, 10040, 1060994, 993385, 0]
    assert table.c2[some].tolist() == [0, 827, -7924, -20305, 0]
    assert found.error == pytest.approx(2.443e-4, rel=1e-3)


@pytest.mark.parametrize(
    ("slope", "reach", "width", "slope_shift", "out_shift"),
    [
        (1, 0.02, 9, 10, 16),
        (50, 0.1, 9, 8, 16),
        (1000, 0.1, 5, 0, 15),
        (1000, 0.5, 1, 10, 12),
    ],
)
def test_steeper_functions_have_narrower_segments(slope, reach, width, slope_shift, out_shift):
    found = fit_table(lambda x: torch.tanh(slope * x), reach, -15)
    assert constants(found) == (-(32 << width), width, slope_shift, out_shift)


@pytest.mark.parametrize(("factor", "error"), [(0.0, 0.0), (1 / 3, 1 / 3)])
def test_the_error_of_less_than_a_step_is_a_share_of_one(factor, error):
    assert fit_table(lambda x: factor * x, 1.0, 0).error == pytest.approx(error)
