"""A PYNQ board without a board: its files, its memory, and logic that is our RTL under Verilator.

The logic becomes what the bitstream says that is written to it. Its clock runs as long as it is
busy, in a thread of its own, and with every access to a register.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from transept.bitstreams.bitfile import payload_of, read_design
from transept.bitstreams.boards import Board, Family
from transept.golden import registers
from transept.golden.config import Config
from transept.sim.native import NativeSimulation

__all__ = ["FIRMWARE", "PROGRAM", "BoardError", "Defects", "Machine"]

Answer = TypeVar("Answer")

#: Where bitstreams lie, and the file that makes the logic one of them.
FIRMWARE, PROGRAM = "/lib/firmware/", "/sys/class/fpga_manager/fpga0/firmware"
PAGE = 4096
#: Cycles of the clock between two chances for others to look at the board.
STEP_CYCLES = 2000
#: Registers of a Zynq-7000's clocks: multiplier of each PLL, and source and divisors of each clock.
_PLL, _PLL_STEP, _PLLS = 0xF800_0100, 4, 3
_CLOCK, _CLOCK_STEP, _CLOCKS = 0xF800_0170, 0x10, 4


class BoardError(RuntimeError):
    """What was asked of the board is impossible, or its logic has failed."""


@dataclass(frozen=True)
class Defects:
    """What is wrong with a board.

    stuck: bit of every 64-bit word of memory that is always ``stuck_at``; corrupts: files below
    this folder are written with one bit wrong; constants: what registers of the logic read as, by
    name, as those of other hardware would.
    """

    stuck: int | None = None
    stuck_at: int = 1
    corrupts: str | None = None
    constants: Mapping[str, int] = field(default_factory=dict)


class Machine:
    """The board.

    open_logic: what makes the simulation of a configuration, with memory of so many bytes from an
    address on.
    """

    def __init__(
        self,
        board: Board,
        *,
        dram_bytes: int = 64 << 20,
        dram_base: int = 0x1000_0000,
        defects: Defects | None = None,
        open_logic: Callable[..., NativeSimulation] = NativeSimulation,
    ) -> None:
        self.board, self.defects = board, defects or Defects()
        self.lock = threading.RLock()
        self.files = {
            "/proc/version": f"Linux version 6.6 (simulated, {board.machine})".encode(),
            "/proc/device-tree/chosen/pynq_board": f"{board.name} simulated\0".encode(),
            "/sys/class/fpga_manager/fpga0/state": b"operating",
            "/sys/class/fpga_manager/fpga0/flags": b"0",
        }
        self.dram = np.zeros(dram_bytes, np.uint8)
        self._base = dram_base
        self._open_logic = open_logic
        self._logic: NativeSimulation | None = None
        self._registers: dict[int, int] = _clocks() if board.family == Family.ZYNQ_7000 else {}
        self._constants = {
            registers.offset(name): value for name, value in self.defects.constants.items()
        }
        self._buffers: dict[str, tuple[int, int]] = {}  # first byte and size
        self._numbers = itertools.count()
        self._failure = ""
        self._busy = threading.Event()
        self._clock = threading.Thread(target=self._run, name="clock", daemon=True)
        self._closed = False
        self._clock.start()

    def close(self) -> None:
        """Switch it off."""
        self._closed = True
        self._busy.set()
        self._clock.join()
        if self._logic is not None:
            self._logic.close()

    # --- files
    def write_file(self, path: str, data: bytes) -> None:
        """Write a file; one of them programs the logic.

        Raises
        ------
        BoardError
            If the logic cannot become what the bitstream says.
        """
        folder = self.defects.corrupts
        if folder is not None and path.startswith(folder) and data:
            data = bytes([data[0] ^ 1]) + data[1:]
        with self.lock:
            self.files[path] = data
            if path == PROGRAM:
                self._program(FIRMWARE + data.decode())

    def _program(self, path: str) -> None:
        if path not in self.files:
            raise BoardError(f"there is no bitstream {path}")
        try:
            design = read_design(payload_of(self.files[path]))
            config = Config.from_fields(design["config"])
        except (ValueError, KeyError, TypeError) as error:
            raise BoardError(f"{path}: {error}") from None
        if self._logic is not None:
            self._logic.close()
        self._logic, self._failure = None, ""
        self._busy.clear()
        self._logic = self._open_logic(config, dram_bytes=self.dram.size, dram_base=self._base)
        self._logic.dram[:] = self.dram
        self.dram = self._logic.dram

    # --- registers
    def read32(self, address: int) -> int:
        """Read a register of the logic or of the processing system.

        Raises
        ------
        BoardError
            If no logic answers there.
        """
        with self.lock:
            offset = self._offset(address)
            if offset is None:
                return self._registers.get(address, 0)
            found = self._ask(lambda logic: logic.read32(offset))
            return self._constants.get(offset, found)

    def write32(self, address: int, value: int) -> None:
        """Write a register; as ``read32``."""
        with self.lock:
            offset = self._offset(address)
            if offset is None:
                self._registers[address] = value
                return
            self._ask(lambda logic: logic.write32(offset, value))
            if offset == registers.offset("CONTROL"):
                self._busy.set()

    def _offset(self, address: int) -> int | None:
        """Of a register of the logic; None if it is the processing system's."""
        offset = address - self.board.register_base
        return offset if 0 <= offset < self.board.register_bytes else None

    def _ask(self, access: Callable[[NativeSimulation], Answer]) -> Answer:
        if self._failure:
            raise BoardError(self._failure)
        if self._logic is None:
            raise BoardError("no bitstream is loaded")
        try:
            return access(self._logic)
        except (RuntimeError, TimeoutError, AssertionError) as error:
            raise BoardError(str(error)) from None

    # --- the clock
    def _run(self) -> None:
        while True:
            self._busy.wait()
            if self._closed:
                return
            with self.lock:
                if not self._advance():
                    self._busy.clear()

    def _advance(self) -> bool:
        """Some cycles; False if the logic waits for the host."""
        if self._logic is None or self._failure:
            return False
        try:
            self._logic.step(STEP_CYCLES)
            found = self._logic.read32(registers.offset("STATUS"))
        except (RuntimeError, TimeoutError, AssertionError) as error:
            self._failure = str(error)
            return False
        status = registers.decode("STATUS", found)
        return bool(status["busy"] or status["resetting"])

    # --- memory
    def allocate(self, size: int) -> str:
        """The number of a new buffer of contiguous memory.

        Raises
        ------
        BoardError
            If there is no room.
        """
        with self.lock:
            start = 0
            for first, held in sorted(self._buffers.values()):
                if start + size <= first:
                    break
                start = max(start, -(-(first + held) // PAGE) * PAGE)
            if size < 1 or start + size > self.dram.size:
                raise BoardError(f"no {size} bytes of contiguous memory are left")
            number = f"b{next(self._numbers)}"
            self._buffers[number] = start, size
            return number

    def free(self, number: str) -> None:
        """Give a buffer back."""
        with self.lock:
            self._buffers.pop(number, None)

    def address(self, number: str) -> int:
        """The physical address of a buffer; BoardError if there is none."""
        return self._base + self._place(number)[0]

    def write(self, number: str, at: int, data: bytes) -> None:
        """Write to a buffer from byte ``at`` on; BoardError if it has no room."""
        start, size = self._place(number)
        if at + len(data) > size:
            raise BoardError(f"{at + len(data)} bytes are written to a buffer of {size}")
        with self.lock:
            self.dram[start + at : start + at + len(data)] = np.frombuffer(data, np.uint8)
            self._stick(start + at, len(data))

    def read(self, number: str) -> bytes:
        """Contents of a buffer; BoardError if there is none."""
        start, size = self._place(number)
        with self.lock:
            self._stick(start, size)
            return self.dram[start : start + size].tobytes()

    def _place(self, number: str) -> tuple[int, int]:
        if number not in self._buffers:
            raise BoardError(f"there is no buffer {number}")
        return self._buffers[number]

    def _stick(self, start: int, size: int) -> None:
        """Let the stuck bit have its way."""
        if self.defects.stuck is None:
            return
        byte, bit = divmod(self.defects.stuck, 8)
        lane = slice(start + (byte - start) % 8, start + size, 8)
        if self.defects.stuck_at:
            self.dram[lane] |= np.uint8(1 << bit)
        else:
            self.dram[lane] &= np.uint8(~(1 << bit) & 0xFF)


def _clocks() -> dict[int, int]:
    """Registers of a Zynq-7000 from which a driver finds out its clocks."""
    plls = {_PLL + _PLL_STEP * i: 30 << 12 for i in range(_PLLS)}
    return plls | {_CLOCK + _CLOCK_STEP * i: 1 << 20 | 10 << 8 for i in range(_CLOCKS)}
