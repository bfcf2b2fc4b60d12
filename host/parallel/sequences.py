"""Data parallelism: the sequences of a batch shared out among the GPUs of this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from transept.golden.graph import Graph, Lengths
from transept.host.backends.base import PreparedGraph
from transept.host.compiler.cut import Shape
from transept.host.parallel.shards import shares

__all__ = ["SequenceParallelGraph"]


class SequenceParallelGraph:
    """A graph on several devices, each of which has all weights and runs some sequences.

    No sequence depends on another one, so that any number of devices gives the same bits. A batch
    of fewer sequences than devices leaves some of them idle. each: makes a graph ready on a device;
    threads: of them work at the same time, all if it is not told.
    """

    def __init__(
        self,
        graph: Graph,
        each: Sequence[Callable[[Graph], PreparedGraph]],
        threads: int | None = None,
    ) -> None:
        self._prepared = [make(graph) for make in each]
        self._pool = ThreadPoolExecutor(max_workers=threads or len(self._prepared))

    def prepare(self, shape: Shape, lengths: Lengths | None = None) -> None:
        """Do all that is done once for a shape, on every device."""
        for prepared, part in self._parts(shape.batch):
            real = {dim: rows[part] for dim, rows in (lengths or {}).items()}
            prepared.prepare(Shape(part.stop - part.start, shape.lengths), real)

    def run(
        self, inputs: Mapping[str, np.ndarray], lengths: Lengths | None = None
    ) -> dict[str, np.ndarray]:
        """Every output for integers [batch, length, width], in the types of the values."""
        batch = len(next(iter(inputs.values())))
        jobs = []
        for prepared, part in self._parts(batch):
            given = {name: x[part] for name, x in inputs.items()}
            real = {dim: rows[part] for dim, rows in (lengths or {}).items()}
            jobs.append(self._pool.submit(prepared.run, given, real))
        found = [job.result() for job in jobs]
        return {name: np.concatenate([part[name] for part in found]) for name in found[0]}

    def _parts(self, batch: int) -> list[tuple[PreparedGraph, slice]]:
        """Devices with their sequences; those without any are left out."""
        shared = shares(batch, len(self._prepared))
        return [
            (prepared, slice(first, end))
            for prepared, (first, end) in zip(self._prepared, shared, strict=True)
            if end > first
        ]
