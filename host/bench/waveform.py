"""Digital timing diagrams: signals of the RTL cycle by cycle, as engineers draw them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from transept.host.compiler.picture import COLOURS

__all__ = ["Bit", "Bus", "draw_waveform"]

HEIGHT, SLANT = 0.32, 0.12  # half of a bus, and how far its ends are pointed, in cycles
FONT, LETTER = 7, 0.62  # points, and the width of a digit in its height
LINE, IDLE = "#333333", "#999999"
TINT = 0.35  # of a bus, in the colour of its group


@dataclass(frozen=True, eq=False)
class Bit:
    """A signal of one bit, bool[cycles]."""

    label: str
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class Bus:
    """Numbers, int[cycles], each of a group, int[cycles], which is their colour.

    valid: bool[cycles], when they mean something; held: equal neighbours are one number that stays,
    and not several; shown: write the numbers where they fit.
    """

    label: str
    values: np.ndarray
    valid: np.ndarray
    groups: np.ndarray
    held: bool = False
    shown: bool = True


def draw_waveform(
    axes: Any, lines: Sequence[Bit | Bus], cycles: range, span: range | None = None
) -> None:
    """A line for each signal.

    axes: of matplotlib, in a figure of its final size; cycles: of the values; span: those that are
    drawn, all of them by default.
    """
    span = cycles if span is None else span
    axes.set_yticks(range(len(lines)), [line.label for line in lines])
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.set_xlim(span.start, span.stop)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("cycle")
    letters = _points(axes) / len(span) / (FONT * LETTER)
    for row, line in enumerate(lines):
        if isinstance(line, Bit):
            levels = row + HEIGHT - 2 * HEIGHT * np.asarray(line.values, int)
            axes.stairs(levels, [*cycles, cycles.stop], baseline=None, color=LINE, linewidth=1.2)
        else:
            axes.axhline(row, color=IDLE, linewidth=0.8, zorder=1)
            for run in _runs(line, cycles):
                if run.start < span.stop and run.stop > span.start:
                    _draw_run(axes, run, row, letters if line.shown else 0)


def _points(axes: Any) -> float:
    """The width of axes on paper, with their labels beside them."""
    figure = axes.get_figure()
    figure.draw_without_rendering()
    return axes.get_position().width * figure.get_figwidth() * 72


@dataclass(frozen=True)
class _Run:
    """Cycles from ``start`` to before ``stop`` in which a bus has one number."""

    start: int
    stop: int
    value: int
    group: int


def _draw_run(axes: Any, run: _Run, row: int, letters: float) -> None:
    """A hexagon; letters: that fit into a cycle."""
    left, right = run.start, run.stop
    x = [left, left + SLANT, right - SLANT, right, right - SLANT, left + SLANT]
    y = [row, row - HEIGHT, row - HEIGHT, row, row + HEIGHT, row + HEIGHT]
    axes.fill(x, y, facecolor="white", zorder=2)
    colour = COLOURS[run.group % len(COLOURS)]
    axes.fill(x, y, facecolor=(colour, TINT), edgecolor=LINE, linewidth=0.6, zorder=3)
    if len(str(run.value)) <= (right - left) * letters:
        place = {"ha": "center", "va": "center", "zorder": 4, "clip_on": True}
        axes.text((left + right) / 2, row, run.value, fontsize=FONT, **place)


def _runs(bus: Bus, cycles: range) -> Iterator[_Run]:
    """The numbers of a bus, without those that are not valid."""
    facts = np.stack([bus.valid, bus.values, bus.groups]).astype(np.int64)
    changes = np.any(np.diff(facts, axis=1, prepend=~facts[:, :1]), axis=0)
    heads = np.flatnonzero(changes | (not bus.held)).tolist()
    for start, stop in zip(heads, [*heads[1:], facts.shape[1]], strict=True):
        valid, value, group = facts[:, start].tolist()
        if valid:
            yield _Run(cycles[start], cycles.start + stop, value, group)
