"""Gantt charts (Gantt 1910): which part of a graph is on which device, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transept.host.compiler.picture import COLOURS
from transept.host.placement.plan import Plan
from transept.host.placement.scheduler import Placed

__all__ = ["Bar", "draw_gantt", "planned_bars", "run_bars"]

HEIGHT = 0.6  # of a bar, of the distance between devices
TINT = 0.35  # of what goes to the host and back, in the colour of its device
FONT, LETTER = 7, 0.62  # points, and the width of a letter in its height
EDGE = "#333333"
MARGIN = 1.02  # of the time axis, as a factor


@dataclass(frozen=True)
class Bar:
    """Work of a device: seconds from ``start`` on, of which ``transfer`` to and from the host."""

    device: str
    label: str
    start: float
    seconds: float
    transfer: float = 0.0


def planned_bars(plan: Plan) -> list[Bar]:
    """A bar for each part as it was predicted, named by how many operators it has."""
    return [
        Bar(part.device, str(len(part.operators)), part.start, part.seconds, part.transfer)
        for part in plan.parts
    ]


def run_bars(placed: Placed) -> list[Bar]:
    """A bar for each part as it ran; what was done once for its shape is no work."""
    return [
        Bar(part.result.device, str(len(part.planned.operators)), part.start, part.result.seconds)
        for part in placed.parts
    ]


def draw_gantt(
    axes: Any, bars: Sequence[Bar], devices: Sequence[str] = (), *, end: float = 0.0
) -> None:
    """A line for each device, those of the bars from top to bottom if none are told.

    axes: of matplotlib, in a figure of its final size; the time axis is in milliseconds, and goes
    on to ``end`` in seconds if the bars end before: charts that share it are drawn with one.
    """
    rows = list(devices) or list(dict.fromkeys(bar.device for bar in bars))
    end = max(end, *(bar.start + bar.seconds for bar in bars))
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 1e3 * end * MARGIN)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.set_xlabel("ms")
    letters = _points(axes) / (end * MARGIN) / (FONT * LETTER)
    for bar in bars:
        _draw(axes, bar, rows.index(bar.device), letters)


def _points(axes: Any) -> float:
    """The width of axes on paper, with their labels beside them."""
    figure = axes.get_figure()
    figure.draw_without_rendering()
    return axes.get_position().width * figure.get_figwidth() * 72


def _draw(axes: Any, bar: Bar, row: int, letters: float) -> None:
    """The transfer in a paler colour in front; letters: that fit into a second."""
    colour = COLOURS[row % len(COLOURS)]
    for start, seconds, tint in (
        (bar.start, bar.transfer, TINT),
        (bar.start + bar.transfer, bar.seconds - bar.transfer, 1.0),
    ):
        axes.barh(row, 1e3 * seconds, HEIGHT, left=1e3 * start, color=(colour, tint))
    axes.barh(
        row, 1e3 * bar.seconds, HEIGHT, left=1e3 * bar.start, fill=False, edgecolor=EDGE, lw=0.6
    )
    if len(bar.label) <= bar.seconds * letters:
        place = {"ha": "center", "va": "center", "fontsize": FONT}
        axes.text(1e3 * (bar.start + bar.seconds / 2), row, bar.label, **place)
