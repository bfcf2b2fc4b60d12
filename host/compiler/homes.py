"""Where values live between operators: on chip as a whole, in DRAM, or block by block."""

from __future__ import annotations

import enum

from transept.golden.graph import Graph, Operator
from transept.golden.ops import Add, Attention, Linear, Multiply, Norm
from transept.host.compiler.segments import AttentionSegment, RowSegment, Segment, segments

__all__ = ["Home", "Homes", "crossing", "first_residuals", "plan", "unprojected"]


class Home(enum.Enum):
    """Where all rows of a value are while a group of sequences goes through."""

    CHIP = "all rows on chip, from their definition to their last use"
    DRAM = "in DRAM; blocks of rows pass through the chip"
    BLOCK = "on chip, a block of rows at a time; nothing outside the segment reads it"


def crossing(graph: Graph, parts: list[Segment]) -> list[str]:
    """Values that one segment defines and another reads, or that an attention reads or defines."""
    defined: dict[str, Segment] = {}
    read: dict[str, set[Segment]] = {}
    for part in parts:
        for op in part.ops:
            defined.update(dict.fromkeys(op.outputs, part))
            for name in op.inputs:
                read.setdefault(name, set()).add(part)
    projected = {
        name
        for part in parts
        if isinstance(part, AttentionSegment)
        for op in part.ops
        if isinstance(op, Linear)
        for name in op.outputs
    }
    return [
        name
        for name in graph.values
        if name in defined and name in read and name not in projected
        if isinstance(defined[name], AttentionSegment) or read[name] != {defined[name]}
    ]


def unprojected(graph: Graph, parts: list[Segment]) -> frozenset[str]:
    """Queries, keys and values that other operators than linear layers make: an attention loads
    them head by head, so that they go through DRAM."""
    return frozenset(
        name
        for part in parts
        if isinstance(part, AttentionSegment)
        for name in part.attention.inputs
        if name not in graph.inputs
        if all(name not in op.outputs for op in part.ops)
    )


def first_residuals(graph: Graph, parts: list[Segment]) -> set[str]:
    """Norms of a residual that comes from outside, which begin what goes on from norm to norm: with
    all rows on chip each norm takes the place of the one before, and its segment has two stages."""
    across = set(crossing(graph, parts))
    return {
        op.out
        for op in graph.ops
        if isinstance(op, Norm) and op.x in graph.inputs and op.out not in across
        if len(readers := list(graph.consumers(op.out))) > 1
        if any(isinstance(reader, Norm | Add) for reader in readers)
    }


class Homes:
    """The home of every value, and which result takes the place of which operand."""

    def __init__(self, graph: Graph, parts: list[Segment], spilled: frozenset[str]) -> None:
        self._graph, self._parts = graph, parts
        across = set(crossing(graph, parts))
        attended = {op.out for op in graph.ops if isinstance(op, Attention)}
        whole = across | (first_residuals(graph, parts) - spilled)
        self._homes: dict[str, Home] = {}
        for name in graph.values:
            away = name in spilled and name in across
            if name in graph.inputs or away or (name in attended and name not in across):
                self._homes[name] = Home.DRAM
            else:
                self._homes[name] = Home.CHIP if name in whole else Home.BLOCK
        self.in_place: dict[str, str] = {}
        for part in parts:
            for op in part.ops:
                self._overlay(part, op)
        self._maxima = self._with_maxima()

    def __getitem__(self, name: str) -> Home:
        return self._homes[name]

    def has_maxima(self, name: str) -> bool:
        """Whether the maximum of each row is kept with it."""
        return name in self._maxima

    def in_two(self, op: Operator) -> bool:
        """Whether a norm and the sum that it keeps are made one after the other: a linear layer
        reads the sum, and the vector unit finds the maxima of one result at a time."""
        if not isinstance(op, Norm) or op.sum is None:
            return False
        return any(isinstance(reader, Linear) for reader in self._graph.consumers(op.sum))

    def stored(self, name: str) -> bool:
        """Whether its rows go to DRAM as they are defined."""
        spilled = self._homes[name] == Home.DRAM and name not in self._graph.inputs
        return spilled or name in self._graph.outputs

    def passes(self, name: str) -> bool:
        """Whether its rows go to DRAM as they are defined and are read from there alone."""
        if not self.stored(name) or self._homes[name] == Home.CHIP:
            return False
        part = next(part for part in self._parts for op in part.ops if name in op.outputs)
        return all(name not in op.inputs for op in part.ops)

    def turns(self, name: str, *, loaded: bool) -> int:
        """Buffers of a value whose blocks pass through.

        Of an operand from DRAM one is used and one is loaded; of a residual one more waits to be
        added; between two engines one is written and one is read; the array alone does both in
        turn.
        """
        readers = [op for op in self._graph.ops if name in op.inputs]
        array = all(isinstance(op, Linear) for op in readers)
        if loaded:
            return 2 if array else 3
        made = all(isinstance(op, Linear) for op in self._graph.ops if name in op.outputs)
        return 1 if array and made and name not in self._graph.outputs else 2

    def _overlay(self, part: Segment, op: Operator) -> None:
        """Let results of the vector unit overwrite operands that nothing reads any more."""
        if isinstance(op, Add | Multiply) or self.in_two(op):
            results = [op.outputs[-1]]  # the norm, which comes first, leaves the operands alone
        elif isinstance(op, Norm):
            results = [op.out] if op.sum is None else [op.sum, op.out]
        else:
            return
        free = [name for name in dict.fromkeys(op.inputs[::-1]) if self._dead(part, op, name)]
        for result in results:
            operand = next((name for name in free if self._takes(result, name)), None)
            if operand is not None:
                self.in_place[result] = operand
                free.remove(operand)

    def _takes(self, result: str, operand: str) -> bool:
        """Whether a result can have the place of an operand. One that lives block by block may as
        well have all rows on chip, where they cost nothing."""
        if self._homes[operand] == Home.CHIP and self._homes[result] == Home.BLOCK:
            self._homes[result] = Home.CHIP
        chip = Home.CHIP in (self._homes[result], self._homes[operand])
        return not chip or self._homes[result] == self._homes[operand]

    def _dead(self, part: Segment, op: Operator, name: str) -> bool:
        """Whether nothing behind ``op`` reads what is on chip of the value."""
        chip = self._homes[name] == Home.CHIP
        ops = self._graph.ops if chip else part.ops
        behind = ops[ops.index(op) + 1 :]
        return all(name not in later.inputs for later in behind)

    def _with_maxima(self) -> set[str]:
        """Values that a linear layer reads or the vector unit writes, and all in the same place."""
        graph = self._graph
        found = {
            op.x for op in graph.ops if isinstance(op, Linear) and graph.values[op.x].bits == 16
        }
        found |= {op.outputs[0] for op in graph.ops if isinstance(op, Norm | Add)}
        place = {name: self._place(name) for name in graph.values}
        places = {place[name] for name in found}
        return {name for name in graph.values if place[name] in places}

    def _place(self, name: str) -> str:
        while name in self.in_place:
            name = self.in_place[name]
        return name


def plan(graph: Graph, spilled: frozenset[str]) -> tuple[list[Segment], Homes]:
    """Segments of a graph, and where its values live.

    Where all that goes on from one operator to the next is on chip with all rows anyway, all rows
    get there before any goes on: what was needed before is out of the way then.
    """
    whole = segments(graph)
    homes = Homes(graph, whole, spilled)
    parts = [
        stage
        for part in whole
        for stage in (_stages(part, homes) if isinstance(part, RowSegment) else [part])
    ]
    return parts, Homes(graph, parts, spilled)


def _stages(part: RowSegment, homes: Homes) -> list[RowSegment]:
    stages: list[RowSegment] = []
    start = 0
    for end in range(1, len(part.ops)):
        defined = {name for op in part.ops[start:end] for name in op.outputs}
        needed = {name for op in part.ops[end:] for name in op.inputs}
        on = defined & needed
        if on and all(homes[name] == Home.CHIP for name in on):
            stages.append(RowSegment(part.ops[start:end]))
            start = end
    return [*stages, RowSegment(part.ops[start:])]
