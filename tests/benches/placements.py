"""Costs that are drawn by lot, and graphs whose parts depend on each other or do not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from graphs import GraphBuilder

from transept.golden.graph import Graph
from transept.host.compiler.cut import Shape
from transept.host.placement.costs import DeviceCosts, Sample, features, signature

__all__ = ["SHAPE", "chain", "costs", "two_chains"]

SHAPE = Shape(2, {"rows": 8})


def costs(graph, seed, launch=0.0, rate=1e12, shape=SHAPE):
    """Random seconds of every operator, 1 to 9 each, different ones for operators that differ."""
    rng = np.random.default_rng(seed)
    found = DeviceCosts(launch, rate)
    for op in graph.ops:
        key = signature(graph, shape, op)
        if key not in found.samples:
            found.add(
                key,
                Sample(
                    type(op).__name__.lower(), features(graph, shape, op), float(rng.integers(1, 9))
                ),
            )
    return found


def chain(widths: Sequence[int]) -> Graph:
    """Linear layers one behind the other."""
    builder = GraphBuilder(4)
    first = x = builder.value(widths[0])
    for width in widths[1:]:
        x = builder.linear(x, width)
    return Graph(builder.dims, builder.values, (first,), (x,), tuple(builder.ops))


def two_chains(layers=2):
    """Two chains of linear layers that share nothing but the graph."""
    builder = GraphBuilder(5)
    ends, inputs = [], []
    for width in (8, 12):
        x = builder.value(width)
        inputs.append(x)
        for _ in range(layers):
            x = builder.linear(x, width)
        ends.append(x)
    return Graph(builder.dims, builder.values, tuple(inputs), tuple(ends), tuple(builder.ops))
