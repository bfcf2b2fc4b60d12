"""Plans: the parts of a region, where each runs, what is predicted, and what else was possible."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from transept.golden.graph import Graph, Operator
from transept.host.compiler.cut import Shape
from transept.host.front.names import layer_name
from transept.host.placement.costs import DeviceCosts
from transept.host.placement.parts import boundaries, transfers, weight_bytes
from transept.host.placement.solve import (
    Piece,
    Problem,
    critical_path,
    makespan,
    solve,
    starts,
)

__all__ = ["Costs", "Plan", "PlannedPart", "Planner", "check_pins", "pinned"]

#: Seconds of an operator on a device, by what is known of the device.
Costs = Mapping[str, DeviceCosts]


@dataclass(frozen=True)
class PlannedPart:
    """Neighbouring operators on a device.

    start: predicted, from the start of the plan; seconds: predicted, transfers included; transfer:
    of it, to and from the host; elsewhere: what the part would take on each other device that can
    run it.
    """

    first: int
    end: int
    device: str
    operators: tuple[str, ...]
    start: float
    seconds: float
    transfer: float
    elsewhere: Mapping[str, float]


@dataclass(frozen=True)
class Plan:
    """Parts in the order of the graph.

    seconds: predicted, independent parts at the same time; alone: of every device that can run all;
    bound: no plan takes less, in whatever order; least: whether no other parts in this order take
    less.
    """

    parts: tuple[PlannedPart, ...]
    seconds: float
    alone: Mapping[str, float]
    bound: float
    least: bool


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
    """Every use of a layer (``x``, ``x#2``, ``x~2``) fits its name."""
    return any(
        found == name or found.startswith(f"{name}.") or fnmatchcase(found, name)
        for found in {operator, layer_name(operator)}
    )


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
        self.graph, self._shape = graph, shape
        self._pins = dict(pins or {})
        self._memory = {name: size for name, size in (memory or {}).items() if name in costs}
        self._transfers = functools.cache(functools.partial(transfers, graph, shape))
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
        #: Seconds of each operator where it is fastest.
        self._fastest = {
            op.name: min((times[i] for times in taken.values()), default=math.inf)
            for i, op in enumerate(graph.ops)
        }
        self._parts: dict[tuple[int, int, str], float] = {}
        self._weights = _sums([weight_bytes(op) for op in graph.ops])

    def _seconds(self, device: str, known: DeviceCosts, op: Operator) -> float:
        if self._pins.get(op.name, device) != device:
            return math.inf
        try:
            return known.operator(self.graph, self._shape, op)
        except KeyError:
            return math.inf

    # --- costs
    def part(self, first: int, end: int, device: str) -> float:
        """Predicted seconds of operators on a device, transfers included; infinite if it cannot
        run them."""
        key = first, end, device
        if key not in self._parts:
            self._parts[key] = self._predicted(*key)
        return self._parts[key]

    def _predicted(self, first: int, end: int, device: str) -> float:
        if self.held(first, end) > self._memory.get(device, math.inf):
            return math.inf
        sums, impossible = self._operators[device], self._impossible[device]
        if impossible[end] > impossible[first]:
            return math.inf
        work = sums[end] - sums[first]
        return self.costs[device].launch + work + self._transfer(first, end, device)

    def _transfer(self, first: int, end: int, device: str) -> float:
        return self.costs[device].transfer(self._transfers(first)[end - first])

    def held(self, first: int, end: int) -> int:
        """Bytes of the weights of operators."""
        return int(self._weights[end] - self._weights[first])

    def without(self, failed: str) -> Planner:
        """Plans that leave a device out; what was pinned to it may go anywhere."""
        costs = {device: known for device, known in self.costs.items() if device != failed}
        pins = {name: device for name, device in self._pins.items() if device != failed}
        return Planner(self.graph, self._shape, costs, pins, self._memory)

    # --- plans
    def plan(
        self, first: int = 0, end: int | None = None, held: Mapping[str, int] | None = None
    ) -> Plan:
        """The plan of least time for the operators from ``first`` to before ``end``.

        held: bytes of other weights that devices have.

        Raises
        ------
        ValueError
            If some operator can run on no device, or no plan was found that memories hold.
        """
        span = first, len(self.graph.ops) if end is None else end
        room = {name: limit - (held or {}).get(name, 0) for name, limit in self._memory.items()}
        inner = [cut for cut in self._cuts if span[0] < cut < span[1]]
        cuts = [span[0], *inner, span[1]]
        devices = list(self.costs)
        found = solve(Problem(self.graph, cuts, devices, self.part, self._fastest, self.held, room))
        if found is None:
            limits = ", ".join(f"{device} {size:,}" for device, size in room.items())
            raise ValueError(
                f"no plan found for {self.held(*span):,} bytes of weights where devices hold at "
                f"most: {limits}"
            )
        return self._told(*found, *span)

    def _told(self, pieces: Sequence[Piece], certain: bool, first: int, end: int) -> Plan:
        begun = starts(self.graph, pieces)
        alone = {device: self.part(first, end, device) for device in self.costs}
        return Plan(
            tuple(itertools.starmap(self._part, zip(pieces, begun, strict=True))),
            makespan(self.graph, pieces),
            {device: seconds for device, seconds in alone.items() if math.isfinite(seconds)},
            critical_path(self.graph.ops[first:end], self._fastest),
            certain,
        )

    def _part(self, piece: Piece, start: float) -> PlannedPart:
        span = piece.first, piece.end
        others = {name: self.part(*span, name) for name in self.costs if name != piece.device}
        return PlannedPart(
            *span,
            piece.device,
            tuple(op.name for op in self.graph.ops[slice(*span)]),
            start,
            piece.seconds,
            self._transfer(*span, piece.device),
            {device: time for device, time in others.items() if math.isfinite(time)},
        )


def _sums(numbers: Sequence[float]) -> list[float]:
    """0, and the sums of the first numbers."""
    found = [0.0]
    for number in numbers:
        found.append(found[-1] + number)
    return found
