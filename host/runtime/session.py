"""A session: one device that stays open, and the regions that run on it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from transept.golden.config import Config
from transept.golden.graph import Lengths
from transept.host.compiler.cut import Shape
from transept.host.compiler.errors import CompileError
from transept.host.compiler.executable import Executable
from transept.host.devices.base import PAGE, Device, DeviceError, DeviceLostError, OutOfMemoryError
from transept.host.devices.catalogue import ACCELERATORS, check_options, open_device
from transept.host.runtime.driver import Driver, Loaded, RunReport
from transept.host.runtime.region import Region, dtype_of
from transept.host.runtime.verify import check_executable

__all__ = ["CPU", "Result", "Session"]

#: The golden model on the host.
CPU = "cpu"
#: DRAM of a device, if not told: at least so much, and so many times what its regions need.
LEAST_DRAM, SPARE = 16 << 20, 2


@dataclass(frozen=True)
class Result:
    """Outputs int16 or int8 [batch, length, width], and how they came about.

    report: counters, and executable: what ran, None on ``cpu``; device: where it ran; seconds: of
    wall time.
    """

    outputs: dict[str, np.ndarray]
    report: RunReport | None
    executable: Executable | None
    device: str
    seconds: float


class Session:
    """Runs regions on one device: ``rtl``, ``emulator``, or ``cpu``, the golden model.

    The device is opened when the first region runs. Weights are copied to it once, and stay. Its
    DRAM is twice what the regions that have run need; when another one, or a larger shape, does not
    fit any more, the device is opened again with more. With option ``dram_bytes`` it has that size,
    and what does not fit runs on ``cpu``.

    An executable is verified before it starts for the first time.
    Whatever fails on the device is done by the golden model; ``notes`` says so.

    Raises
    ------
    ValueError
        If there is no such device, or it has no such option.
    """

    def __init__(self, config: Config, device: str, **options: Any) -> None:
        if device == CPU:
            if options:
                raise ValueError(f"device {CPU} has no option {next(iter(options))!r}")
        elif device in ACCELERATORS:
            check_options(device, options)
        else:
            known = ", ".join((CPU, *ACCELERATORS))
            raise ValueError(f"no device {device!r}, there is {known}")
        self.config, self.device, self.options = config, device, options
        self.notes: list[str] = []
        self._driver: Driver | None = None
        self._verified: set[Executable] = set()
        self._regions: set[Region] = set()  # all that have run
        self._loaded: dict[Region, Loaded] = {}

    def run(
        self,
        region: Region,
        inputs: Mapping[str, np.ndarray],
        lengths: Lengths | None = None,
    ) -> Result:
        """Run a region on integers [batch, length, width] of its inputs' types.

        lengths: real rows of each sequence; all of a dimension that is not named. On an accelerator
        the cheapest executable of the region runs whose shape has the batch and holds the rows; if
        there is none, one is compiled.

        Raises
        ------
        ProgramError
            If an input or a length does not fit (``Region.check``), or an executable is not legal.
        """
        start = time.perf_counter()
        shape = region.check(inputs, lengths)
        outputs, report, executable = self._run(region, shape, inputs, lengths)
        device = CPU if executable is None else self.device
        return Result(outputs, report, executable, device, time.perf_counter() - start)

    @property
    def opened(self) -> Device | None:
        """The open device; None on ``cpu`` and before the first run."""
        return None if self._driver is None else self._driver.device

    def _run(
        self,
        region: Region,
        shape: Shape,
        inputs: Mapping[str, np.ndarray],
        lengths: Lengths | None,
    ) -> tuple[dict[str, np.ndarray], RunReport | None, Executable | None]:
        if self.device != CPU:
            try:
                return self._accelerate(region, shape, inputs, lengths)
            except (CompileError, DeviceError) as error:
                self.notes.append(f"{region.name} ran on {CPU}: {error}")
        return _golden(region, inputs, lengths), None, None

    def _accelerate(
        self,
        region: Region,
        shape: Shape,
        inputs: Mapping[str, np.ndarray],
        lengths: Lengths | None,
    ) -> tuple[dict[str, np.ndarray], RunReport, Executable]:
        executable = region.executable(region.bucket(shape))
        if executable not in self._verified:
            check_executable(region, executable)
            self._verified.add(executable)
        values, larger = region.graph.values, executable.shape
        padded = {
            name: _padded(rows, larger.lengths[values[name].dim]) for name, rows in inputs.items()
        }
        driver, loaded = self._ready(region, executable)
        try:
            outputs, report = driver.run(
                loaded, executable, padded, shape.rows | dict(lengths or {})
            )
        except DeviceLostError:
            self._driver = None
            raise
        cut = {name: y[:, : shape.lengths[values[name].dim]] for name, y in outputs.items()}
        return cut, report, executable

    # --- the device and its memory
    def _ready(self, region: Region, executable: Executable) -> tuple[Driver, Loaded]:
        """The open device with all that the executable needs in its memory."""
        self._regions.add(region)
        if self._driver is not None:
            try:
                return self._driver, self._load(self._driver, region, executable)
            except OutOfMemoryError:
                if "dram_bytes" in self.options:
                    raise
        self._driver = self._open()
        self._loaded.clear()
        return self._driver, self._load(self._driver, region, executable)

    def _load(self, driver: Driver, region: Region, executable: Executable) -> Loaded:
        if region not in self._loaded:
            self._loaded[region] = driver.load(region)
        driver.fit(self._loaded[region], executable)
        return self._loaded[region]

    def _open(self) -> Driver:
        """A new device with DRAM for every region that has run here."""
        size = max(LEAST_DRAM, SPARE * sum(_bytes(region) for region in self._regions))
        return Driver(open_device(self.device, self.config, **{"dram_bytes": size, **self.options}))


def _bytes(region: Region) -> int:
    """Device memory of a region with all its executables."""
    found = region.executables.values()
    sizes = (
        region.weights.size,
        max(len(executable.instructions) for executable in found),
        max(executable.io_bytes for executable in found),
        max(executable.scratch_bytes for executable in found),
    )
    return sum(size + PAGE for size in sizes)


def _padded(rows: np.ndarray, length: int) -> np.ndarray:
    """[batch, .., width] with rows of zeros up to ``length``."""
    if rows.shape[1] == length:
        return rows
    padded = np.zeros((len(rows), length, rows.shape[2]), rows.dtype)
    padded[:, : rows.shape[1]] = rows
    return padded


def _golden(
    region: Region, inputs: Mapping[str, np.ndarray], lengths: Lengths | None
) -> dict[str, np.ndarray]:
    """The golden model, on torch if it is there: it multiplies faster, and gives the same bits."""
    try:
        import torch
    except ImportError:
        arrays: dict[str, Any] = dict(inputs)
    else:
        arrays = {name: torch.as_tensor(np.ascontiguousarray(x)) for name, x in inputs.items()}
    found = region.graph.evaluate(arrays, lengths)
    return {
        name: np.asarray(y).astype(dtype_of(region.graph.values[name])) for name, y in found.items()
    }
