"""Parts of a graph: neighbouring operators that run together, and what goes in and out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from transept.golden.graph import Graph, Operator
from transept.host.compiler.cut import Shape

__all__ = [
    "Boundary",
    "Work",
    "boundaries",
    "boundary",
    "part_graph",
    "transfers",
    "weight_bytes",
]


@dataclass(frozen=True)
class Boundary:
    """Values that enter and leave some operators."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def _value_bytes(graph: Graph, shape: Shape, name: str) -> int:
    """Bytes of a value of this shape."""
    value = graph.values[name]
    return shape.batch * shape.lengths[value.dim] * value.width * value.bits // 8


def boundary(graph: Graph, first: int, end: int) -> Boundary:
    """What enters and leaves the operators from ``first`` to before ``end``."""
    ops = graph.ops[first:end]
    made = [name for op in ops for name in op.outputs]
    inputs = dict.fromkeys(name for op in ops for name in op.inputs if name not in made)
    later = {name for op in graph.ops[end:] for name in op.inputs} | set(graph.outputs)
    return Boundary(tuple(inputs), tuple(name for name in made if name in later))


def part_graph(graph: Graph, first: int, end: int) -> Graph:
    """The graph of these operators alone."""
    around = boundary(graph, first, end)
    ops = graph.ops[first:end]
    names = [name for op in ops for name in (*op.inputs, *op.outputs)]
    values = {name: graph.values[name] for name in dict.fromkeys(names)}
    dims = {value.dim for value in values.values()}
    return Graph(
        tuple(dim for dim in graph.dims if dim.name in dims),
        values,
        around.inputs,
        around.outputs,
        ops,
    )


@dataclass(frozen=True, eq=False)
class Work:
    """A graph, and a shape that it runs on."""

    graph: Graph
    shape: Shape

    def part(self, first: int, end: int) -> Work:
        """The work of some operators alone."""
        graph = part_graph(self.graph, first, end)
        lengths = {dim.name: self.shape.lengths[dim.name] for dim in graph.dims}
        return Work(graph, Shape(self.shape.batch, lengths))

    @property
    def moved(self) -> int:
        """Bytes that enter and leave."""
        return transfers(self.graph, self.shape, 0)[-1]


def boundaries(graph: Graph, pins: Mapping[str, str]) -> list[int]:
    """Where a graph may be cut, its ends included: between operators where no int8 value passes,
    so that attention stays with the layers that make its operands, and where pins differ.

    pins: devices by operator.
    """
    found = [0]
    for place in range(1, len(graph.ops)):
        pinned = [pins.get(op.name) for op in graph.ops[place - 1 : place + 1]]
        if pinned[0] != pinned[1] or not _narrow(graph, place):
            found.append(place)
    return [*found, len(graph.ops)]


def _narrow(graph: Graph, place: int) -> bool:
    """Whether an int8 value that some operator made passes from before ``place`` to behind it."""
    made = {name for op in graph.ops[:place] for name in op.outputs}
    read = {name for op in graph.ops[place:] for name in op.inputs}
    return any(graph.values[name].bits == 8 for name in made & read)


def transfers(graph: Graph, shape: Shape, first: int) -> list[int]:
    """Bytes that enter and leave parts that begin at operator ``first``, by how many operators they
    have."""
    last = {name: place for place, op in enumerate(graph.ops) for name in op.inputs}
    last |= dict.fromkeys(graph.outputs, len(graph.ops))
    made: set[str] = set()
    entered: set[str] = set()
    found = [0]
    for place, op in enumerate(graph.ops[first:], first):
        inputs = set(op.inputs)
        entering = inputs - made - entered
        done = {name for name in inputs & made if last[name] == place}
        leaving = {name for name in op.outputs if last.get(name, place) > place}
        more, less = (
            sum(_value_bytes(graph, shape, name) for name in names)
            for names in (entering | leaving, done)
        )
        found.append(found[-1] + more - less)
        made.update(op.outputs)
        entered |= entering
    return found


def weight_bytes(op: Operator) -> int:
    """Bytes of an operator's weights."""
    weight = getattr(op, "weight", None)
    return 0 if weight is None else int(weight.size)
