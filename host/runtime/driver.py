"""The driver: the same few register accesses for simulation, emulator and board."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from transept.golden import registers
from transept.golden.config import CONTRACT_VERSION
from transept.golden.graph import Lengths
from transept.golden.isa import Engine, Window
from transept.golden.registers import STALLS, ErrorCode
from transept.host.compiler.executable import Executable
from transept.host.compiler.tensors import Tensor
from transept.host.devices.base import Buffer, Device, DeviceError, DeviceLostError
from transept.host.runtime.errors import ProgramError
from transept.host.runtime.region import Region

__all__ = ["Driver", "Loaded", "RunReport", "read_rows", "write_rows"]

RUN_TIMEOUT_CYCLES = 200_000_000
RESET_POLLS = 1000
#: Bytes of a window that nothing is in.
SMALLEST_WINDOW = 64


@dataclass(frozen=True)
class RunReport:
    """Counters of one run. On the emulator, which knows no time, cycles are 0.

    tallies: clipped elements by operator; those that share a counter are named together.
    """

    cycles: int
    instructions: int
    bytes_read: int
    bytes_written: int
    array_cycles: int
    busy: dict[str, int]  # cycles by engine
    stalls: dict[str, dict[str, int]]  # cycles by engine and reason
    tallies: dict[str, int]


@dataclass(eq=False)
class Loaded:
    """A region in device memory. Its buffers but that of the weights grow with its executables."""

    region: Region
    windows: dict[Window, Buffer]


class Driver:
    """Runs programs on one device, after checking what the device is.

    Raises
    ------
    DeviceError
        If the device is no Transept accelerator, or has another contract version or configuration.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self._check("ID", registers.MAGIC, "magic number")
        self._check("CONTRACT", CONTRACT_VERSION, "contract version")
        self._check("CONFIG", device.config.digest, f"digest of {device.config.name}")

    def _check(self, name: str, expected: int, what: str) -> None:
        found = self._read(name)
        if found != expected:
            raise DeviceError(
                f"{self.device.name}: {what} is {found:#010x}, this driver needs {expected:#010x}"
            )

    def _read(self, name: str) -> int:
        return self.device.read(registers.offset(name))

    def _write(self, name: str, value: int) -> None:
        self.device.write(registers.offset(name), value)

    def _read64(self, name: str) -> int:
        low = self._read(f"{name}_LO")
        return low | self._read(f"{name}_HI") << 32

    # --- regions
    def load(self, region: Region) -> Loaded:
        """Copy the weights of a region to the device, beside those that are there.

        Raises
        ------
        ProgramError
            If the region is for another configuration.
        OutOfMemoryError
            If device memory is too small.
        """
        ours = self.device.config
        if region.config.digest != ours.digest:
            raise ProgramError(
                f"{region.name} is for {region.config.name} ({region.config.digest:08x}), "
                f"the device is {ours.name} ({ours.digest:08x})"
            )
        buffer = self.device.allocate(region.weights.size)
        buffer.array[:] = region.weights
        self.device.flush(buffer)
        return Loaded(region, {Window.WEIGHTS: buffer})

    def fit(self, loaded: Loaded, executable: Executable) -> None:
        """Let the buffers of a region grow to what an executable needs.

        Raises
        ------
        OutOfMemoryError
            If device memory is too small.
        """
        sizes = {
            Window.PROGRAM: len(executable.instructions),
            Window.IO: executable.io_bytes,
            Window.SCRATCH: executable.scratch_bytes,
        }
        for window, size in sizes.items():
            buffer = loaded.windows.get(window)
            if buffer is not None and buffer.nbytes >= size:
                continue
            if buffer is not None:
                self.device.release(loaded.windows.pop(window))
            loaded.windows[window] = self.device.allocate(max(size, SMALLEST_WINDOW))

    def run(
        self,
        loaded: Loaded,
        executable: Executable,
        inputs: Mapping[str, np.ndarray],
        lengths: Lengths | None = None,
        *,
        timeout_cycles: int = RUN_TIMEOUT_CYCLES,
    ) -> tuple[dict[str, np.ndarray], RunReport]:
        """Run one executable of a loaded region; inputs and outputs are [batch, length, width] of
        its shape, int16 or int8.

        lengths: real rows of each sequence; all of a dimension that is not named.

        Raises
        ------
        ProgramError
            If an input or a length does not fit (``Region.check``), or the shape is another one.
        DeviceError
            If device memory is too small, or the run ends in an error or not at all; the device has
            been reset and can go on.
        """
        self.place(loaded, executable, inputs, lengths)
        report = self.execute(loaded.windows, executable.tallies, timeout_cycles)
        io = loaded.windows[Window.IO]
        self.device.invalidate(io)
        outputs = {}
        for name in loaded.region.graph.outputs:
            outputs[name] = read_rows(io.array, executable.tensors[name], executable.shape.batch)
        return outputs, report

    def place(
        self,
        loaded: Loaded,
        executable: Executable,
        inputs: Mapping[str, np.ndarray],
        lengths: Lengths | None = None,
    ) -> None:
        """Write inputs and instructions to device memory (the first half of ``run``)."""
        region = loaded.region
        shape = region.check(inputs, lengths)
        if shape != executable.shape:
            raise ProgramError(
                f"{region.name}: inputs are {shape} rows, the executable takes {executable.shape}"
            )
        self.fit(loaded, executable)
        image = executable.linked(shape.rows | dict(lengths or {}))
        program, io = (loaded.windows[window] for window in (Window.PROGRAM, Window.IO))
        program.array[: len(image)] = np.frombuffer(image, np.uint8)
        for name in region.graph.inputs:
            write_rows(io.array, executable.tensors[name], shape.batch, inputs[name])
        for buffer in (program, io):
            self.device.flush(buffer)

    def execute(
        self,
        windows: Mapping[Window, Buffer],
        tallies: Mapping[str, int],
        timeout_cycles: int = RUN_TIMEOUT_CYCLES,
    ) -> RunReport:
        """Run what is in the windows; tallies: the counter of each operator's clipped elements.

        Raises
        ------
        DeviceError
            As ``run``.
        """
        self.start(windows)
        answered = self.device.wait(timeout_cycles)
        status = registers.decode("STATUS", self._read("STATUS"))
        if answered and status["done"] and not status["error"]:
            return self.report(tallies)
        message = self._diagnosis(answered, timeout_cycles)
        self.reset()
        raise DeviceError(message)

    def start(self, windows: Mapping[Window, Buffer]) -> None:
        """Set the windows and start; CONTROL is the last register written."""
        for window, buffer in windows.items():
            self._write(f"WINDOW_BASE_{window.name}", buffer.address)
            self._write(f"WINDOW_LIMIT_{window.name}", buffer.nbytes)
        self._write("PROGRAM_OFFSET", 0)
        self._write("IRQ", registers.encode("IRQ", done=1, error=1))
        self._write("CONTROL", registers.encode("CONTROL", start=1, irq_enable=1))

    def _diagnosis(self, answered: bool, timeout_cycles: int) -> str:
        """What went wrong, in one sentence."""
        name = self.device.name
        error = registers.decode("ERROR", self._read("ERROR"))
        watchdog = registers.decode("WATCHDOG", self._read("WATCHDOG"))
        if failure := getattr(self.device, "failure", ""):
            return f"{name}: {failure}"
        if error["code"] != ErrorCode.NONE:
            return (
                f"{name}: {_name(error['code'])} in {_name(error['engine'])}, "
                f"window {_name(error['window'])}, offset {self._read('ERROR_OFFSET'):#x}"
            )
        if watchdog["fired"]:
            return (
                f"{name}: watchdog: {_name(watchdog['engine'])} made no progress, "
                f"waiting for {_name(watchdog['stall'])}"
            )
        if answered:
            return f"{name}: the run ended, but is not done"
        return f"{name}: no interrupt within {timeout_cycles} cycles"

    def reset(self) -> None:
        """Abort what runs; outstanding bus transfers are ended first.

        Raises
        ------
        DeviceLostError
            If the device stays in reset: its bus never answers.
        """
        self._write("CONTROL", registers.encode("CONTROL", soft_reset=1))
        for _ in range(RESET_POLLS):
            status = registers.decode("STATUS", self._read("STATUS"))
            if status["idle"] and not status["resetting"]:
                return
        raise DeviceLostError(
            f"{self.device.name}: soft reset does not end, the bus does not answer"
        )

    def report(self, tallies: Mapping[str, int] | None = None) -> RunReport:
        """Counters of the last run."""
        return RunReport(
            cycles=self._read64("RUN_CYCLES"),
            instructions=self._read("INSTRUCTIONS"),
            bytes_read=self._read64("BYTES_READ"),
            bytes_written=self._read64("BYTES_WRITTEN"),
            array_cycles=self._read64("ARRAY_CYCLES"),
            busy={e.name: self._read(f"{e.name}_BUSY") for e in Engine},
            stalls={
                e.name: {s.name: self._read(f"{e.name}_STALL_{s.name}") for s in STALLS[e]}
                for e in Engine
            },
            tallies=self._tallies(tallies or {}),
        )

    def _tallies(self, tallies: Mapping[str, int]) -> dict[str, int]:
        sharing: dict[int, list[str]] = {}
        for operator, tally in tallies.items():
            sharing.setdefault(tally, []).append(operator)
        return {
            ", ".join(operators): self.device.read(registers.offset("CLIPPED", tally))
            for tally, operators in sharing.items()
        }


def _name(code: int) -> str:
    """The name of an enumerated field; a broken device may hold a number that has none."""
    return str(getattr(code, "name", code))


def read_rows(window: np.ndarray, tensor: Tensor, batch: int) -> np.ndarray:
    """A copy of a tensor [batch, length, width] in the bytes of its window."""
    rows = _view(window, tensor, batch)
    return np.array(rows).reshape(*rows.shape[:2], -1)


def write_rows(window: np.ndarray, tensor: Tensor, batch: int, given: np.ndarray) -> None:
    """Write a tensor [batch, length, width] to the bytes of its window, its padding as zeros."""
    window[tensor.offset : tensor.offset + tensor.nbytes] = 0
    rows = _view(window, tensor, batch)
    rows[:] = given.reshape(rows.shape)


def _view(window: np.ndarray, tensor: Tensor, batch: int) -> np.ndarray:
    """The rows of a tensor in its window, [batch, length, segments, width] without padding."""
    dtype = np.dtype(np.int8 if tensor.bits == 8 else np.int16)
    data = window[tensor.offset : tensor.offset + tensor.nbytes].view(dtype)
    rows = data.reshape(batch, -1, tensor.segments, tensor.segment_bytes // dtype.itemsize)
    return rows[..., : tensor.width]
