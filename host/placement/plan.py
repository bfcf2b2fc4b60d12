"""Plans: the parts of a region, where each runs, what is predicted, and what else was possible."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from transept.golden.graph import Graph, Operator
from transept.host.compiler.cut import Shape
from transept.host.placement.costs import DeviceCosts
from transept.host.placement.parts import Boundary, boundaries, boundary, weight_bytes
from transept.host.placement.solve import Piece, critical_path, makespan, solve

__all__ = ["Costs", "Plan", "PlannedPart", "Planner", "check_pins", "pinned"]

#: Seconds of an operator on a device, by what is known of the device.
Costs = Mapping[str, DeviceCosts]
#: Bisections of the price of a byte of a device whose memory is limited.
BISECTIONS = 40


@dataclass(frozen=True)
class PlannedPart:
    """Neighbouring operators on a device.

    seconds: predicted, transfers included; transfer: of it, to and from the host; elsewhere: what
    the part would take on each other device that can run it.
    """

    first: int
    end: int
    device: str
    operators: tuple[str, ...]
    seconds: float
    transfer: float
    elsewhere: Mapping[str, float]


@dataclass(frozen=True)
class Plan:
    """Parts in the order of the graph.

    seconds: predicted, independent parts at the same time; alone: of every device that can run all;
    bound: no plan takes less.
    """

    parts: tuple[PlannedPart, ...]
    seconds: float
    alone: Mapping[str, float]
    bound: float


def pinned(graph: Graph, pins: Mapping[str, str]) -> dict[str, str]:
    """Devices by operator, from devices by the operator's name, a prefix of it that ends at a dot,
    or a pattern with ``*``; later pins win."""
    return {
        op.name: device for name, device in pins.items() for op in graph.ops if _fits(op.name, name)
    }


def check_pins(graphs: Sequence[Graph], pins: Mapping[str, str]) -> None:
    """Look whether every pin fits an operator of some graph.

    Raises
    ------
    ValueError
        If one does not.
    """
    names = [op.name for graph in graphs for op in graph.ops]
    for pin in pins:
        if not any(_fits(name, pin) for name in names):
            some = ", ".join(names[:6]) + (", .." if len(names) > 6 else "")
            raise ValueError(f"no layer {pin!r} to pin, there are {some}")


def _fits(operator: str, name: str) -> bool:
    return operator == name or operator.startswith(f"{name}.") or fnmatchcase(operator, name)


class Planner:
    """Plans for one graph and shape.

    pins: devices by operator (``pinned``); memory: bytes of weights that a device holds at most.
    """

    def __init__(
        self,
        graph: Graph,
        shape: Shape,
        costs: Costs,
        pins: Mapping[str, str] | None = None,
        memory: Mapping[str, int] | None = None,
    ) -> None:
        #: What is known of each device that may be used.
        self.costs = costs
        self._graph, self._shape = graph, shape
        self._pins, self._memory = dict(pins or {}), dict(memory or {})
        self._prices = dict.fromkeys(self._memory, 0.0)
        self._boundary = functools.cache(functools.partial(boundary, graph))
        self._cuts = boundaries(graph, self._pins)
        taken = {
            device: [self._seconds(device, known, op) for op in graph.ops]
            for device, known in costs.items()
        }
        self._operators = {
            device: _sums([time if math.isfinite(time) else 0.0 for time in times])
            for device, times in taken.items()
        }
        self._impossible = {
            device: _sums([math.isinf(time) for time in times]) for device, times in taken.items()
        }
        self._weights = _sums([weight_bytes(op) for op in graph.ops])

    def _seconds(self, device: str, known: DeviceCosts, op: Operator) -> float:
        if self._pins.get(op.name, device) != device:
            return math.inf
        try:
            return known.operator(self._graph, self._shape, op)
        except KeyError:
            return math.inf

    # --- costs
    def part(self, first: int, end: int, device: str) -> float:
        """Predicted seconds of operators on a device, transfers included; infinite if it cannot
        run them."""
        if self._held(first, end) > self._memory.get(device, math.inf):
            return math.inf
        sums, impossible = self._operators[device], self._impossible[device]
        if impossible[end] > impossible[first]:
            return math.inf
        work = sums[end] - sums[first]
        return self.costs[device].launch + work + self._transfer(first, end, device)

    def _transfer(self, first: int, end: int, device: str) -> float:
        around: Boundary = self._boundary(first, end)
        return self.costs[device].transfer(sum(around.sizes(self._graph, self._shape)))

    def _held(self, first: int, end: int) -> int:
        return int(self._weights[end] - self._weights[first])

    def _priced(self, first: int, end: int, device: str) -> float:
        seconds = self.part(first, end, device)
        return seconds + self._prices.get(device, 0.0) * self._held(first, end)

    def without(self, failed: str) -> Planner:
        """Plans that leave a device out; what was pinned to it may go anywhere."""
        costs = {device: known for device, known in self.costs.items() if device != failed}
        pins = {name: device for name, device in self._pins.items() if device != failed}
        return Planner(self._graph, self._shape, costs, pins, self._memory)

    # --- plans
    def plan(self, first: int = 0, end: int | None = None) -> Plan:
        """The plan of least time for the operators from ``first`` to before ``end``.

        Raises
        ------
        ValueError
            If some operator can run on no device.
        """
        span = first, len(self._graph.ops) if end is None else end
        self._prices = dict.fromkeys(self._memory, 0.0)
        pieces = self._solve(*span)
        for device in self._memory:
            pieces = self._within(device, span, pieces)
        return self._told(pieces, *span)

    def _solve(self, first: int, end: int) -> list[Piece]:
        cuts = [first, *(cut for cut in self._cuts if first < cut < end), end]
        return solve(self._graph, cuts, list(self.costs), self._priced)

    def _within(self, device: str, span: tuple[int, int], pieces: list[Piece]) -> list[Piece]:
        """Pieces whose weights fit the memory of a device: a price on its bytes, as low as will do
        (Lagrangian relaxation)."""
        if self._used(pieces, device) <= self._memory[device]:
            return pieces
        low, high = 0.0, sum(piece.seconds for piece in pieces)  # for a byte: surely too much
        for _ in range(BISECTIONS):
            self._prices[device] = (low + high) / 2
            other = self._solve(*span)
            if self._used(other, device) > self._memory[device]:
                low = self._prices[device]
            else:
                high, pieces = self._prices[device], other
        return pieces

    def _used(self, pieces: Sequence[Piece], device: str) -> int:
        return sum(self._held(p.first, p.end) for p in pieces if p.device == device)

    def _told(self, pieces: Sequence[Piece], first: int, end: int) -> Plan:
        parts = tuple(self._part(piece) for piece in pieces)
        real = [Piece(part.first, part.end, part.device, part.seconds) for part in parts]
        alone = {device: self.part(first, end, device) for device in self.costs}
        return Plan(
            parts,
            makespan(self._graph, real),
            {device: seconds for device, seconds in alone.items() if math.isfinite(seconds)},
            critical_path(self._graph.ops[first:end], self._fastest),
        )

    def _fastest(self, op: Operator) -> float:
        return min(self._seconds(device, known, op) for device, known in self.costs.items())

    def _part(self, piece: Piece) -> PlannedPart:
        span = piece.first, piece.end
        seconds = {device: self.part(*span, device) for device in self.costs}
        return PlannedPart(
            *span,
            piece.device,
            tuple(op.name for op in self._graph.ops[slice(*span)]),
            seconds.pop(piece.device),
            self._transfer(*span, piece.device),
            {device: time for device, time in seconds.items() if math.isfinite(time)},
        )


def _sums(numbers: Sequence[float]) -> list[float]:
    """0, and the sums of the first numbers."""
    found = [0.0]
    for number in numbers:
        found.append(found[-1] + number)
    return found
