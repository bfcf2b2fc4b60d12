"""Runs regions by their plans: parts where they end soonest, the rest elsewhere when one fails."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import numpy as np

from transept.golden.graph import Lengths
from transept.host.compiler.cut import Shape
from transept.host.compiler.errors import CompileError
from transept.host.devices.base import DeviceError
from transept.host.placement.parts import part_graph
from transept.host.placement.plan import Costs, Plan, PlannedPart, Planner, pinned
from transept.host.runtime.region import Region
from transept.host.runtime.session import Result, Session

__all__ = ["Placed", "PlacedPart", "Scheduler"]


@dataclass(frozen=True, eq=False)
class PlacedPart:
    """A part that ran: as it was planned, its region, what went in and came out, and when it began,
    in seconds from the start of the run."""

    planned: PlannedPart
    region: Region
    inputs: Mapping[str, np.ndarray]
    lengths: Lengths
    result: Result
    start: float


@dataclass(eq=False)
class Placed:
    """One run of a region: the plan at its start, and its parts as they ran; begun: when, on the
    clock ``time.perf_counter``."""

    region: Region
    plan: Plan
    parts: list[PlacedPart] = field(default_factory=list)
    outputs: dict[str, np.ndarray] = field(default_factory=dict)
    begun: float = field(default_factory=time.perf_counter)


@dataclass(frozen=True, eq=False)
class _Job:
    """A part that can start."""

    part: PlannedPart
    region: Region
    inputs: Mapping[str, np.ndarray]
    lengths: Lengths
    session: Session

    def run(self) -> tuple[Result, float]:
        """Run it where it was planned; and when that began."""
        start = time.perf_counter()
        return self.session.run(self.region, self.inputs, self.lengths), start


@dataclass(eq=False)
class _FailedError(Exception):
    """A part failed on its device."""

    part: PlannedPart
    error: Exception


class Scheduler:
    """Runs regions on several devices.

    session: the open device of a name; its sessions must not fall back themselves. pins: devices by
    name of an operator; memory: bytes of weights that a device holds at most. A device that fails
    is left out for the rest of a run, and what it should have done is planned anew; with
    ``fallback`` False its error is raised. ``notes`` says so.

    Raises
    ------
    ValueError
        If a pin names a device of which nothing is known.
    """

    def __init__(
        self,
        session: Callable[[str], Session],
        costs: Costs,
        *,
        pins: Mapping[str, str] | None = None,
        memory: Mapping[str, int] | None = None,
        fallback: bool = True,
    ) -> None:
        for name, device in (pins or {}).items():
            if device not in costs:
                raise ValueError(
                    f"{name} is pinned to {device}; what is known is {', '.join(costs)}"
                )
        #: The open device of a name.
        self.session = session
        self._costs = costs
        self._pins, self._memory, self._fallback = dict(pins or {}), memory, fallback
        self._planners: dict[tuple[Region, Shape], Planner] = {}
        self._plans: dict[tuple[Region, Shape], Plan] = {}
        self._regions: dict[tuple[Region, int, int], Region] = {}
        self._pool = ThreadPoolExecutor(max_workers=len(costs))
        self.notes: list[str] = []

    def plan(self, region: Region, shape: Shape) -> Plan:
        """The plan of a region for a shape.

        Raises
        ------
        ValueError
            If some operator can run on no device.
        """
        key = region, shape
        if key not in self._plans:
            self._plans[key] = self._planner(region, shape).plan()
        return self._plans[key]

    def _planner(self, region: Region, shape: Shape) -> Planner:
        key = region, shape
        if key not in self._planners:
            pins = pinned(region.graph, self._pins)
            self._planners[key] = Planner(region.graph, shape, self._costs, pins, self._memory)
        return self._planners[key]

    def run(
        self,
        region: Region,
        inputs: Mapping[str, np.ndarray],
        lengths: Lengths | None = None,
    ) -> Placed:
        """Run a region on integers [batch, length, width].

        Raises
        ------
        ProgramError
            If an input or a length does not fit (``Region.check``).
        CompileError, DeviceError
            If a device fails and there is no fallback, or none is left.
        """
        shape = region.check(inputs, lengths)
        placed = Placed(region, self.plan(region, shape))
        arrays: dict[str, np.ndarray] = dict(inputs)
        planner, waiting = self._planner(region, shape), list(placed.plan.parts)
        while waiting:
            try:
                self._run(placed, waiting, arrays, lengths or {})
            except _FailedError as failed:
                if not self._fallback or len(planner.costs) == 1:
                    raise failed.error from None
                planner = planner.without(failed.part.device)
                try:
                    waiting = _again(planner, waiting, [part.planned for part in placed.parts])
                except ValueError:  # no other device has what it needs
                    raise failed.error from None
                first = next(part for part in waiting if part.first == failed.part.first)
                self.notes.append(
                    f"{first.operators[0]} and what follows it on {failed.part.device} "
                    f"moved to {first.device}: {failed.error}"
                )
        placed.outputs = {name: arrays[name] for name in region.graph.outputs}
        return placed

    def _run(
        self,
        placed: Placed,
        waiting: list[PlannedPart],
        arrays: dict[str, np.ndarray],
        lengths: Lengths,
    ) -> None:
        """Run parts as soon as what they read is there, one at a time on each device; those that
        ran leave ``waiting``. A part that nothing can run beside runs in this thread."""
        running: dict[Future[tuple[Result, float]], _Job] = {}
        failed: _FailedError | None = None
        try:
            while running or (waiting and failed is None):
                if failed is None:
                    busy = {job.part.device for job in running.values()}
                    ready = list(self._ready(placed.region, waiting, arrays, lengths, busy))
                    if len(ready) == 1 and not running:
                        self._ended(placed, waiting, arrays, ready[0], ready[0].run)
                        continue
                    running |= {self._pool.submit(job.run): job for job in ready}
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    try:
                        self._ended(placed, waiting, arrays, running.pop(future), future.result)
                    except _FailedError as error:
                        failed = failed or error
        finally:
            wait(running)  # no device is left at work, whatever was raised
        if failed is not None:
            raise failed

    @staticmethod
    def _ended(
        placed: Placed,
        waiting: list[PlannedPart],
        arrays: dict[str, np.ndarray],
        job: _Job,
        result_of: Callable[[], tuple[Result, float]],
    ) -> None:
        try:
            result, start = result_of()
        except (CompileError, DeviceError) as error:
            raise _FailedError(job.part, error) from None
        waiting.remove(job.part)
        arrays |= result.outputs
        start -= placed.begun
        placed.parts.append(
            PlacedPart(job.part, job.region, job.inputs, job.lengths, result, start)
        )

    def _job(
        self,
        region: Region,
        part: PlannedPart,
        arrays: Mapping[str, np.ndarray],
        lengths: Lengths,
    ) -> _Job:
        own = self.part_region(region, part)
        dims = [dim.name for dim in own.graph.dims]
        return _Job(
            part,
            own,
            {name: arrays[name] for name in own.graph.inputs},
            {name: real for name, real in lengths.items() if name in dims},
            self.session(part.device),
        )

    def _ready(
        self,
        region: Region,
        waiting: Sequence[PlannedPart],
        arrays: Mapping[str, np.ndarray],
        lengths: Lengths,
        busy: set[str],
    ) -> Iterator[_Job]:
        """Parts that can start: their inputs are there and their device is free."""
        for part in waiting:
            inputs = self.part_region(region, part).graph.inputs
            if part.device not in busy and all(name in arrays for name in inputs):
                busy.add(part.device)
                yield self._job(region, part, arrays, lengths)

    def part_region(self, region: Region, part: PlannedPart) -> Region:
        """The region of a part; the whole region if it is that."""
        if (part.first, part.end) == (0, len(region.graph.ops)):
            return region
        key = region, part.first, part.end
        if key not in self._regions:
            graph = part_graph(region.graph, part.first, part.end)
            name = f"{region.name}[{part.first}:{part.end}]"
            self._regions[key] = Region(name, graph, region.config)
        return self._regions[key]


def _again(
    planner: Planner, waiting: Sequence[PlannedPart], done: Sequence[PlannedPart]
) -> list[PlannedPart]:
    """Parts planned anew, beside the weights of those that ran."""
    held: Counter[str] = Counter()
    for part in done:
        held[part.device] += planner.held(part.first, part.end)
    found: list[PlannedPart] = []
    for old in waiting:
        parts = planner.plan(old.first, old.end, held).parts
        for part in parts:
            held[part.device] += planner.held(part.first, part.end)
        found += parts
    return found
