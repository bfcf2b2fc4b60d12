"""Where values lie in DRAM: inputs and outputs in window IO, spilled ones in SCRATCH."""

from __future__ import annotations

from dataclasses import dataclass

from transept.golden.graph import Graph
from transept.golden.isa import Window
from transept.golden.ops import Append
from transept.host.compiler.cut import Shape
from transept.host.compiler.layout import Layouts
from transept.host.compiler.tasks import DramRows

__all__ = ["Tensor", "tensors", "window_bytes"]

ALIGN = 64


@dataclass(frozen=True)
class Tensor:
    """Rows of one value in a DRAM window.

    Row m starts at ``offset + m * pitch`` bytes. A row is ``segments`` segments of ``width``
    elements, each ``segment_bytes`` long; what is left over is padding.
    """

    value: str
    window: Window
    offset: int
    rows: int
    segments: int
    width: int
    segment_bytes: int
    bits: int

    @property
    def pitch(self) -> int:
        """Bytes from row to row."""
        return self.segments * self.segment_bytes

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return self.rows * self.pitch

    def rows_from(self, row: int) -> DramRows:
        """The rows from ``row`` on, as tasks see them."""
        return DramRows(self.window, self.offset + row * self.pitch, self.pitch, self.bits // 8)


def tensors(
    graph: Graph, layouts: Layouts, shape: Shape, spilled: frozenset[str]
) -> dict[str, Tensor]:
    """The tensor of every input, output and spilled value; states have pages of their own.

    An output that is spilled is read back from where it is delivered.
    """
    places: dict[str, Tensor] = {}
    ends = dict.fromkeys(Window, 0)
    kept = {name for op in graph.ops if isinstance(op, Append) for name in (op.cache, op.out)}
    delivered = [name for name in (*graph.inputs, *graph.outputs) if name not in kept]
    scratch = [name for name in graph.values if name in spilled and name not in delivered]
    for window, names in ((Window.IO, delivered), (Window.SCRATCH, scratch)):
        for name in names:
            if name in places:
                continue
            value, segments = graph.values[name], layouts[name]
            places[name] = tensor = Tensor(
                name,
                window,
                ends[window],
                shape.batch * shape.lengths[value.dim],
                segments.count,
                segments.width,
                segments.words * segments.tile * value.bits // 8,
                value.bits,
            )
            ends[window] = -(-(tensor.offset + tensor.nbytes) // ALIGN) * ALIGN
    return places


def window_bytes(places: dict[str, Tensor], window: Window) -> int:
    """Bytes of a window that holds these tensors."""
    ends = [place.offset + place.nbytes for place in places.values() if place.window == window]
    return max(ends, default=0)
