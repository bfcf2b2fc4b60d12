"""Segments of a graph: operators that go through row block by row block, or head by head."""

from __future__ import annotations

from dataclasses import dataclass

from transept.golden.graph import Graph, Operator
from transept.golden.ops import Append, Attention, CachedAttention, Linear

__all__ = ["AttentionSegment", "CachedSegment", "RowSegment", "Segment", "beginning", "segments"]


@dataclass(frozen=True, eq=False)
class RowSegment:
    """Operators of which every output row depends on the same input row alone."""

    ops: tuple[Operator, ...]


@dataclass(frozen=True, eq=False)
class AttentionSegment:
    """An attention, with the linear layers that make its queries, keys and values head by head;
    what none makes comes from DRAM."""

    attention: Attention
    query: Linear | None
    key: Linear | None
    value: Linear | None

    @property
    def ops(self) -> tuple[Operator, ...]:
        """Every operator of the segment."""
        linears = (self.query, self.key, self.value)
        return (*(op for op in linears if op is not None), self.attention)


@dataclass(frozen=True, eq=False)
class CachedSegment:
    """An attention on states, and what it adds to them."""

    attention: CachedAttention
    appends: tuple[Append, ...]

    @property
    def ops(self) -> tuple[Operator, ...]:
        """Every operator of the segment."""
        return (*self.appends, self.attention)


Segment = RowSegment | AttentionSegment | CachedSegment


def segments(graph: Graph) -> list[Segment]:
    """The operators of ``graph`` in segments, in an order in which they can run."""
    projections = {
        op.name: segment
        for segment in (_attention(graph, op) for op in graph.ops if isinstance(op, Attention))
        for op in segment.ops
    }
    found: list[Segment] = []
    rows: list[Operator] = []
    for op in graph.ops:
        segment = projections.get(op.name)
        if segment is None:
            rows.append(op)
        elif op is segment.attention:
            if rows:
                found.append(RowSegment(tuple(rows)))
            rows = []
            found.append(segment)
    if rows:
        found.append(RowSegment(tuple(rows)))
    return found


def _attention(graph: Graph, op: Attention) -> AttentionSegment | CachedSegment:
    if isinstance(op, CachedAttention):
        made = [graph.producer(name) for name in dict.fromkeys((op.k, op.v))]
        return CachedSegment(op, tuple(append for append in made if isinstance(append, Append)))

    def projection(name: str) -> Linear | None:
        producer = graph.producer(name)
        alone = len(list(graph.consumers(name))) == 1 and name not in graph.outputs
        return producer if isinstance(producer, Linear) and alone else None

    return AttentionSegment(op, projection(op.q), projection(op.k), projection(op.v))


def beginning(graph: Graph, attentions: int) -> Graph:
    """The graph up to the segment of the attention that follows so many; itself if none does."""
    found = [i for i, op in enumerate(graph.ops) if isinstance(op, Attention)]
    if len(found) <= attentions:
        return graph
    following = next(p for p in segments(graph) if graph.ops[found[attentions]] in p.ops)
    end = min(graph.ops.index(op) for op in following.ops)
    ops = graph.ops[:end]
    defined = [name for op in ops for name in op.outputs]
    needed = {name for op in graph.ops[end:] for name in op.inputs} | set(graph.outputs)
    outputs = tuple(name for name in defined if name in needed)
    return Graph(graph.dims, graph.values, graph.inputs, outputs, ops)
