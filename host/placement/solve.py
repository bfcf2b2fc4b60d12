"""The plan of least time: where each operator of a graph runs.

Parts are neighbouring operators on one device. Values pass between parts through the host, so what
a part takes depends on it alone, and dynamic programming over its ends finds the sequence of parts
of least sum exactly. Where parts do not depend on each other, devices work at the same time: the
plan is then changed in one place after the other as long as that gains.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from transept.golden.graph import Graph, Operator

__all__ = [
    "PartCost",
    "Piece",
    "critical_path",
    "improved",
    "least_sum",
    "makespan",
    "solve",
    "starts",
]

#: Changes that are tried, one after the other, of a plan in which devices work at the same time.
TRIES = 500
#: By how much a device may seem slower than it is.
FACTORS = (1.5, 2.5)
#: Seconds of the operators from ``first`` to before ``end`` on a device; infinite if it cannot.
PartCost = Callable[[int, int, str], float]


@dataclass(frozen=True)
class Piece:
    """Operators from ``first`` to before ``end`` on a device, and their seconds."""

    first: int
    end: int
    device: str
    seconds: float


def solve(graph: Graph, cuts: Sequence[int], devices: Sequence[str], cost: PartCost) -> list[Piece]:
    """Pieces of the least predicted time.

    cuts: where the graph may be cut, its ends included.

    Raises
    ------
    ValueError
        If some operators can run on no device.
    """
    least = least_sum(cuts, devices, cost)
    if _chained(graph, cuts):
        return least
    begins = [least, *_begins(cuts, devices, cost)]
    found = [improved(graph, begin, cuts, devices, cost) for begin in begins]
    return min(found, key=lambda pieces: makespan(graph, pieces))


def _begins(cuts: Sequence[int], devices: Sequence[str], cost: PartCost) -> Iterator[list[Piece]]:
    """Where to begin besides the least sum: with every cut, and with devices that seem slower than
    they are, so that others share their work."""
    spans = list(itertools.pairwise(cuts))
    yield [min((Piece(*s, d, cost(*s, d)) for d in devices), key=_seconds) for s in spans]
    for device, factor in itertools.product(devices, FACTORS):

        def slower(
            first: int, end: int, name: str, slow: str = device, by: float = factor
        ) -> float:
            return cost(first, end, name) * (by if name == slow else 1.0)

        found = least_sum(cuts, devices, slower)
        yield _pieces([(piece.first, piece.end, piece.device) for piece in found], cost)


def _seconds(piece: Piece) -> float:
    return piece.seconds


def _chained(graph: Graph, cuts: Sequence[int]) -> bool:
    """Whether what is between two cuts always waits for what is before: nothing is at the same
    time."""
    made: set[str] = set()
    for place, (first, end) in enumerate(itertools.pairwise(cuts)):
        ops = graph.ops[first:end]
        if place and not made & {name for op in ops for name in op.inputs}:
            return False
        made = {name for op in ops for name in op.outputs}
    return True


def least_sum(cuts: Sequence[int], devices: Sequence[str], cost: PartCost) -> list[Piece]:
    """The pieces of the least sum: best[j] = min over i and devices of best[i] + cost(i, j).

    Raises
    ------
    ValueError
        If some operators can run on no device.
    """
    best: dict[int, tuple[float, Piece | None]] = {cuts[0]: (0.0, None)}
    for place, end in enumerate(cuts[1:], 1):
        found: tuple[float, Piece | None] = (math.inf, None)
        for first in cuts[:place]:
            for device in devices:
                seconds = cost(first, end, device)
                if best[first][0] + seconds < found[0]:
                    found = best[first][0] + seconds, Piece(first, end, device, seconds)
        best[end] = found
    pieces: list[Piece] = []
    end = cuts[-1]
    while end != cuts[0]:
        piece = best[end][1]
        if piece is None:
            raise ValueError(f"no device runs the operators up to number {end}")
        pieces.insert(0, piece)
        end = piece.first
    return pieces


def improved(
    graph: Graph,
    pieces: list[Piece],
    cuts: Sequence[int],
    devices: Sequence[str],
    cost: PartCost,
    fits: Callable[[Sequence[Piece]], bool] = lambda pieces: True,
) -> list[Piece]:
    """Pieces changed in one place after the other as long as that gains, and what is found fits."""
    least, tries = makespan(graph, pieces), TRIES
    while True:
        for other in itertools.islice(_neighbours(graph, pieces, cuts, devices, cost), tries):
            tries -= 1
            found = makespan(graph, other)
            if found < least * (1 - 1e-9) and fits(other):
                pieces, least = other, found
                break
        else:
            return pieces


def _neighbours(
    graph: Graph, pieces: list[Piece], cuts: Sequence[int], devices: Sequence[str], cost: PartCost
) -> Iterator[list[Piece]]:
    """Plans that differ in one place: some of a piece, or all of it, elsewhere or apart; a border
    between two pieces at another cut, or none."""
    for index, piece in enumerate(pieces):
        for first, end in _stretches(graph, piece, cuts):
            for device in devices:
                spans = [
                    (piece.first, first, piece.device),
                    (first, end, device),
                    (end, piece.end, piece.device),
                ]
                yield [*pieces[:index], *_pieces(spans, cost), *pieces[index + 1 :]]
    for index, (left, right) in enumerate(itertools.pairwise(pieces)):
        for cut in cuts:
            if left.first <= cut <= right.end:
                spans = [(left.first, cut, left.device), (cut, right.end, right.device)]
                yield [*pieces[:index], *_pieces(spans, cost), *pieces[index + 2 :]]


def _stretches(graph: Graph, piece: Piece, cuts: Sequence[int]) -> Iterator[tuple[int, int]]:
    """All of a piece, its parts before and behind a cut, and what in it is independent."""
    yield piece.first, piece.end
    yield from _independent(graph, piece)
    for cut in cuts:
        if piece.first < cut < piece.end:
            yield piece.first, cut
            yield cut, piece.end


def _pieces(spans: Sequence[tuple[int, int, str]], cost: PartCost) -> list[Piece]:
    return [Piece(*span, cost(*span)) for span in spans if span[0] < span[1]]


def _independent(graph: Graph, piece: Piece) -> Iterator[tuple[int, int]]:
    """Stretches of a piece that share no value with what stands before or behind them in it."""
    component: dict[int, int] = {}
    maker = {name: i for i, op in enumerate(graph.ops) for name in op.outputs}
    for index in range(piece.first, piece.end):
        component[index] = index
        for name in graph.ops[index].inputs:
            other = maker.get(name, -1)
            if other >= piece.first:
                old, new = component[index], component[other]
                component = {k: new if v == old else v for k, v in component.items()}
    groups: dict[int, list[int]] = {}
    for index, group in component.items():
        groups.setdefault(group, []).append(index)
    if len(groups) > 1:
        for members in groups.values():
            if members[-1] - members[0] + 1 == len(members):
                yield members[0], members[-1] + 1


def starts(graph: Graph, pieces: Sequence[Piece]) -> list[float]:
    """When each piece starts: what it reads is there, and its device has done all before it."""
    ready: dict[str, float] = {}
    free: dict[str, float] = {}
    found = []
    for piece in pieces:
        ops = graph.ops[piece.first : piece.end]
        inputs = (name for op in ops for name in op.inputs)
        start = max([free.get(piece.device, 0.0), *(ready.get(name, 0.0) for name in inputs)])
        free[piece.device] = start + piece.seconds
        ready |= {name: start + piece.seconds for op in ops for name in op.outputs}
        found.append(start)
    return found


def makespan(graph: Graph, pieces: Sequence[Piece]) -> float:
    """Seconds until all is done."""
    begun = starts(graph, pieces)
    ends = [start + piece.seconds for start, piece in zip(begun, pieces, strict=True)]
    return max(ends, default=0.0)


def critical_path(ops: Sequence[Operator], fastest: Callable[[Operator], float]) -> float:
    """Seconds that no plan can beat: the longest way through operators, each of them where it is
    fastest, transfers for nothing."""
    ready: Mapping[str, float] = {}
    longest = 0.0
    for op in ops:
        end = max((ready.get(name, 0.0) for name in op.inputs), default=0.0) + fastest(op)
        ready = {**ready, **dict.fromkeys(op.outputs, end)}
        longest = max(longest, end)
    return longest
