"""The plan of least time: where each operator of a graph runs.

Parts are neighbouring operators on one device. Values pass between parts through the host, so what
a part takes depends on it alone. Plans grow part by part, from the first operator to the last
(label setting for paths with several criteria; Martins, European Journal of Operational Research
16, 1984): of a plan up to a cut all that matters is when each device is free, when each value that
is still to be read is there, and how many bytes of weights each limited device holds. A plan that
is ahead of another in none of these is dropped. Where each part waits for the one before and
memory is not limited, one plan is left at every cut: plain dynamic programming.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from transept.golden.graph import Graph, Operator

__all__ = ["PartCost", "Piece", "Problem", "critical_path", "makespan", "solve", "starts"]

#: Plans that are kept at all cuts together. Of more, some are dropped that might have been best.
LABELS = 2048
#: Plans that are kept at a cut in a first search. What is no better than its best is dropped at
#: once in the second.
NARROW = 4
#: Seconds of the operators from ``first`` to before ``end`` on a device; infinite if it cannot.
PartCost = Callable[[int, int, str], float]


@dataclass(frozen=True)
class Piece:
    """Operators from ``first`` to before ``end`` on a device, and their seconds."""

    first: int
    end: int
    device: str
    seconds: float


@dataclass(frozen=True)
class Problem:
    """What is to be planned.

    cuts: where the graph may be cut, its ends included; cost: of parts; fastest: seconds of each
    operator, by its name, that no device beats; held: bytes of weights of the operators from one to
    before another; room: bytes that devices hold at most, those that are limited.
    """

    graph: Graph
    cuts: Sequence[int]
    devices: Sequence[str]
    cost: PartCost
    fastest: Mapping[str, float]
    held: Callable[[int, int], int]
    room: Mapping[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class _Label:
    """A plan up to a cut: when devices are free, when live values are there, bytes held by limited
    devices; its last piece, and the plan before that."""

    free: tuple[float, ...]
    ready: tuple[float, ...]
    held: tuple[int, ...]
    before: _Label | None = None
    piece: Piece | None = None

    @property
    def criteria(self) -> tuple[float, ...]:
        """What a better plan has less of."""
        return *self.free, *self.ready, *self.held

    def pieces(self) -> list[Piece]:
        """All pieces, the first first."""
        found, label = [], self
        while label.piece is not None and label.before is not None:
            found.append(label.piece)
            label = label.before
        return found[::-1]


def solve(problem: Problem) -> tuple[list[Piece], bool] | None:
    """The pieces of least predicted time that memories hold, and whether no others take less for
    certain; None if none were found.

    Raises
    ------
    ValueError
        If some operators can run on no device.
    """
    for first, end in itertools.pairwise(problem.cuts):
        if all(math.isinf(problem.cost(first, end, device)) for device in problem.devices):
            raise ValueError(f"no device runs the operators up to number {end}")
    places = [_Place.at(problem, cut) for cut in problem.cuts]
    search = _Search(problem, places)
    certain = search.run(NARROW) or search.run(max(NARROW, LABELS // len(places)))
    return None if search.best is None else (search.best.pieces(), certain)


@dataclass(frozen=True)
class _Place:
    """A cut. live: values that are made before it and read behind it; readers: the first operator
    that reads each; tails: seconds of the longest way behind each; sources: the live inputs of
    every operator that waits for nothing else; work, weights: of all that is behind it."""

    cut: int
    live: Mapping[str, int]
    readers: tuple[int, ...]
    tails: tuple[float, ...]
    sources: tuple[tuple[int, ...], ...]
    work: float
    weights: int

    @classmethod
    def at(cls, problem: Problem, cut: int) -> _Place:
        """The place of a cut."""
        first, last = problem.cuts[0], problem.cuts[-1]
        before, behind = problem.graph.ops[first:cut], problem.graph.ops[cut:last]
        made = {name for op in before for name in op.outputs}
        later = {name for op in behind for name in op.outputs}
        readers: dict[str, int] = {}
        for place, op in enumerate(behind, cut):
            for name in made & set(op.inputs):
                readers.setdefault(name, place)
        live = {name: i for i, name in enumerate(readers)}
        sources = {
            tuple(live[name] for name in op.inputs if name in live)
            for op in behind
            if not later & set(op.inputs)
        }
        tails = tuple(critical_path(behind, problem.fastest, since=name) for name in live)
        work = sum(problem.fastest[op.name] for op in behind)
        weights = problem.held(cut, last)
        return cls(cut, live, tuple(readers.values()), tails, tuple(sources), work, weights)

    def earliest(self, ready: Sequence[float]) -> float:
        """When the first operator behind the cut can start."""
        return min(
            (max((ready[i] for i in source), default=0.0) for source in self.sources), default=0.0
        )


class _Search:
    """Plans up to every cut, and the best of all operators so far."""

    def __init__(self, problem: Problem, places: Sequence[_Place]) -> None:
        self.best: _Label | None = None
        self._problem, self._places = problem, places
        self._limited = tuple(problem.room)
        self._room = tuple(problem.room.values())
        self._open = not set(problem.devices) <= set(problem.room)
        self._labels: list[list[_Label]] = [[] for _ in places]

    def run(self, width: int) -> bool:
        """Find plans; whether none was dropped that might have been the best."""
        count, certain = len(self._problem.devices), True
        self._labels[0] = [_Label((0.0,) * count, (), (0,) * len(self._room))]
        for at, place in enumerate(self._places[:-1]):
            labels = self._undominated(at)
            certain &= len(labels) <= width
            labels = self._thinned(labels, place, width)
            for to in range(at + 1, len(self._places)):
                for label in self._grown(labels, at, to):
                    self._add(label, to)
            self._labels[at] = []
        return certain

    # --- which plans are kept
    def _add(self, label: _Label, to: int) -> None:
        if self.best is not None and self._bound(label, self._places[to]) >= _end(self.best):
            return
        if to == len(self._places) - 1:
            self.best = label
        else:
            self._labels[to].append(label)

    def _bound(self, label: _Label, place: _Place) -> float:
        """Seconds that no plan beats which begins like this one."""
        shared = (sum(label.free) + place.work) / len(label.free)
        ways = (ready + tail for ready, tail in zip(label.ready, place.tails, strict=True))
        return max(shared, _end(label), max(ways, default=0.0))

    def _undominated(self, at: int) -> list[_Label]:
        """Plans up to a cut that no other is at least as good as in everything."""
        ordered = sorted(self._labels[at], key=lambda label: sum(label.criteria))
        rows = np.array([label.criteria for label in ordered])
        kept: list[int] = []
        for index, row in enumerate(rows):
            if not (rows[kept] <= row).all(1).any():
                kept.append(index)
        return [ordered[index] for index in kept]

    def _thinned(self, labels: list[_Label], place: _Place, width: int) -> list[_Label]:
        """At most so many, those with the lowest bounds."""
        return sorted(labels, key=lambda label: self._bound(label, place))[:width]

    # --- how plans grow
    def _grown(self, labels: Sequence[_Label], at: int, to: int) -> Iterator[_Label]:
        """Plans with one more piece, from one cut to another."""
        place, after = self._places[at], self._places[to]
        needed = [i for i, reader in enumerate(place.readers) if reader < after.cut]
        passed = [place.live.get(name) for name in after.live]
        weights = self._problem.held(place.cut, after.cut)
        for number, device in enumerate(self._problem.devices):
            seconds = self._problem.cost(place.cut, after.cut, device)
            if math.isinf(seconds):
                continue
            piece = Piece(place.cut, after.cut, device, seconds)
            more = tuple(weights * (name == device) for name in self._limited)
            for label in labels:
                held = tuple(map(sum, zip(label.held, more, strict=True)))
                if not self._fits(held, after):
                    continue
                end = seconds + max([label.free[number], *(label.ready[i] for i in needed)])
                ready = [end if i is None else label.ready[i] for i in passed]
                free = [*label.free[:number], end, *label.free[number + 1 :]]
                early = after.earliest(ready)
                yield _Label(_raised(free, early), _raised(ready, early), held, label, piece)

    def _fits(self, held: Sequence[int], after: _Place) -> bool:
        """Whether memories hold this, and can hold what is still to come."""
        left = [room - size for room, size in zip(self._room, held, strict=True)]
        return min(left, default=0) >= 0 and (self._open or sum(left) >= after.weights)


def _end(label: _Label) -> float:
    return max(label.free)


def _raised(times: Sequence[float], least: float) -> tuple[float, ...]:
    """Times before which nothing happens any more are alike."""
    return tuple(max(time, least) for time in times)


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


def critical_path(
    ops: Sequence[Operator], fastest: Mapping[str, float], since: str | None = None
) -> float:
    """Seconds that no plan can beat: the longest way through operators, each of them where it is
    fastest, transfers for nothing. since: only of ways that begin with this value."""
    ready: dict[str, float] = {} if since is None else {since: 0.0}
    longest = 0.0
    for op in ops:
        known = [ready[name] for name in op.inputs if name in ready]
        if since is not None and not known:
            continue
        end = max(known, default=0.0) + fastest[op.name]
        ready |= dict.fromkeys(op.outputs, end)
        longest = max(longest, end)
    return longest
