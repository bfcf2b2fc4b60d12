"""A session: one device that stays open, and the regions that run on it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from transept.golden.config import Config
from transept.golden.graph import Lengths
from transept.host.backends.accelerator import AcceleratorBackend
from transept.host.backends.base import Backend, GraphBackend, Outcome
from transept.host.backends.catalogue import CPU, check_backend, open_backend
from transept.host.compiler.cut import Shape
from transept.host.compiler.errors import CompileError
from transept.host.compiler.executable import Executable
from transept.host.devices.base import Device, DeviceError
from transept.host.runtime.driver import RunReport
from transept.host.runtime.region import Region

__all__ = ["Result", "Session"]


class Result(NamedTuple):
    """Outputs int16 or int8 [batch, length, width], and how they came about.

    report: counters, and executable: what ran, None where no instructions did; device: where it
    ran; seconds: of wall time, checks included, without what is done once for a shape.
    """

    outputs: dict[str, np.ndarray]
    report: RunReport | None
    executable: Executable | None
    device: str
    seconds: float


class Session:
    """Runs regions on one device (``host.backends``), which is opened when the first one runs.

    Whatever fails on it is done on ``cpu``; ``notes`` says so. With ``fallback`` False the error is
    raised instead.

    Raises
    ------
    ValueError
        If there is no such device, or it has no such option.
    """

    def __init__(
        self, config: Config, device: str, *, fallback: bool = True, **options: Any
    ) -> None:
        check_backend(device, options)
        self.config, self.device, self.options = config, device, options
        self.notes: list[str] = []
        self._fallback = fallback
        self._backends: dict[str, Backend] = {}
        self._prepared: set[tuple[str, Region, Shape]] = set()

    def run(
        self,
        region: Region,
        inputs: Mapping[str, np.ndarray],
        lengths: Lengths | None = None,
    ) -> Result:
        """Run a region on integers [batch, length, width] of its inputs' types.

        lengths: real rows of each sequence; all of a dimension that is not named.

        Raises
        ------
        ProgramError
            If an input or a length does not fit (``Region.check``), or an executable is not legal.
        CompileError, DeviceError
            If the region does not fit the device or the device fails, and there is no fallback.
        """
        start = time.perf_counter()
        shape = region.check(inputs, lengths)
        checked = time.perf_counter() - start
        device = self.device
        try:
            outcome, seconds = self._run(device, region, shape, inputs, lengths)
        except (CompileError, DeviceError) as error:
            if device == CPU or not self._fallback:
                raise
            self.notes.append(f"{region.name} ran on {CPU}: {error}")
            device = CPU
            outcome, seconds = self._run(device, region, shape, inputs, lengths)
        seconds += checked
        return Result(outcome.outputs, outcome.report, outcome.executable, device, seconds)

    @property
    def opened(self) -> Device | None:
        """The open accelerator; None on other devices and before the first run."""
        backend = self._backends.get(self.device)
        return backend.opened if isinstance(backend, AcceleratorBackend) else None

    def prepared(self, region: Region) -> Any:
        """The region as the open device holds it (``GraphBackend.prepared``)."""
        backend = self._backends[self.device]
        assert isinstance(backend, GraphBackend)
        return backend.prepared(region.graph)

    def _run(
        self,
        device: str,
        region: Region,
        shape: Shape,
        inputs: Mapping[str, np.ndarray],
        lengths: Lengths | None,
    ) -> tuple[Outcome, float]:
        """What came out, and seconds."""
        if device not in self._backends:
            options = self.options if device == self.device else {}
            self._backends[device] = open_backend(device, self.config, **options)
        backend = self._backends[device]
        if (device, region, shape) not in self._prepared:
            backend.prepare(region, shape, lengths)
            self._prepared.add((device, region, shape))
        start = time.perf_counter()
        outcome = backend.run(region, shape, inputs, lengths)
        return outcome, time.perf_counter() - start
