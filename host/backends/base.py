"""What a session needs of whatever runs regions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import numpy as np

from transept.golden.graph import Graph, Lengths
from transept.host.compiler.cut import Shape
from transept.host.compiler.executable import Executable
from transept.host.runtime.driver import RunReport
from transept.host.runtime.region import Region

__all__ = ["Backend", "GraphBackend", "Outcome", "PreparedGraph"]


class Outcome(NamedTuple):
    """Outputs int16 or int8 [batch, length, width]; counters and what ran, of an accelerator."""

    outputs: dict[str, np.ndarray]
    report: RunReport | None = None
    executable: Executable | None = None


class Backend(Protocol):
    """One open device."""

    def prepare(self, region: Region, shape: Shape, lengths: Lengths | None) -> None:
        """Do all that is done once for a shape, so that ``run`` only runs.

        Raises
        ------
        CompileError, DeviceError
            As ``run``.
        """

    def run(
        self,
        region: Region,
        shape: Shape,
        inputs: Mapping[str, np.ndarray],
        lengths: Lengths | None,
    ) -> Outcome:
        """Run a region on integers that ``Region.check`` found to have ``shape``.

        Raises
        ------
        CompileError
            If the region does not fit the device.
        DeviceError
            If the device fails; it can go on, or is opened again by the next run.
        """


class PreparedGraph(Protocol):
    """A graph with its weights where they are needed."""

    def prepare(self, shape: Shape, lengths: Lengths | None = None) -> None:
        """Do all that is done once for a shape."""

    def run(
        self, inputs: Mapping[str, np.ndarray], lengths: Lengths | None = None
    ) -> dict[str, np.ndarray]:
        """Every output for integers [batch, length, width], in the types of the values."""


class GraphBackend:
    """A device that takes graphs as they are; each is prepared when it first runs."""

    def __init__(self, prepare: Callable[..., PreparedGraph], **options: object) -> None:
        self._prepare, self._options = prepare, options
        self._prepared: dict[Graph, PreparedGraph] = {}

    def prepare(self, region: Region, shape: Shape, lengths: Lengths | None) -> None:
        """Bring the weights where they are needed (``Backend.prepare``)."""
        self.prepared(region.graph).prepare(shape, lengths)

    def run(
        self,
        region: Region,
        shape: Shape,
        inputs: Mapping[str, np.ndarray],
        lengths: Lengths | None,
    ) -> Outcome:
        """Run a region (``Backend.run``)."""
        return Outcome(self.prepared(region.graph).run(inputs, lengths))

    def prepared(self, graph: Graph) -> PreparedGraph:
        """The graph with its weights in place."""
        if graph not in self._prepared:
            self._prepared[graph] = self._prepare(graph, **self._options)
        return self._prepared[graph]
