"""A schedule as a picture: engines as rows, tasks as bars, SVG.

``python -m transept.host.compiler.picture docs/schedule.svg`` draws the one of docs/compiler.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path

import numpy as np

from transept.golden.config import PYNQ_Z2
from transept.golden.graph import Dim, Graph, Operator, Value
from transept.golden.isa import Engine
from transept.golden.numerics.norm import NormParameters
from transept.golden.numerics.requantise import SEGMENTS, ActivationTable, ChannelParameters
from transept.golden.ops import Attention, Linear, Norm
from transept.host.compiler.compile import schedule_of
from transept.host.compiler.cut import Shape
from transept.host.compiler.order import Schedule, Slot

__all__ = ["COLOURS", "bars", "draw", "encoder_layer", "joined"]

#: (label, start, end), in cycles.
Bar = tuple[str, int, int]

#: Of what belongs to no operator that is named.
OTHER = "#bbbbbb"
WIDTH, MARGIN, ROW, BAR, TOP = 1000, 90, 34, 24, 30
#: Cycles between two tasks of an operator that the picture does not show.
GAP = 400
#: Told apart by people who do not see all colours alike (Okabe and Ito 2008).
COLOURS = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#d55e00",
    "#f0e442",
    "#882255",
    "#000000",
)


def encoder_layer(hidden: int, heads: int, inner: int, limit: int) -> Graph:
    """One post-norm layer. Of its constants only the weights differ: what is the same is on chip
    once, and would be loaded once."""
    rng = np.random.default_rng(0)
    widths = {
        **dict.fromkeys(("x", "context", "attended", "normed", "down", "y"), hidden),
        **dict.fromkeys("qkv", hidden),
        "up": inner,
    }
    values = {n: Value(n, "rows", w, 8 if n in ("q", "k", "v") else 16) for n, w in widths.items()}
    zeros, ones = np.zeros(SEGMENTS, np.int64), np.ones(SEGMENTS, np.int64)
    table = ActivationTable(-32768, 10, 0, 8, zeros, ones, zeros)

    def channel(width: int) -> ChannelParameters:
        one = np.ones(width, np.int64)
        return ChannelParameters(one, one, one)

    def linear(name: str, x: str, y: str, table: ActivationTable | None = None) -> Linear:
        weight = rng.integers(-127, 128, (widths[y], widths[x])).astype(np.int8)
        return Linear(name, x, y, weight, channel(widths[y]), 14, 8, table)

    def norm(name: str, y: str, x: str, out: str) -> Norm:
        one = np.ones(hidden, np.int64)
        return Norm(name, y, x, out, NormParameters(one, one, one, one, one), 1, 18)

    one = np.ones(heads, np.int64)
    ops: tuple[Operator, ...] = (
        linear("query", "x", "q"),
        linear("key", "x", "k"),
        linear("value", "x", "v"),
        Attention(
            "attention", "q", "k", "v", "context", heads, heads, one, one, 16,
            channel(hidden), 18, 8, PYNQ_Z2.tile,
        ),
        linear("output", "context", "attended"),
        norm("first norm", "attended", "x", "normed"),
        linear("up", "normed", "up", table),
        linear("down", "up", "down"),
        norm("second norm", "down", "normed", "y"),
    )  # fmt: skip
    return Graph((Dim("rows", limit),), values, ("x",), ("y",), ops)


def draw(schedule: Schedule, names: list[str]) -> str:
    """The SVG; names: of the operators, in the order of their colours. What belongs to none of
    them, as rows of values on their way, is grey."""
    colours = dict(zip(names, COLOURS * len(names), strict=False))
    height = TOP + ROW * len(Engine) + 60
    box = f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box}>',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        *_axis(schedule, height),
    ]
    for row, engine in enumerate(Engine):
        parts.append(f'<text x="8" y="{TOP + row * ROW + 17}">{engine.name}</text>')
        for label, start, end in bars(schedule.slots, engine):
            x = _place(start, schedule)
            width = max(0.3, _place(end, schedule) - x)
            colour = colours.get(label, OTHER)
            title = escape(f"{label}, cycles {start} to {end}")
            parts.append(
                f'<rect x="{x:.1f}" y="{TOP + row * ROW}" width="{width:.1f}" height="{BAR}" '
                f'fill="{colour}"><title>{title}</title></rect>'
            )
    parts += [*_legend(colours | {"other": OTHER}, height), "</svg>"]
    return "\n".join(parts) + "\n"


def _place(cycle: float, schedule: Schedule) -> float:
    return MARGIN + (WIDTH - MARGIN - 10) * cycle / schedule.cycles


def bars(slots: list[Slot], engine: Engine, gap: int = GAP) -> Iterator[Bar]:
    """An engine's work, neighbours of one operator as one: see ``joined``."""
    found: list[Bar] = []
    for slot in slots:
        if slot.task.engine == engine:
            found.append((slot.task.label, slot.start, slot.end))
        if engine == Engine.LOAD:
            found += [(slot.task.label, block.load, block.loaded) for block in slot.streamed]
    return joined(found, gap)


def joined(found: list[Bar], gap: int) -> Iterator[Bar]:
    """Bars of one label with at most ``gap`` cycles between them as one, in the order of their
    starts."""
    bar: Bar | None = None
    for label, start, end in sorted(found, key=lambda item: item[1]):
        if bar is not None and bar[0] == label and start <= bar[2] + gap:
            bar = (label, bar[1], max(bar[2], end))
            continue
        if bar is not None:
            yield bar
        bar = (label, start, end)
    if bar is not None:
        yield bar


def _legend(colours: dict[str, str], height: int) -> Iterator[str]:
    for index, (name, colour) in enumerate(colours.items()):
        x = MARGIN + index * (WIDTH - MARGIN) // len(colours)
        yield f'<rect x="{x}" y="{height - 18}" width="10" height="10" fill="{colour}"/>'
        yield f'<text x="{x + 14}" y="{height - 9}">{escape(name)}</text>'


def _axis(schedule: Schedule, height: int) -> Iterator[str]:
    yield f'<text x="8" y="{height - 32}">cycle</text>'
    step = 10 ** (len(str(schedule.cycles)) - 1)
    for cycle in range(0, schedule.cycles, step):
        x = _place(cycle, schedule)
        yield f'<path d="M{x:.1f} {TOP - 4}V{height - 46}" stroke="#ccc"/>'
        yield f'<text x="{x:.1f}" y="{height - 32}" text-anchor="middle">{cycle:,}</text>'


def main(path: str) -> None:
    """One layer of MiniLM, 128 tokens, on PYNQ_Z2."""
    graph = encoder_layer(hidden=384, heads=12, inner=1536, limit=128)
    schedule = schedule_of(graph, PYNQ_Z2, Shape(1, {"rows": 128}))
    Path(path).write_text(draw(schedule, [op.name for op in graph.ops]))


if __name__ == "__main__":
    main(sys.argv[1])
