"""The NumPy emulator behind the same registers as the RTL: no cycles, the same bits."""

from __future__ import annotations

import numpy as np

from transept.golden import registers
from transept.golden.config import Config
from transept.golden.emulator import Emulator, EmulatorError
from transept.golden.isa import Window
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
        self._writable = {r.offset for r in table if r.writable}
        self._set("STATUS", idle=1)
        #: the message of the last failed run
        self.failure = ""

    def _set(self, name: str, **fields: int) -> None:
        self._values[registers.offset(name)] = registers.encode(name, **fields)

    def read(self, offset: int) -> int:
        """The value of a register."""
        if offset not in self._values:
            raise KeyError(f"there is no register at {offset:#x}")
        return self._values[offset]

    def write(self, offset: int, value: int) -> None:
        """Write a register; CONTROL.start runs the program before it returns."""
        if offset not in self._writable:
            raise KeyError(f"there is no writable register at {offset:#x}")
        if offset == registers.offset("IRQ"):
            self._values[offset] &= ~value
            return
        self._values[offset] = value
        if offset == registers.offset("CONTROL"):
            control = registers.decode("CONTROL", value)
            if control["soft_reset"]:
                self._reset()
            elif control["start"]:
                self._run()

    def _reset(self) -> None:
        self._set("STATUS", idle=1)
        self._set("ERROR")
        self._set("IRQ")

    def _windows(self) -> dict[Window, tuple[int, int]]:
        def value(name: str) -> int:
            return self._values[registers.offset(name)]

        return {
            window: (
                max(0, value(f"WINDOW_BASE_{window.name}") - DRAM_BASE),
                value(f"WINDOW_LIMIT_{window.name}"),
            )
            for window in Window
        }

    def _run(self) -> None:
        self.failure = ""
        try:
            emulator = Emulator(self.config, self._dram, self._windows(), seed=self._seed)
            statistics = emulator.run(self._values[registers.offset("PROGRAM_OFFSET")])
        except (EmulatorError, ValueError) as error:
            self.failure = str(error)
            self._set("STATUS", idle=1, error=1)
            self._set("IRQ", error=1)
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

    def wait(self, timeout_cycles: int) -> bool:
        """Whether the last start ended; it did before ``write`` returned."""
        return bool(self._values[registers.offset("IRQ")])
