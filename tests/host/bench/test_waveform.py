"""Timing diagrams: a level for every bit, a hexagon for every number, and text where it fits."""

import numpy as np
import pytest
from drawings import Drawing
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


DRAWING = """
set_yticks([0 1 2], [bit bus mute])
set_ylim(2.6, -0.6)
set_xlim(11, 14)
tick_params(axis=y, length=0)
grid(axis=x, color=#dddddd, linewidth=0.6)
set_axisbelow(True)
set_xlabel(cycle)
figure.draw_without_rendering()
stairs([0.32 0.32 0.32 -0.32 -0.32], [10 11 12 13 14 15],
baseline=None, color=#333333, linewidth=1.2)
axhline(1, color=#999999, linewidth=0.8, zorder=1)
fill([11 11.12 12.88 13 12.88 11.12], [1 0.68 0.68 1 1.32 1.32], facecolor=white, zorder=2)
fill([11 11.12 12.88 13 12.88 11.12], [1 0.68 0.68 1 1.32 1.32],
facecolor=[#e69f00 0.35], edgecolor=#333333, linewidth=0.6, zorder=3)
text(12, 1, 5, fontsize=7, ha=center, va=center, zorder=4, clip_on=True)
fill([13 13.12 13.88 14 13.88 13.12], [1 0.68 0.68 1 1.32 1.32], facecolor=white, zorder=2)
fill([13 13.12 13.88 14 13.88 13.12], [1 0.68 0.68 1 1.32 1.32],
facecolor=[#0072b2 0.35], edgecolor=#333333, linewidth=0.6, zorder=3)
text(13.5, 1, 7, fontsize=7, ha=center, va=center, zorder=4, clip_on=True)
axhline(2, color=#999999, linewidth=0.8, zorder=1)
fill([13 13.12 13.88 14 13.88 13.12], [2 1.68 1.68 2 2.32 2.32], facecolor=white, zorder=2)
fill([13 13.12 13.88 14 13.88 13.12], [2 1.68 1.68 2 2.32 2.32],
facecolor=[#0072b2 0.35], edgecolor=#333333, linewidth=0.6, zorder=3)
"""


def test_a_whole_drawing():
    """The first and the last number of the bus lie outside of what is drawn."""
    values = np.array([9, 5, 5, 7, 12])
    bus = Bus("bus", values, values > 0, np.array([0, 1, 1, 9, 0]), held=True)
    mute = Bus("mute", values, np.arange(5) == 3, 0 * values, shown=False)
    drawing = Drawing(2.0)
    lines = [Bit("bit", np.arange(5) > 2), bus, mute]
    draw_waveform(drawing, lines, range(10, 15), range(11, 14))
    assert drawing == DRAWING


@pytest.mark.parametrize(("width", "shown"), [(2.167, ["12345"]), (2.175, ["12345", "123456"])])
def test_a_digit_takes_its_share_of_the_paper(width, shown):
    """Three cycles on 78 points; digits are 4.34 wide."""
    values = np.array([12345, 123456, 1234567])
    drawing = Drawing(width)
    draw_waveform(drawing, [Bus("bus", values, values > 0, 0 * values)], range(3))
    found = [line.split(", ")[2] for line in drawing.lines if line.startswith("text")]
    assert found == shown
