"""Engines over time, a colour for each operator: as planned by the compiler, as run by the RTL."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from transept.golden.isa import Engine
from transept.host.compiler.executable import Executable
from transept.host.compiler.order import Schedule
from transept.host.compiler.picture import COLOURS, Bar, bars, joined
from transept.sim.timeline import Slice

__all__ = ["Work", "draw_engines", "legend", "observed", "palette", "planned"]

#: The work of every engine, by its name.
Work = Mapping[str, Sequence[Bar]]

#: What belongs to no operator, as rows of values on their way.
OTHER = "#bbbbbb"
HEIGHT = 0.8


def planned(schedule: Schedule, gap: int = 0) -> Work:
    """What the compiler expects; gap: cycles between two pieces of an operator that are shown as
    one."""
    return {engine.name: list(bars(schedule.slots, engine, gap)) for engine in Engine}


def observed(executable: Executable, pieces: Iterable[Slice], gap: int = 0) -> Work:
    """What happened; pieces: ``timeline.slices`` of the run; gap: as of ``planned``.

    An instruction's work begins when it no longer waits for tokens, and ends when it retires.
    """
    labels: dict[str, list[str]] = defaultdict(list)
    for label, instruction in zip(executable.labels, executable.decoded(), strict=True):
        if instruction.engine is not None:
            labels[instruction.engine.name].append(label)
    spans: dict[str, dict[int, tuple[int, int]]] = defaultdict(dict)
    for piece in pieces:
        if piece.track in labels and piece.state != "token":
            span = spans[piece.track]
            start, _ = span.get(piece.index, (piece.start, 0))
            span[piece.index] = (start, piece.stop)
    work = {
        name: [(labels[name][index], *span) for index, span in found.items()]
        for name, found in spans.items()
    }
    return {engine.name: list(joined(work.get(engine.name, []), gap)) for engine in Engine}


def palette(operators: Sequence[str]) -> dict[str, str]:
    """A colour for each operator."""
    return dict(zip(operators, COLOURS * len(operators), strict=False))


def draw_engines(axes: Any, work: Work, colours: Mapping[str, str], span: tuple[int, int]) -> None:
    """A row for each engine; axes: of matplotlib; span: first cycle that is drawn and the one
    behind the last."""
    for row, parts in enumerate(work.values()):
        for operator in dict.fromkeys(label for label, _, _ in parts):
            axes.broken_barh(
                [(start, end - start) for label, start, end in parts if label == operator],
                (row - HEIGHT / 2, HEIGHT),
                color=colours.get(operator, OTHER),
                linewidth=0,
            )
    axes.set_yticks(range(len(work)), work)
    axes.set_ylim(len(work) - 0.5, -0.5)
    axes.set_xlim(*span)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("cycle")


def legend(figure: Any, colours: Mapping[str, str], columns: int) -> None:
    """The operators' colours below a matplotlib figure."""
    from matplotlib.patches import Patch

    entries = [Patch(color=colour, label=name) for name, colour in colours.items()]
    entries.append(Patch(color=OTHER, label="other"))
    figure.legend(handles=entries, loc="outside lower center", ncols=columns, frameon=False)
