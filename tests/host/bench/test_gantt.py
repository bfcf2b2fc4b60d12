"""Gantt charts: a bar for every part where and when it is, its transfer in front of it."""

import pytest
from drawings import Drawing
from graphs import random_inputs
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from placements import SHAPE, costs, two_chains

from transept.golden.config import TINY
from transept.host.bench.gantt import MARGIN, TINT, Bar, draw_gantt, planned_bars, run_bars
from transept.host.compiler.picture import COLOURS
from transept.host.placement.plan import Planner
from transept.host.placement.scheduler import Scheduler
from transept.host.runtime.region import Region
from transept.host.runtime.session import Session

BARS = [
    Bar("cpu", "first part", 0.0, 0.004),
    Bar("gpu", "twelve operators", 0.004, 0.001, transfer=0.0005),
    Bar("cpu", "last", 0.005, 0.0001),
]


def draw(bars, devices=(), width=8):
    axes = Figure(figsize=(width, 2)).subplots()
    draw_gantt(axes, bars, devices)
    return axes


def rectangles(axes):
    """(left, width, middle, colour) of the filled ones that have some width."""
    return [
        (p.get_x(), p.get_width(), p.get_y() + p.get_height() / 2, p.get_facecolor())
        for p in axes.patches
        if p.get_fill() and p.get_width()
    ]


def test_a_bar_is_where_and_when_its_part_is():
    axes = draw(BARS)
    first, second = (to_rgba(colour) for colour in COLOURS[:2])
    wanted = [
        (0, 4, 0, first),
        (4, 0.5, 1, to_rgba(COLOURS[1], TINT)),
        (4.5, 0.5, 1, second),
        (5, 0.1, 0, first),
    ]
    for (*place, colour), (*there, other) in zip(rectangles(axes), wanted, strict=True):
        assert place == pytest.approx(there, abs=1e-9)
        assert colour == other
    outlines = [p for p in axes.patches if not p.get_fill()]
    assert [p.get_width() for p in outlines] == pytest.approx([4, 1, 0.1])


def test_devices_are_named_from_top_to_bottom():
    axes = draw(BARS, ("rtl", "gpu", "cpu"))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["rtl", "gpu", "cpu"]
    assert [middle for _, _, middle, _ in rectangles(axes)] == pytest.approx([2, 1, 1, 2])
    bottom, top = axes.get_ylim()
    assert bottom > 2 > 0 > top
    assert [label.get_text() for label in draw(BARS).get_yticklabels()] == ["cpu", "gpu"]


def test_all_is_within_the_axes():
    axes = draw(BARS)
    assert axes.get_xlim() == pytest.approx((0, 5.1 * MARGIN))
    assert axes.get_xlabel() == "ms"


def test_charts_that_share_their_time_axis_end_together():
    short, long = Figure(figsize=(8, 3)).subplots(2, sharex=True)
    for axes, bars in ((long, BARS), (short, BARS[:1])):
        draw_gantt(axes, bars, end=0.0051)
        assert axes.get_xlim() == pytest.approx((0, 5.1 * MARGIN))


def test_text_is_written_where_it_fits():
    assert [text.get_text() for text in draw(BARS).texts] == ["first part", "twelve operators"]
    assert [text.get_text() for text in draw(BARS, width=2).texts] == ["first part"]
    (text, *_) = draw(BARS).texts
    assert text.get_position() == (2.0, 0)


def test_plans_and_runs_have_bars():
    graph = two_chains()
    known = {name: costs(graph, 0, launch=1.0, rate=100.0) for name in ("cpu", "golden")}
    plan = Planner(graph, SHAPE, known).plan()
    assert planned_bars(plan) == [
        Bar(p.device, str(p.end - p.first), p.start, p.seconds, p.transfer) for p in plan.parts
    ]
    sessions = {name: Session(TINY, name, fallback=False) for name in known}
    region = Region("region", graph, TINY)
    placed = Scheduler(sessions.__getitem__, known).run(region, random_inputs(graph, 2, 8))
    bars = run_bars(placed)
    assert {bar.device for bar in bars} == set(known)
    assert {bar.label for bar in bars} == {"2"}
    assert [bar.start for bar in bars] == [part.start for part in placed.parts]
    assert [bar.seconds for bar in bars] == [part.result.seconds for part in placed.parts]


DRAWING = """
set_yticks([0 1], [cpu gpu])
set_ylim(1.6, -0.6)
set_xlim(0, 6.12)
tick_params(axis=y, length=0)
grid(axis=x, alpha=0.3)
set_axisbelow(True)
set_xlabel(ms)
figure.draw_without_rendering()
barh(0, 0, 0.6, left=0, color=[#0072b2 0.35])
barh(0, 4, 0.6, left=0, color=[#0072b2 1])
barh(0, 4, 0.6, left=0, fill=False, edgecolor=#333333, lw=0.6)
text(2, 0, abc, ha=center, va=center, fontsize=7)
barh(1, 0.5, 0.6, left=4, color=[#e69f00 0.35])
barh(1, 1.5, 0.6, left=4.5, color=[#e69f00 1])
barh(1, 2, 0.6, left=4, fill=False, edgecolor=#333333, lw=0.6)
"""


def test_a_whole_drawing():
    drawing = Drawing(2.0)
    draw_gantt(
        drawing, [Bar("cpu", "abc", 0.0, 0.004), Bar("gpu", "long name", 0.004, 0.002, 5e-4)]
    )
    assert drawing == DRAWING


@pytest.mark.parametrize(("width", "shown"), [(1.1, 0), (1.115, 1)])
def test_a_letter_takes_its_share_of_the_paper(width, shown):
    """Four of 6.12 milliseconds on 40 points; letters are 4.34 wide."""
    drawing = Drawing(width)
    draw_gantt(drawing, [Bar("cpu", "letter", 0.002, 0.004)])
    assert sum(line.startswith("text") for line in drawing.lines) == shown
