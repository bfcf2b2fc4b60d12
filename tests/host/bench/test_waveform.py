"""Timing diagrams: a level for every bit, a hexagon for every number, and text where it fits."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from transept.host.bench.waveform import HEIGHT, TINT, Bit, Bus, draw_waveform
from transept.host.compiler.picture import COLOURS

CYCLES = range(10, 16)
VALUES = np.array([0, 5, 5, 7, 7, 123456])
VALID = np.array([0, 1, 1, 1, 0, 1])
GROUPS = np.array([0, 0, 0, 0, 0, 1])


def draw(lines, span=None, width=8):
    axes = Figure(figsize=(width, 2)).subplots()
    draw_waveform(axes, lines, CYCLES, span)
    return axes


def hexagons(axes):
    """(left, right, row, colour) of the coloured ones."""
    found = []
    for patch in axes.patches:
        (left, bottom), (right, top) = patch.get_extents().min, patch.get_extents().max
        corners = axes.transData.inverted().transform([(left, bottom), (right, top)])
        if patch.get_facecolor() != to_rgba("white") and hasattr(patch, "xy"):
            found.append((*np.rint(corners[:, 0]).astype(int).tolist(), corners[:, 1].mean()))
    return found


def texts(axes):
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize(
    ("held", "runs"),
    [
        (False, [(11, 12), (12, 13), (13, 14), (15, 16)]),
        (True, [(11, 13), (13, 14), (15, 16)]),
    ],
)
def test_a_number_is_a_hexagon_where_it_is_valid(held, runs):
    axes = draw([Bit("some", VALID), Bus("numbers", VALUES, VALID, GROUPS, held=held)])
    found = hexagons(axes)
    assert [(left, right) for left, right, _ in found] == runs
    assert all(middle == pytest.approx(1) for _, _, middle in found)


def test_groups_are_colours():
    axes = draw([Bus("numbers", VALUES, VALID, GROUPS)])
    found = [patch.get_facecolor() for patch in axes.patches[1::2]]
    first, second = (to_rgba(COLOURS[group], TINT) for group in (0, 1))
    assert found == [first, first, first, second]


def test_held_numbers_of_two_groups_are_two():
    axes = draw([Bus("numbers", 0 * VALUES, VALID | 1, GROUPS, held=True)])
    assert [(left, right) for left, right, _ in hexagons(axes)] == [(10, 15), (15, 16)]


def test_text_is_written_where_it_fits():
    line = Bus("numbers", VALUES, VALID, GROUPS)
    assert texts(draw([line])) == ["5", "5", "7", "123456"]
    assert texts(draw([line], width=2.5)) == ["5", "5", "7"]
    assert texts(draw([Bus("numbers", VALUES, VALID, GROUPS, shown=False)])) == []


def test_more_fits_into_fewer_cycles():
    line = Bus("numbers", VALUES, VALID, GROUPS)
    axes = draw([line], span=range(13, 16), width=2.5)
    assert texts(axes) == ["7", "123456"]
    assert axes.get_xlim() == (13, 16)


def test_a_bit_is_high_or_low_for_its_cycle():
    (stairs,) = draw([Bit("some", np.array([0, 1, 1, 0, 0, 1]))]).patches
    levels, edges, _ = stairs.get_data()
    assert levels.tolist() == [HEIGHT, -HEIGHT, -HEIGHT, HEIGHT, HEIGHT, -HEIGHT]
    assert list(edges) == [10, 11, 12, 13, 14, 15, 16]


def test_lines_are_named_from_top_to_bottom():
    axes = draw([Bit("one", VALID), Bit("two", VALID)])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one", "two"]
    bottom, top = axes.get_ylim()
    assert bottom > 1 > 0 > top
    assert axes.get_xlim() == (10, 16)
    assert axes.get_xlabel() == "cycle"
