"""A quantised graph on a GPU: weights prepared once, a captured run for every bucket of shapes."""

from __future__ import annotations

import functools
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

import numpy as np
import torch
from triton.runtime.errors import OutOfResources

from transept.golden.graph import Graph, Lengths
from transept.golden.ops import Attention
from transept.host.backends.gpu.capture import capture
from transept.host.backends.gpu.memory import TYPES, Memory
from transept.host.backends.gpu.steps import Launch, quantise, steps
from transept.host.backends.gpu.tune import Tuner
from transept.host.compiler.cut import Shape
from transept.host.devices.base import DeviceError, DeviceLostError, OutOfMemoryError
from transept.host.kernels import INTERPRETED
from transept.host.kernels.rows import copied
from transept.host.reasons import first_line

__all__ = ["GpuGraph", "bucket", "wait_until"]

Given = ParamSpec("Given")
Found = TypeVar("Found")

#: Rows of a bucket are a multiple of this, or of a sixteenth of the next power of two.
LEAST_ROWS = 16
#: Captured runs of a graph that are kept, the newest.
KEPT = 16
#: Seconds after which a GPU that does not answer is given up.
TIMEOUT = 60.0
#: Seconds for which a run is waited for without sleep, and looks between those at the time.
SPIN, POLLS = 0.01, 16
#: Bytes that a kernel moves between host and GPU; more are copied by the driver.
MOST_DIRECT = 1 << 18


def bucket(graph: Graph, shape: Shape) -> Shape:
    """The shape whose captured run serves ``shape``: more rows, up to an eighth.

    What a filter sums over blocks of queries would see the rows of padding, so such a dimension is
    not padded.
    """
    looked = {
        graph.values[op.q].dim for op in graph.ops if isinstance(op, Attention) and op.filter.looks
    }
    lengths = {}
    for dim, length in shape.lengths.items():
        step = max(LEAST_ROWS, (1 << (length - 1).bit_length()) >> 4)
        padded = length if dim in looked else -(-length // step) * step
        lengths[dim] = min(padded, graph.dim(dim).limit)
    return Shape(shape.batch, lengths)


def _guarded(
    method: Callable[Concatenate[GpuGraph, Given], Found],
) -> Callable[Concatenate[GpuGraph, Given], Found]:
    """With the graph's GPU as the current one; what goes wrong on it as errors of a device, after
    which what was captured is given up."""

    @functools.wraps(method)
    def guarded(self: GpuGraph, /, *args: Given.args, **named: Given.kwargs) -> Found:
        try:
            if self._alone:
                return method(self, *args, **named)
            with torch.cuda.device(self.device):
                return method(self, *args, **named)
        except (torch.cuda.OutOfMemoryError, OutOfResources, torch.AcceleratorError) as error:
            self.forget()
            lost = isinstance(error, torch.AcceleratorError)
            kind = DeviceLostError if lost else OutOfMemoryError
            raise kind(f"gpu: {first_line(error)}") from None
        except DeviceError:
            self.forget()
            raise

    return guarded


class Serving(NamedTuple):
    """What serves inputs of some shapes: a run, lengths if every row is real, and rows of each
    output."""

    run: CapturedRun
    whole: Lengths
    rows: Mapping[str, int]


class GpuGraph:
    """A graph prepared for a GPU; without one, kernels are interpreted."""

    def __init__(
        self, graph: Graph, device: torch.device | None = None, timeout: float = TIMEOUT
    ) -> None:
        self.device = device or torch.device("cpu" if INTERPRETED else "cuda")
        self._graph, self._timeout = graph, timeout
        self._alone = self.device.type != "cuda" or torch.cuda.device_count() == 1
        self._runs: OrderedDict[Shape, CapturedRun] = OrderedDict()  # by bucket
        self._serving: dict[tuple, Serving] = {}  # by shapes of the inputs
        self._load()

    @_guarded
    def _load(self) -> None:
        self._steps = steps(self._graph, self.device)
        self._tuner = Tuner(self.device)

    @_guarded
    def prepare(self, shape: Shape, lengths: Lengths | None = None) -> None:
        """Choose kernels for a shape, and capture their launches.

        Raises
        ------
        OutOfMemoryError, DeviceLostError
            As ``run``.
        """
        self.captured(shape).prepare(_lengths(shape.rows, lengths))

    @_guarded
    def run(
        self, inputs: Mapping[str, np.ndarray], lengths: Lengths | None = None
    ) -> dict[str, np.ndarray]:
        """Every output for integers [batch, length, width], in the types of the values.

        Raises
        ------
        OutOfMemoryError
            If the GPU's memory is too small.
        DeviceLostError
            If the GPU fails, or does not answer in time.
        """
        run, whole, rows = self._serves(inputs)
        return run.run(inputs, _lengths(whole, lengths), rows)

    def _serves(self, inputs: Mapping[str, np.ndarray]) -> Serving:
        key = tuple([(name, x.shape) for name, x in inputs.items()])
        if key not in self._serving:
            values = self._graph.values
            rows = {values[name].dim: x.shape[1] for name, x in inputs.items()}
            shape = Shape(len(next(iter(inputs.values()))), rows)
            taken = {name: rows[values[name].dim] for name in self._graph.outputs}
            self._serving[key] = Serving(self.captured(shape), shape.rows, taken)
        return self._serving[key]

    def forget(self) -> None:
        """Give up what was captured."""
        self._runs.clear()
        self._serving.clear()

    def captured(self, shape: Shape) -> CapturedRun:
        """The run that serves a shape; the newest are kept."""
        key = bucket(self._graph, shape)
        if key not in self._runs:
            if len(self._runs) >= KEPT:
                self._runs.popitem(last=False)
                self._serving.clear()
            memory = Memory(self._graph, key, self.device)
            launches = self._launches(memory)
            self._runs[key] = CapturedRun(self._graph, memory, launches, self._timeout)
        self._runs.move_to_end(key)
        return self._runs[key]

    def _launches(self, memory: Memory) -> list[Launch]:
        found: list[Launch] = []
        for name in self._graph.inputs:
            found += quantise(memory, name)
        done: set[str] = set()
        for step in self._steps:
            found += step.launches(memory, self._tuner)
            done |= {op.name for op in step.ops}
            for op in step.ops:
                memory.release(op, done)
        return found


def _lengths(whole: Lengths, some: Lengths | None) -> Lengths:
    """Real rows of every sequence and dimension: all, where they are not named."""
    if not some:
        return whole
    return {dim: list(some.get(dim, rows)) for dim, rows in whole.items()}


class CapturedRun:
    """Launches on fixed memory, captured in CUDA graphs: for sequences that have all their rows and
    for others, each with what goes in and out and without. Inputs and outputs are beside it in
    pinned memory of the host."""

    def __init__(
        self, graph: Graph, memory: Memory, launches: list[Launch], timeout: float
    ) -> None:
        self._memory, self._timeout = memory, timeout
        self._inputs = {name: _host(graph, memory, name) for name in graph.inputs}
        self._outputs = {name: _host(graph, memory, name) for name in graph.outputs}
        self._lengths = {
            dim: _pinned(memory, memory.shape.batch, dtype=torch.int32)
            for dim in memory.shape.lengths
        }
        before = [_transfer(x, memory.value(name)) for name, x in self._inputs.items()]
        after = [_transfer(memory.value(name), y) for name, y in self._outputs.items()]
        self._given, self._taken = (
            {name: _sequences(memory, rows) for name, rows in of.items()}
            for of in (self._inputs, self._outputs)
        )
        self._launches = {False: launches, True: [*before, *launches, *after]}
        self._graphs: dict[tuple[bool, bool], torch.cuda.CUDAGraph] = {}
        self._known: dict[str, Sequence[int]] = {}
        self._on_card = memory.device.type == "cuda"
        self._done = torch.cuda.Event() if self._on_card else None

    def launch(self, moves: bool) -> None:
        """Start every kernel; moves: and what brings inputs and takes outputs."""
        for launch in self._launches[moves]:
            launch()

    def prepare(self, lengths: Lengths) -> None:
        """Capture the launches for sequences of these lengths, if they are not yet."""
        if self._on_card and (self._whole(lengths), True) not in self._graphs:
            self._set_lengths(lengths)
            self._captured(moves=True)

    def _whole(self, lengths: Lengths) -> bool:
        """Whether every sequence has all its rows."""
        limits = self._memory.shape.lengths
        return all(min(real) == limits[dim] for dim, real in lengths.items())

    def _set_lengths(self, lengths: Lengths) -> None:
        if lengths == self._known:
            return
        for dim, real in lengths.items():
            self._lengths[dim].numpy()[:] = real
            self._memory.dim(dim).copy_(self._lengths[dim], non_blocking=True)
        self._known, self._memory.whole = dict(lengths), self._whole(lengths)

    def replay(self, moves: bool = False) -> None:
        """As ``launch``, by one call where it is captured."""
        if self._on_card:
            self._captured(moves).replay()
        else:
            self.launch(moves)

    def _captured(self, moves: bool) -> torch.cuda.CUDAGraph:
        key = (self._memory.whole, moves)
        if key not in self._graphs:
            self._graphs[key] = capture(lambda: self.launch(moves))
        return self._graphs[key]

    def run(
        self, inputs: Mapping[str, np.ndarray], lengths: Lengths, rows: Mapping[str, int]
    ) -> dict[str, np.ndarray]:
        """So many rows of the outputs [batch, rows, width], for inputs with as many rows as the
        bucket or fewer."""
        for name, x in inputs.items():
            to = self._given[name]
            to[:, : x.shape[1]] = x
            if x.shape[1] < to.shape[1]:
                to[:, x.shape[1] :] = 0
        self._set_lengths(lengths)
        self.replay(moves=True)
        if self._done is not None:
            self._done.record()
            wait_until(self._done.query, self._timeout)
        return {name: y[:, : rows[name]].copy() for name, y in self._taken.items()}


def _transfer(x: torch.Tensor, y: torch.Tensor) -> Launch:
    """From the host to the GPU, or back; little is moved by a kernel, which starts at once."""
    if INTERPRETED or x.nbytes > MOST_DIRECT:
        return lambda: y.copy_(x, non_blocking=True)
    return lambda: copied(x, y)


def wait_until(done: Callable[[], bool], timeout: float) -> None:
    """Wait for a GPU, for a short run without sleeping.

    Raises
    ------
    DeviceLostError
        If it is not done after ``timeout`` seconds.
    """
    start = time.monotonic()
    while not any(done() for _ in range(POLLS)):
        passed = time.monotonic() - start
        if passed > timeout:
            raise DeviceLostError(f"gpu: no answer within {timeout:g} seconds")
        if passed > SPIN:
            time.sleep(SPIN / 10)


def _pinned(memory: Memory, *shape: int, dtype: torch.dtype) -> torch.Tensor:
    """Memory of the host that the device copies from and to."""
    return torch.zeros(shape, dtype=dtype, pin_memory=memory.device.type == "cuda")


def _host(graph: Graph, memory: Memory, name: str) -> torch.Tensor:
    """The same for a value [rows, width]."""
    value = graph.values[name]
    return _pinned(memory, memory.count(name), value.width, dtype=TYPES[value.bits])


def _sequences(memory: Memory, rows: torch.Tensor) -> np.ndarray:
    """The same memory of the host as [batch, length, width]."""
    return rows.unflatten(0, (memory.shape.batch, -1)).numpy()
