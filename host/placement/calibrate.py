"""What operators take on the devices of this machine, as measured in turns with whole graphs."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np

from transept.golden.config import Config
from transept.golden.graph import Dim, Graph, Value
from transept.golden.numerics.norm import NormParameters
from transept.golden.ops import Add
from transept.host.backends.catalogue import GPU
from transept.host.compiler.cut import Shape
from transept.host.compiler.errors import CompileError
from transept.host.devices.catalogue import ACCELERATORS
from transept.host.placement.costs import DeviceCosts
from transept.host.placement.decompose import decompose
from transept.host.placement.parts import Work
from transept.host.runtime.region import Region, dtype_of
from transept.host.runtime.session import Session

__all__ = ["RTL", "calibrate", "clocked", "random_inputs"]

RTL = "rtl"
#: Of so many measurements of a device, apart in time, the one with the least sum counts: what else
#: a machine does slows it down for seconds.
PASSES = 3
#: Rounds, whose median counts; and seconds after which fewer will do, but not too few.
ROUNDS, ENOUGH, FEWEST = 15, 5.0, 3
#: Rows and width of a sum that takes nothing but a launch, and of one that is mostly transfer.
SMALL, LARGE = (1, 16), (4096, 1024)
#: The same for a simulation, which is slow: its clock, and what it needs to start.
SHORT, LONG = (16, 64), (512, 64)
#: Bytes a second of what shares the host's memory.
SHARED = 1e12


def calibrate(
    works: Sequence[Work],
    devices: Sequence[str],
    config: Config,
    *,
    clock: float | None = None,
    around: Callable[[], object] = lambda: None,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, DeviceCosts]:
    """Costs of each device for the operators of some work.

    clock: cycles a second of the accelerator, in place of those that its simulation reaches.
    around: what a program does between two runs of a region (``Program.around``), while caches
    cool down and threads fall asleep; a region runs more slowly than in a row of its own.

    Raises
    ------
    DeviceError
        If a device is not there.
    """
    found: dict[str, DeviceCosts] = {}
    sessions: dict[str, Session] = {}
    for _ in range(PASSES):
        for device in devices:
            if device in found and device in ACCELERATORS:
                continue  # its cycles are the same in every pass
            progress(f"calibrating {device}")
            if clock is not None and clocked(device, clock):
                found[device] = _at_clock(works, config, clock)
                continue
            if device not in sessions:
                sessions[device] = Session(config, device, fallback=False)
            measure = _simulated if device == RTL else _processor
            costs = measure(works, sessions[device], around)
            found[device] = min(found.get(device, costs), costs, key=lambda each: each.total)
    return found


def clocked(device: str, clock: float | None) -> bool:
    """Whether a device's time is its cycles at a clock that was told."""
    return clock is not None and device in ACCELERATORS


def random_inputs(graph: Graph, shape: Shape) -> dict[str, np.ndarray]:
    """Integers of every input, up to a quarter of its limit."""
    rng = np.random.default_rng(0)
    found = {}
    for name in graph.inputs:
        value = graph.values[name]
        size = shape.batch, shape.lengths[value.dim], value.width
        limit = value.limit // 4
        found[name] = rng.integers(-limit, limit + 1, size).astype(dtype_of(value))
    return found


def _processor(
    works: Sequence[Work], session: Session, around: Callable[[], object]
) -> DeviceCosts:
    small = _sum(*SMALL)
    (launch,) = _measured(session, [small], around)
    rate = SHARED
    if session.device == GPU:
        large = _sum(*LARGE)
        (taken,) = _measured(session, [large], around)
        rate = (large.moved - small.moved) / max(taken - launch, 1e-9)
    return decompose(works, lambda some: _measured(session, some, around), rate, launch)


def _measured(session: Session, works: Sequence[Work], around: Callable[[], object]) -> list[float]:
    """Median seconds of each, run in turns: the first as in a program, and for the others caches
    hold what they hold in a run of the first one."""
    jobs = [
        (Region("calibration", work.graph, session.config), random_inputs(work.graph, work.shape))
        for work in works
    ]
    for job in jobs:
        session.run(*job)  # does what is done once for a shape
    rounds: list[list[float]] = []
    start = time.perf_counter()
    while len(rounds) < FEWEST or (len(rounds) < ROUNDS and time.perf_counter() - start < ENOUGH):
        around()
        rounds.append([session.run(*job).seconds for job in jobs])
    return [statistics.median(taken) for taken in zip(*rounds, strict=True)]


# --- accelerators
def _at_clock(works: Sequence[Work], config: Config, clock: float) -> DeviceCosts:
    """Cycles that the compiler predicts, at a clock."""
    return decompose(works, lambda some: [_cycles(w, config) / clock for w in some], SHARED, 0.0)


def _simulated(
    works: Sequence[Work], session: Session, around: Callable[[], object]
) -> DeviceCosts:
    """Cycles that the compiler predicts, and what the simulation takes to start and for a cycle,
    which two sums tell."""
    short, long = _sum(*SHORT), _sum(*LONG)
    taken = _measured(session, [short, long], around)
    cycles = [_cycles(work, session.config) for work in (short, long)]
    cycle = (taken[1] - taken[0]) / (cycles[1] - cycles[0])
    start = max(0.0, taken[0] - cycle * cycles[0])

    def times(some: Sequence[Work]) -> list[float]:
        return [start + cycle * _cycles(work, session.config) for work in some]

    return decompose(works, times, SHARED, start)


def _cycles(work: Work, config: Config) -> float:
    """Predicted cycles; infinite if it does not fit."""
    try:
        return Region("calibration", work.graph, config).executable(work.shape).predicted_cycles
    except CompileError:
        return math.inf


def _sum(rows: int, width: int) -> Work:
    """One addition."""
    limits = np.zeros(width, np.int64)
    parameters = NormParameters(limits, limits, limits, limits, limits)
    values = {name: Value(name, "rows", width) for name in ("y", "x", "sum")}
    add = Add("add", "y", "x", "sum", parameters)
    graph = Graph((Dim("rows", rows),), values, ("y", "x"), ("sum",), (add,))
    return Work(graph, Shape(1, {"rows": rows}))
