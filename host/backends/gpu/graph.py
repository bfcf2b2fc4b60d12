"""A quantised graph on a GPU: weights prepared once, a captured run for every bucket of shapes."""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from triton.runtime.errors import OutOfResources

from transept.golden.graph import Graph, Lengths
from transept.golden.ops import Attention
from transept.host.backends.gpu.memory import TYPES, Memory
from transept.host.backends.gpu.steps import Launch, quantise, steps
from transept.host.backends.gpu.tune import Tuner
from transept.host.compiler.cut import Shape
from transept.host.devices.base import DeviceError, DeviceLostError, OutOfMemoryError
from transept.host.kernels import INTERPRETED

__all__ = ["GpuGraph", "bucket", "wait_until"]

#: Rows of a bucket are a multiple of this, or of a sixteenth of the next power of two.
LEAST_ROWS = 16
#: Captured runs of a graph that are kept, the newest.
KEPT = 16
#: Seconds after which a GPU that does not answer is given up.
TIMEOUT = 60.0
#: Seconds for which a run is waited for without sleep.
SPIN = 0.01


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


class GpuGraph:
    """A graph prepared for a GPU; without one, kernels are interpreted."""

    def __init__(
        self, graph: Graph, device: torch.device | None = None, timeout: float = TIMEOUT
    ) -> None:
        self.device = device or torch.device("cpu" if INTERPRETED else "cuda")
        self._graph, self._timeout = graph, timeout
        with _told(self.device):
            self._steps = steps(graph, self.device)
            self._tuner = Tuner(self.device)
        self._runs: OrderedDict[Shape, CapturedRun] = OrderedDict()  # by bucket
        self._serving: dict[Shape, CapturedRun] = {}  # by shapes that were seen

    def prepare(self, shape: Shape, lengths: Lengths | None = None) -> None:
        """Choose kernels for a shape, and capture their launches.

        Raises
        ------
        OutOfMemoryError, DeviceLostError
            As ``run``.
        """
        with self._guarded():
            self.captured(shape).prepare(_all(shape, lengths))

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
        values = self._graph.values
        rows = {values[name].dim: x.shape[1] for name, x in inputs.items()}
        shape = Shape(len(next(iter(inputs.values()))), rows)
        with self._guarded():
            found = self.captured(shape).run(inputs, _all(shape, lengths))
        return {name: y[:, : rows[values[name].dim]] for name, y in found.items()}

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """As ``_told``; after an error what was captured is given up."""
        try:
            with _told(self.device):
                yield
        except DeviceError:
            self._runs.clear()
            self._serving.clear()
            raise

    def captured(self, shape: Shape) -> CapturedRun:
        """The run that serves a shape."""
        if shape in self._serving:
            return self._serving[shape]
        key = bucket(self._graph, shape)
        if key not in self._runs:
            if len(self._runs) >= KEPT:
                self._runs.popitem(last=False)
                self._serving.clear()
            memory = Memory(self._graph, key, self.device)
            launches = self._launches(memory)
            self._runs[key] = CapturedRun(self._graph, memory, launches, self._timeout)
        self._runs.move_to_end(key)
        self._serving[shape] = self._runs[key]
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


@contextlib.contextmanager
def _told(device: torch.device) -> Iterator[None]:
    """With this GPU as the current one; what goes wrong on it as errors of a device."""
    try:
        with contextlib.nullcontext() if _current(device) else torch.cuda.device(device):
            yield
    except (torch.cuda.OutOfMemoryError, OutOfResources) as error:
        raise OutOfMemoryError(f"gpu: {_first_line(error)}") from None
    except torch.AcceleratorError as error:
        raise DeviceLostError(f"gpu: {_first_line(error)}") from None


def _current(device: torch.device) -> bool:
    """Whether kernels go to this device anyway."""
    if device.type != "cuda":
        return True
    return torch.cuda.current_device() == (device.index or 0)


def _all(shape: Shape, lengths: Lengths | None) -> dict[str, list[int]]:
    """Real rows of every sequence and dimension."""
    return {dim: list((lengths or {}).get(dim, rows)) for dim, rows in shape.rows.items()}


class CapturedRun:
    """Launches on fixed memory, captured in CUDA graphs: one for sequences that have all their
    rows, one for others. Inputs and outputs are beside it in pinned memory of the host."""

    def __init__(
        self, graph: Graph, memory: Memory, launches: list[Launch], timeout: float
    ) -> None:
        self._launches, self._memory, self._timeout = launches, memory, timeout
        self._inputs = {name: _host(graph, memory, name) for name in graph.inputs}
        self._outputs = {name: _host(graph, memory, name) for name in graph.outputs}
        self._lengths = {
            dim: _pinned(memory, memory.shape.batch, dtype=torch.int32)
            for dim in memory.shape.lengths
        }
        self._graphs: dict[bool, torch.cuda.CUDAGraph] = {}
        self._known: dict[str, Sequence[int]] = {}

    def launch(self) -> None:
        """Start every kernel."""
        for launch in self._launches:
            launch()

    def prepare(self, lengths: Lengths) -> None:
        """Capture the launches for sequences of these lengths, if they are not yet."""
        if self._memory.device.type == "cuda" and self._whole(lengths) not in self._graphs:
            self._set_lengths(lengths)
            self._captured()

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

    def replay(self) -> None:
        """Start every kernel, by one call where they are captured."""
        if self._memory.device.type == "cuda":
            self._captured().replay()
        else:
            self.launch()

    def _captured(self) -> torch.cuda.CUDAGraph:
        whole = self._memory.whole
        if whole not in self._graphs:
            self.launch()  # compiles every kernel
            torch.cuda.synchronize()
            graph = self._graphs[whole] = torch.cuda.CUDAGraph()
            # the default stream of captures belongs to the first card that captured
            stream = torch.cuda.Stream()
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                self.launch()
        return self._graphs[whole]

    def run(self, inputs: Mapping[str, np.ndarray], lengths: Lengths) -> dict[str, np.ndarray]:
        """Outputs [batch, rows of the bucket, width] for inputs with as many rows or fewer."""
        memory = self._memory
        batch = memory.shape.batch
        for name, x in inputs.items():
            to = self._inputs[name].numpy().reshape(batch, -1, x.shape[2])
            to[:, : x.shape[1]] = x
            if x.shape[1] < to.shape[1]:
                to[:, x.shape[1] :] = 0
            memory.value(name).copy_(self._inputs[name], non_blocking=True)
        self._set_lengths(lengths)
        self.replay()
        for name, y in self._outputs.items():
            y.copy_(memory.value(name), non_blocking=True)
        self._wait()
        return {
            name: y.numpy().reshape(batch, -1, y.shape[1]).copy()
            for name, y in self._outputs.items()
        }

    def _wait(self) -> None:
        if self._memory.device.type == "cuda":
            event = torch.cuda.Event()
            event.record()
            wait_until(event.query, self._timeout)


def wait_until(done: Callable[[], bool], timeout: float) -> None:
    """Wait for a GPU, for a short run without sleeping.

    Raises
    ------
    DeviceLostError
        If it is not done after ``timeout`` seconds.
    """
    start = time.monotonic()
    while not done():
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


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
