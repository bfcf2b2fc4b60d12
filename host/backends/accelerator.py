"""An accelerator behind its driver: executables by shape, and the memory of the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from transept.golden.config import Config
from transept.golden.graph import Lengths
from transept.host.backends.base import Outcome
from transept.host.compiler.cut import Shape
from transept.host.compiler.executable import Executable
from transept.host.devices.base import PAGE, Device, DeviceLostError, OutOfMemoryError
from transept.host.devices.catalogue import BOARD, check_options, open_device
from transept.host.runtime.driver import Driver, Loaded
from transept.host.runtime.region import Region
from transept.host.runtime.verify import check_executable

__all__ = ["AcceleratorBackend"]

#: DRAM of a device, if not told: at least so much, and so many times what its regions need.
LEAST_DRAM, SPARE = 16 << 20, 2


class AcceleratorBackend:
    """Runs regions on the named accelerator: ``rtl``, ``emulator`` or ``pynq``.

    The device is opened when the first region runs. Weights are copied to it once, and stay. Its
    DRAM is twice what the regions that have run need; when another one, or a larger shape, does not
    fit any more, the device is opened again with more. With option ``dram_bytes`` it has that size,
    and a board has what it has.
    An executable is verified before it starts for the first time.

    Raises
    ------
    ValueError
        If there is no such accelerator, or it has no such option.
    """

    def __init__(self, name: str, config: Config, **options: Any) -> None:
        check_options(name, options)
        self._name, self._config, self._options = name, config, options
        self._driver: Driver | None = None
        self._verified: set[Executable] = set()
        self._regions: set[Region] = set()  # all that have run
        self._loaded: dict[Region, Loaded] = {}

    @property
    def opened(self) -> Device | None:
        """The open device; None before the first run."""
        return None if self._driver is None else self._driver.device

    def run(
        self,
        region: Region,
        shape: Shape,
        inputs: Mapping[str, np.ndarray],
        lengths: Lengths | None,
    ) -> Outcome:
        """Run the cheapest executable of the region whose shape has the batch and holds the rows;
        if there is none, one is compiled.

        Raises
        ------
        CompileError
            If no cut of the shape fits the accelerator.
        ProgramError
            If an executable is not legal.
        DeviceError
            If the device fails, or its memory is too small.
        """
        executable = self._executable(region, shape)
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
        return Outcome(cut, report, executable)

    def prepare(self, region: Region, shape: Shape, lengths: Lengths | None) -> None:
        """Compile and verify (``Backend.prepare``)."""
        self._executable(region, shape)

    def _executable(self, region: Region, shape: Shape) -> Executable:
        executable = region.executable(region.bucket(shape))
        if executable not in self._verified:
            check_executable(region, executable)
            self._verified.add(executable)
        return executable

    # --- the device and its memory
    def _ready(self, region: Region, executable: Executable) -> tuple[Driver, Loaded]:
        """The open device with all that the executable needs in its memory."""
        self._regions.add(region)
        if self._driver is not None:
            try:
                return self._driver, self._load(self._driver, region, executable)
            except OutOfMemoryError:
                if "dram_bytes" in self._options or self._name == BOARD:
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
        options = ({} if self._name == BOARD else {"dram_bytes": size}) | self._options
        return Driver(open_device(self._name, self._config, **options))


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
