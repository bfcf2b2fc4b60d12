"""The NumPy emulator behind the same registers as the RTL: no cycles, the same bits."""

from __future__ import annotations

import numpy as np

from transept.golden import registers
from transept.golden.config import Config
from transept.golden.emulator import Emulator, EmulatorError
from transept.golden.isa import Window
from transept.golden.registers import ErrorCode, Stall
from transept.host.devices.base import BumpAllocator

__all__ = ["EmulatorDevice"]

DRAM_BASE = 0x1000_0000


class EmulatorDevice(BumpAllocator):
    """A register file in front of ``golden.emulator``; a start runs the program to its end."""

    name = "emulator"

    def __init__(self, config: Config, *, seed: int = 1, dram_bytes: int = 64 << 20) -> None:
        self.config = config
        self._dram = np.zeros(dram_bytes, np.uint8)
        super().__init__(self._dram, DRAM_BASE)
        self._seed = seed
        table = registers.table(config)
        self._values = {
            offset: r.reset if r.constant is None else r.constant
            for r in table
            for offset in r.offsets
        }
        self._writable = {r.offset: r for r in table if r.writable}
        self._set("STATUS", idle=1)
        #: the message of the last failed run
        self.failure = ""

    def _set(self, name: str, **fields: int) -> None:
        self._values[registers.offset(name)] = registers.encode(name, **fields)

    def _get(self, name: str) -> int:
        return self._values[registers.offset(name)]

    def read(self, offset: int) -> int:
        """The value of a register."""
        if offset not in self._values:
            raise KeyError(f"there is no register at {offset:#x}")
        return self._values[offset]

    def write(self, offset: int, value: int) -> None:
        """Write a register; CONTROL.start runs the program before it returns."""
        register = self._writable.get(offset)
        if register is None:
            raise KeyError(f"there is no writable register at {offset:#x}")
        idle = registers.decode("STATUS", self._get("STATUS"))["idle"]
        if register.locked and not idle:
            raise KeyError(f"register {register.name} is locked until a soft reset")
        if register.name == "IRQ":
            self._values[offset] &= ~value
            return
        self._values[offset] = value & register.stored
        if register.name == "CONTROL":
            control = registers.decode("CONTROL", value)
            if control["soft_reset"]:
                self._reset()
            elif control["start"] and idle:
                self._run()

    def _reset(self) -> None:
        self._set("STATUS", idle=1)
        for name in ("ERROR", "ERROR_OFFSET", "WATCHDOG", "IRQ"):
            self._set(name)

    def _windows(self) -> dict[Window, tuple[int, int]]:
        """Those that the hardware would access, as offsets in DRAM."""
        found = {}
        for window in Window:
            base, limit = (self._get(f"WINDOW_{what}_{window.name}") for what in ("BASE", "LIMIT"))
            inside = base >= DRAM_BASE and base + limit <= DRAM_BASE + self._dram.size
            if inside and base % self.config.tile == 0:
                found[window] = base - DRAM_BASE, limit
        return found

    def _run(self) -> None:
        self.failure = ""
        try:
            emulator = Emulator(self.config, self._dram, self._windows(), seed=self._seed)
            statistics = emulator.run(self._get("PROGRAM_OFFSET"))
        except EmulatorError as error:
            self._fail(error)
            return
        self._set("STATUS", idle=1, done=1)
        self._set("IRQ", done=1)
        counters = {
            "INSTRUCTIONS": sum(statistics.instructions.values()),
            "BYTES_READ_LO": statistics.bytes_read + statistics.bytes_fetched,
            "BYTES_WRITTEN_LO": statistics.bytes_written,
        }
        for name, count in counters.items():
            self._values[registers.offset(name)] = count
        for tally, count in enumerate(statistics.clipped):
            self._values[registers.offset("CLIPPED", tally)] = count

    def _fail(self, error: EmulatorError) -> None:
        """The registers after a run that ended in an error."""
        self.failure = str(error)
        self._set("STATUS", error=1)
        self._set("IRQ", error=1)
        finding = error.finding
        if finding is None:
            self._set("ERROR", code=ErrorCode.ILLEGAL_OPERAND)
            return
        if finding.code == ErrorCode.NONE:
            waiting = {"stall": Stall.TOKEN, "waiting": 1 << finding.unit}
            self._set("WATCHDOG", fired=1, engine=finding.unit, **waiting)
            return
        window = finding.code == ErrorCode.WINDOW
        facts = {"window": finding.window} if window else {"rule": finding.rule}
        self._set("ERROR", code=finding.code, engine=finding.unit, **facts)
        self._set("ERROR_OFFSET", value=finding.offset if window else finding.index)

    def wait(self, timeout_cycles: int) -> bool:
        """Whether the last start ended; it did before ``write`` returned."""
        return bool(self._get("IRQ"))
