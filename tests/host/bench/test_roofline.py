"""Rooflines: what limits, and what is reached."""

import pytest
from drawings import Drawing
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from transept.host.bench.roofline import MARGIN, Point, Roof, draw_roofline
from transept.host.compiler.picture import COLOURS

ROOFS = [Roof("wide", 256, 16), Roof("narrow", 256, 8)]
POINTS = [
    Point("a", 4, 60, "modelled", "one"),
    Point("b", 64, 250, "modelled", "one"),
    Point("c", 8, 50, "simulated", "one"),
    Point("d", 128, 200, "measured", "two"),
]


@pytest.fixture
def axes():
    axes = Figure().subplots()
    draw_roofline(axes, ROOFS, POINTS)
    return axes


def test_memory_limits_up_to_the_ridge_and_the_peak_behind_it(axes):
    for line, roof in zip(axes.lines, ROOFS, strict=False):
        (x, y) = line.get_data()
        assert list(y) == [min(roof.peak, roof.rate * place) for place in x]
        assert roof.peak / roof.rate in x
        assert (x[0], x[-1]) == axes.get_xlim()
    assert axes.lines[0].get_linestyle() != axes.lines[1].get_linestyle()


def test_points_have_the_colour_of_their_group_and_the_marker_of_their_kind(axes):
    found = {line.get_label(): line for line in axes.lines}
    assert list(found) == [
        *("wide", "narrow"),
        *("one, simulated", "one, modelled", "two, measured"),
    ]
    assert [list(part) for part in found["one, modelled"].get_data()] == [[4, 64], [60, 250]]
    assert [list(part) for part in found["two, measured"].get_data()] == [[128], [200]]
    one, same, other = (found[name] for name in list(found)[2:])
    assert to_hex(one.get_color()) == to_hex(same.get_color()) == COLOURS[0]
    assert to_hex(other.get_color()) == COLOURS[1]
    assert len({line.get_marker() for line in (one, same, other)}) == 3
    assert {line.get_linestyle() for line in (one, same, other)} == {"None"}


def test_every_point_is_named_where_it_is(axes):
    assert {text.get_text(): text.xy for text in axes.texts} == {
        point.label: (point.intensity, point.reached) for point in POINTS
    }
    assert len({text.get_ha() for text in axes.texts}) == 2


def test_all_is_within_the_axes(axes):
    assert axes.get_xlim() == (4 / MARGIN, 128 * MARGIN)
    low, high = axes.get_ylim()
    assert low < 8 * 4 / MARGIN
    assert high > 256
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_legend() is not None


def test_numbers_of_the_axes_are_written_out(axes):
    for axis in (axes.xaxis, axes.yaxis):
        assert axis.get_major_formatter()(2048.0) == "2,048"


DRAWING = """
plot([2 16 128], [32 256 256], -, color=black, linewidth=1, label=wide)
plot([2 16 128], [16 128 128], --, color=black, linewidth=1, label=narrow)
plot([64], [250], o, color=#0072b2, label=one, simulated)
annotate(b, [64 250], textcoords=offset points, fontsize=small, xytext=[5 -11], ha=left)
plot([4], [60], ^, color=#0072b2, label=one, modelled)
annotate(a, [4 60], textcoords=offset points, fontsize=small, xytext=[5 -11], ha=left)
plot([8], [50], s, color=#e69f00, label=two, measured)
annotate(c, [8 50], textcoords=offset points, fontsize=small, xytext=[-3 7], ha=right)
plot([8], [50], s, color=#009e73, label=three, measured)
annotate(d, [8 50], textcoords=offset points, fontsize=small, xytext=[5 -11], ha=left)
set_xscale(log, base=2)
set_yscale(log, base=2)
xaxis.set_major_formatter({x:,.0f})
yaxis.set_major_formatter({x:,.0f})
set_xlim(2, 128)
set_ylim(8, 512)
grid(alpha=0.3)
legend(loc=lower right, fontsize=small)
"""


def test_a_whole_drawing():
    points = [
        *(Point("a", 4, 60, "modelled", "one"), Point("b", 64, 250, "simulated", "one")),
        *(Point("c", 8, 50, "measured", "two"), Point("d", 8, 50, "measured", "three")),
    ]
    drawing = Drawing()
    draw_roofline(drawing, [Roof("wide", 256, 16), Roof("narrow", 128, 8)], points)
    assert drawing == DRAWING
    drawing = Drawing()
    draw_roofline(drawing, ROOFS, [Point("low", 32, 4, "measured", "one")])
    assert {"set_xlim(8, 64)", "set_ylim(2, 512)"} <= set(drawing.lines)
