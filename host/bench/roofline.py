"""Rooflines (Williams et al. 2009): what memory and multipliers allow, and what is reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transept.host.compiler.picture import COLOURS

__all__ = ["KINDS", "Point", "Roof", "draw_roofline"]

#: How a number came about, and its marker.
KINDS = {"measured": "s", "simulated": "o", "modelled": "^"}
MARGIN = 2  # of both axes, as a factor
STYLES = ("-", "--", ":")
#: Of names, beside the points of one group and of the next.
PLACES: tuple[dict[str, Any], ...] = (
    {"xytext": (5, -11), "ha": "left"},
    {"xytext": (-3, 7), "ha": "right"},
)


@dataclass(frozen=True)
class Roof:
    """A machine: work in some time at most, and bytes of memory in the same time."""

    label: str
    peak: float
    rate: float


@dataclass(frozen=True)
class Point:
    """What is reached; intensity: work for each byte; kind: of ``KINDS``; group: its colour."""

    label: str
    intensity: float
    reached: float
    kind: str
    group: str


def draw_roofline(axes: Any, roofs: Sequence[Roof], points: Sequence[Point]) -> None:
    """Roofs as lines, points by group and kind, named below and above in turn; axes: of
    matplotlib."""
    ends = [point.intensity for point in points] + [roof.peak / roof.rate for roof in roofs]
    left, right = min(ends) / MARGIN, max(ends) * MARGIN
    for roof, style in zip(roofs, STYLES, strict=False):
        x = [left, roof.peak / roof.rate, right]
        y = [roof.rate * left, roof.peak, roof.peak]
        axes.plot(x, y, style, color="black", linewidth=1, label=roof.label)
    for index, group in enumerate(dict.fromkeys(point.group for point in points)):
        for kind, marker in KINDS.items():
            found = [point for point in points if (point.group, point.kind) == (group, kind)]
            x, y = [point.intensity for point in found], [point.reached for point in found]
            if found:
                colour = COLOURS[index % len(COLOURS)]
                axes.plot(x, y, marker, color=colour, label=f"{group}, {kind}")
            for point in found:
                _name(axes, point, PLACES[index % len(PLACES)])
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:,.0f}")
    axes.set_xlim(left, right)
    lowest = min([point.reached for point in points] + [roof.rate * left for roof in roofs])
    axes.set_ylim(lowest / MARGIN, max(roof.peak for roof in roofs) * MARGIN)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize="small")


def _name(axes: Any, point: Point, place: dict[str, Any]) -> None:
    where = (point.intensity, point.reached)
    axes.annotate(point.label, where, textcoords="offset points", fontsize="small", **place)
