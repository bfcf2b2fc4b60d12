"""The driver: the same few register accesses for simulation, emulator and board."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from transept.golden import registers
from transept.golden.config import CONTRACT_VERSION
from transept.golden.isa import Engine, Window
from transept.golden.registers import STALLS, ErrorCode
from transept.host.devices.base import Buffer, Device, DeviceError
from transept.host.launch import Launch, ProgramError, Tensor

__all__ = ["Driver", "Loaded", "RunReport"]

RUN_TIMEOUT_CYCLES = 200_000_000
RESET_POLLS = 1000


@dataclass(frozen=True)
class RunReport:
    """Counters of one run. On the emulator, which knows no time, cycles are 0."""

    cycles: int
    instructions: int
    bytes_read: int
    bytes_written: int
    array_cycles: int
    busy: dict[str, int]  # cycles by engine
    stalls: dict[str, dict[str, int]]  # cycles by engine and reason


@dataclass(frozen=True)
class Loaded:
    """A program in device memory."""

    program: Launch
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

    # --- programs
    def load(self, program: Launch) -> Loaded:
        """Copy a program and its weights to the device; it replaces the one before.

        Raises
        ------
        ProgramError
            If the program was compiled for another configuration.
        OutOfMemoryError
            If device memory is too small.
        """
        program.check(self.device.config)
        self.device.release_all()
        sizes = {
            Window.PROGRAM: len(program.instructions),
            Window.WEIGHTS: program.weights.size,
            Window.IO: program.io_bytes,
            Window.SCRATCH: program.scratch_bytes,
        }
        windows = {w: self.device.allocate(max(size, 64)) for w, size in sizes.items()}
        windows[Window.WEIGHTS].array[: program.weights.size] = program.weights
        self.device.flush(windows[Window.WEIGHTS])
        return Loaded(program, windows)

    def run(
        self,
        loaded: Loaded,
        inputs: list[np.ndarray],
        lengths: list[int] | None = None,
        *,
        timeout_cycles: int = RUN_TIMEOUT_CYCLES,
    ) -> tuple[np.ndarray, RunReport]:
        """Run a loaded program on integer inputs [rows, width]; returns the output [rows, width].

        lengths: real tokens of each sequence of an encoder; all by default.

        Raises
        ------
        ProgramError
            If an input has another shape or dtype, holds -128 (int8) or -32768 (int16), or a length
            does not fit.
        DeviceError
            If the run ends in an error or not at all; the device has been reset and can go on.
        """
        self.place(loaded, inputs, lengths)
        self.start(loaded)
        report = self._finish(timeout_cycles)
        io = loaded.windows[Window.IO]
        self.device.invalidate(io)
        output = loaded.program.output
        return _view(io, output)[:, : output.width].copy(), report

    def place(
        self, loaded: Loaded, inputs: list[np.ndarray], lengths: list[int] | None = None
    ) -> None:
        """Write inputs and instructions to device memory (the first half of ``run``)."""
        program, windows = loaded.program, loaded.windows
        if len(inputs) != len(program.inputs):
            raise ProgramError(f"program takes {len(program.inputs)} inputs, got {len(inputs)}")
        checked = [_rows(t, x) for t, x in zip(program.inputs, inputs, strict=True)]
        lengths = lengths or [program.tokens] * program.batch
        image = program.with_lengths(lengths) if program.tokens else program.instructions
        windows[Window.PROGRAM].array[: len(image)] = np.frombuffer(image, np.uint8)
        for tensor, rows in zip(program.inputs, checked, strict=True):
            _view(windows[Window.IO], tensor)[:, : tensor.width] = rows
        for window in (Window.PROGRAM, Window.IO):
            self.device.flush(windows[window])

    def start(self, loaded: Loaded) -> None:
        """Set the windows and start; CONTROL is the last register written."""
        for window, buffer in loaded.windows.items():
            self._write(f"WINDOW_BASE_{window.name}", buffer.address)
            self._write(f"WINDOW_LIMIT_{window.name}", buffer.nbytes)
        self._write("PROGRAM_OFFSET", 0)
        self._write("IRQ", registers.encode("IRQ", done=1, error=1))
        self._write("CONTROL", registers.encode("CONTROL", start=1, irq_enable=1))

    def _finish(self, timeout_cycles: int) -> RunReport:
        answered = self.device.wait(timeout_cycles)
        status = registers.decode("STATUS", self._read("STATUS"))
        if answered and status["done"] and not status["error"]:
            return self.report()
        message = self._diagnosis(answered, timeout_cycles)
        self.reset()
        raise DeviceError(message)

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
        DeviceError
            If the device stays in reset: its bus never answers.
        """
        self._write("CONTROL", registers.encode("CONTROL", soft_reset=1))
        for _ in range(RESET_POLLS):
            status = registers.decode("STATUS", self._read("STATUS"))
            if status["idle"] and not status["resetting"]:
                return
        raise DeviceError(f"{self.device.name}: soft reset does not end, the bus does not answer")

    def report(self) -> RunReport:
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
        )


def _name(code: int) -> str:
    """The name of an enumerated field; a broken device may hold a number that has none."""
    return str(getattr(code, "name", code))


def _view(buffer: Buffer, tensor: Tensor) -> np.ndarray:
    """The rows of a tensor in the IO window, padding included."""
    data = buffer.array[tensor.offset : tensor.offset + tensor.nbytes]
    return data.view(np.int8 if tensor.bits == 8 else np.int16).reshape(tensor.rows, -1)


def _rows(tensor: Tensor, value: np.ndarray) -> np.ndarray:
    dtype = np.int8 if tensor.bits == 8 else np.int16
    if value.dtype != dtype:
        raise ProgramError(f"input is {value.dtype}, the program takes {np.dtype(dtype)}")
    if value.shape != (tensor.rows, tensor.width):
        raise ProgramError(
            f"input has shape {value.shape}, the program takes {(tensor.rows, tensor.width)}"
        )
    limit = np.iinfo(dtype).max
    if value.size and value.min() < -limit:
        raise ProgramError(
            f"input holds {value.min()}; {np.dtype(dtype)} operands are {-limit} to {limit}"
        )
    return value
