"""Tensor parallelism: the columns of linear layers and the heads of attentions shared out.

Every rank computes some columns of a linear layer from whole rows, and some heads of an attention;
norms, which need whole rows, are computed by all. Where whole rows are read of which a rank has
some columns, ranks gather them. Integers are never added up across ranks, and no column depends on
another one, so that any number of ranks gives the same bits (Shoeybi et al. 2019 split rows of the
second layer instead, which sums over ranks).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from transept.golden.graph import Graph, Operator, Value
from transept.golden.numerics.requantise import ChannelParameters
from transept.golden.ops import Attention, Linear

__all__ = ["Columns", "Stage", "shares", "stages"]

#: First column, and the one behind the last.
Columns = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Stage:
    """Operators of one rank between two gatherings.

    columns: of every input what the rank's graph reads; starts: first column of every output;
    gathered: outputs of which every rank has some columns, with the columns of each.
    """

    graph: Graph
    columns: dict[str, Columns]
    starts: dict[str, int]
    gathered: dict[str, list[Columns]]


def shares(units: int, ranks: int, width: int = 1) -> list[Columns]:
    """Columns of every rank, for so many units of ``width`` columns; the first ranks have more."""
    ends = [-(-rank * units // ranks) * width for rank in range(ranks + 1)]
    return list(itertools.pairwise(ends))


def stages(graph: Graph, rank: int, ranks: int) -> list[Stage]:
    """What one rank does, in order.

    Raises
    ------
    ValueError
        If there is no such rank.
    """
    if not 0 <= rank < ranks:
        raise ValueError(f"rank {rank} is outside 0 to {ranks - 1}")
    return _Sharder(graph, rank, ranks).stages()


class _Sharder:
    def __init__(self, graph: Graph, rank: int, ranks: int) -> None:
        self._graph, self._rank, self._ranks = graph, rank, ranks
        #: Columns of each rank, of values of which no rank has all.
        self._split: dict[str, list[Columns]] = {}
        self._found: list[Stage] = []
        self._ops: list[Operator] = []
        self._values: dict[str, Value] = {}
        self._columns: dict[str, Columns] = {}

    def stages(self) -> list[Stage]:
        for op in self._graph.ops:
            heads = self._heads(op) if isinstance(op, Attention) else None
            if heads is None:
                self._gather([name for name in op.inputs if name in self._split])
            if isinstance(op, Linear):
                self._linear(op)
            elif isinstance(op, Attention) and heads is not None:
                self._attention(op, heads)
            else:
                self._whole(op)
        self._gather([name for name in self._graph.outputs if name in self._split])
        self._close({})
        return self._found

    # --- operators
    def _whole(self, op: Operator) -> None:
        names = (*op.inputs, *op.outputs)
        self._add(op, {name: (0, self._graph.values[name].width) for name in names})

    def _linear(self, op: Linear) -> None:
        """Some columns, whole heads of an attention that reads them."""
        width, units = self._graph.values[op.y].width, self._units(op.y)
        if units < self._ranks:
            self._whole(op)
            return
        shared = self._split[op.y] = shares(units, self._ranks, width // units)
        first, end = shared[self._rank]
        channel = _part(op.channel, first, end)
        weight = np.ascontiguousarray(op.weight[first:end])
        packed = op.packed and op.packed.outputs(first, end)
        self._add(
            dataclasses.replace(op, weight=weight, channel=channel, packed=packed),
            {op.x: (0, self._graph.values[op.x].width), op.y: (first, end)},
        )

    def _units(self, name: str) -> int:
        """Into how many parts a linear layer's result may be cut."""
        for op in self._graph.consumers(name):
            if isinstance(op, Attention):
                return op.kv_heads
        return self._graph.values[name].width

    def _heads(self, op: Attention) -> list[Columns] | None:
        """Key-value heads of each rank; None if there are too few, or operands were cut
        otherwise."""
        if op.kv_heads < self._ranks:
            return None
        shared = shares(op.kv_heads, self._ranks)
        for name in op.inputs:
            width = self._graph.values[name].width // op.kv_heads
            wanted = [(first * width, end * width) for first, end in shared]
            if self._split.get(name, wanted) != wanted:
                return None
        return shared

    def _attention(self, op: Attention, shared: Sequence[Columns]) -> None:
        (first, end), share = shared[self._rank], op.heads // op.kv_heads
        columns = {}
        for name in (*op.inputs, op.out):
            width = self._graph.values[name].width // op.kv_heads
            columns[name] = first * width, end * width
        self._split[op.out] = [(a * width, b * width) for a, b in shared]
        heads = slice(first * share, end * share)
        part = dataclasses.replace(
            op,
            heads=(end - first) * share,
            kv_heads=end - first,
            score_multiplier=op.score_multiplier[heads].copy(),
            score_shift=op.score_shift[heads].copy(),
            context=_part(op.context, *columns[op.out]),
        )
        self._add(part, columns)

    def _add(self, op: Operator, columns: Mapping[str, Columns]) -> None:
        """Let the stage do this, on these columns of values; a stage has one part of each."""
        if any(self._columns.get(name, part) != part for name, part in columns.items()):
            self._close({})
        self._ops.append(op)
        self._columns |= columns
        for name, (first, end) in columns.items():
            value = self._graph.values[name]
            scale = None if value.scale is None else value.scale[first:end].copy()
            self._values[name] = dataclasses.replace(value, width=end - first, scale=scale)

    # --- stages
    def _gather(self, names: Sequence[str]) -> None:
        """End the stage so that every rank has all columns of some values."""
        if names:
            self._close({name: self._split.pop(name) for name in names})

    def _close(self, gathered: dict[str, list[Columns]]) -> None:
        if self._ops:
            made = {name for op in self._ops for name in op.outputs}
            read = {name for op in self._ops for name in op.inputs} - made
            later = self._read_later()
            inputs = tuple(name for name in self._values if name in read)
            outputs = tuple(name for name in self._values if name in made and name in later)
            dims = {value.dim for value in self._values.values()}
            graph = Graph(
                tuple(dim for dim in self._graph.dims if dim.name in dims),
                self._values,
                inputs,
                outputs,
                tuple(self._ops),
            )
            columns = {name: self._columns[name] for name in inputs}
            starts = {name: self._columns[name][0] for name in outputs}
            self._found.append(Stage(graph, columns, starts, gathered))
        self._ops, self._values, self._columns = [], {}, {}

    def _read_later(self) -> set[str]:
        """Values that operators behind this stage read, or the graph's caller."""
        done = {op.name for stage in self._found for op in stage.graph.ops}
        done |= {op.name for op in self._ops}
        left = (op for op in self._graph.ops if op.name not in done)
        return {name for op in left for name in op.inputs} | set(self._graph.outputs)


def _part(channel: ChannelParameters, first: int, end: int) -> ChannelParameters:
    parts = (channel.multiplier, channel.shift, channel.bias)
    return ChannelParameters(*(np.ascontiguousarray(part[first:end]) for part in parts))
