"""What operators take on the devices of this machine, measured one by one and together."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from transept.golden.config import Config
from transept.golden.graph import Dim, Graph, Value
from transept.golden.numerics.norm import NormParameters
from transept.golden.ops import Add
from transept.host.compiler.cut import Shape
from transept.host.compiler.errors import CompileError
from transept.host.devices.catalogue import ACCELERATORS
from transept.host.placement.costs import DeviceCosts, Sample, features, signature
from transept.host.placement.parts import boundary, part_graph
from transept.host.runtime.region import Region, dtype_of
from transept.host.runtime.session import Session

__all__ = ["Work", "calibrate", "measure", "random_inputs"]

#: Runs of each, whose median counts; and seconds after which fewer will do.
REPETITIONS, ENOUGH = 15, 1.0
#: Rows and width of a sum that takes nothing but a launch, and of one that is mostly transfer.
SMALL, LARGE = (1, 16), (4096, 1024)
#: Bytes a second of what shares the host's memory.
SHARED = 1e12
#: An operator takes at least so much of what was measured with its launch and transfer.
LEAST_SHARE = 0.02


@dataclass(frozen=True, eq=False)
class Work:
    """A graph and a shape of it whose operators are measured."""

    graph: Graph
    shape: Shape


def calibrate(
    works: Sequence[Work],
    devices: Sequence[str],
    config: Config,
    *,
    clock: float | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, DeviceCosts]:
    """Costs of each device for the operators of some work.

    clock: cycles a second of the accelerator, in place of those that its simulation reaches.

    Raises
    ------
    DeviceError
        If a device is not there.
    """
    found = {}
    for device in devices:
        progress(f"calibrating {device}")
        if device == "rtl" or (clock and device in ACCELERATORS):
            found[device] = _accelerator(works, device, config, clock)
        else:
            found[device] = _processor(works, device, config)
    return found


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


def measure(session: Session, region: Region, shape: Shape) -> float:
    """Median seconds of a run."""
    inputs = random_inputs(region.graph, shape)
    session.run(region, inputs)
    times: list[float] = []
    while len(times) < REPETITIONS and (sum(times) < ENOUGH or len(times) < 3):
        start = time.perf_counter()
        session.run(region, inputs)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _sum(rows: int, width: int) -> Work:
    """One addition."""
    limits = np.zeros(width, np.int64)
    parameters = NormParameters(limits, limits, limits, limits, limits)
    values = {name: Value(name, "rows", width) for name in ("y", "x", "sum")}
    add = Add("add", "y", "x", "sum", parameters)
    graph = Graph((Dim("rows", rows),), values, ("y", "x"), ("sum",), (add,))
    return Work(graph, Shape(1, {"rows": rows}))


def _bytes(work: Work) -> int:
    around = boundary(work.graph, 0, len(work.graph.ops))
    return sum(around.sizes(work.graph, work.shape))


def _processor(works: Iterable[Work], device: str, config: Config) -> DeviceCosts:
    session = Session(config, device, fallback=False)

    def seconds(work: Work) -> float:
        return measure(session, Region("calibration", work.graph, config), work.shape)

    small, large = _sum(*SMALL), _sum(*LARGE)
    launch = seconds(small)
    rate = SHARED
    if device == "gpu":
        rate = (_bytes(large) - _bytes(small)) / max(seconds(large) - launch, 1e-9)
    costs = DeviceCosts(launch, rate)
    together = []
    for work in works:
        for index, op in enumerate(work.graph.ops):
            key = signature(work.graph, work.shape, op)
            if key in costs.samples:
                continue
            alone = Work(part_graph(work.graph, index, index + 1), work.shape)
            taken = seconds(alone)
            own = max(taken - launch - costs.transfer(_bytes(alone)), LEAST_SHARE * taken)
            costs.add(key, _sample(work, index, own))
        whole = seconds(work) - launch - costs.transfer(_bytes(work))
        apart = sum(costs.operator(work.graph, work.shape, op) for op in work.graph.ops)
        together.append(max(whole, 0.0) / apart)
    if together:
        costs.together = statistics.median(together)
    return costs


def _sample(work: Work, index: int, seconds: float) -> Sample:
    op = work.graph.ops[index]
    return Sample(type(op).__name__.lower(), features(work.graph, work.shape, op), seconds)


def _accelerator(
    works: Iterable[Work], device: str, config: Config, clock: float | None
) -> DeviceCosts:
    """Cycles that the compiler predicts, and the seconds of one, measured on a sum."""
    work = _sum(64, 64)
    region = Region("calibration", work.graph, config)
    cycle = 1 / clock if clock else 0.0
    launch = 0.0
    if not clock:
        taken = measure(Session(config, device, fallback=False), region, work.shape)
        cycle = taken / region.executable(work.shape).predicted_cycles
    costs = DeviceCosts(launch, SHARED)
    together = []
    for work in works:
        for index, op in enumerate(work.graph.ops):
            key = signature(work.graph, work.shape, op)
            if key in costs.samples:
                continue
            cycles = _cycles(part_graph(work.graph, index, index + 1), work.shape, config)
            if cycles is not None:
                costs.add(key, _sample(work, index, cycles * cycle))
        whole = _cycles(work.graph, work.shape, config)
        if whole is not None:
            apart = sum(costs.operator(work.graph, work.shape, op) for op in work.graph.ops)
            together.append(whole * cycle / apart)
    if together:
        costs.together = statistics.median(together)
    return costs


def _cycles(graph: Graph, shape: Shape, config: Config) -> int | None:
    """Predicted cycles; None if the graph does not fit."""
    try:
        return Region("calibration", graph, config).executable(shape).predicted_cycles
    except CompileError:
        return None
