"""The full-size RTL under Verilator, behind the driver that a board uses."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from transept.golden.config import Config
from transept.host.devices.base import Allocator
from transept.sim.build import accelerator_verilog
from transept.sim.native import NativeSimulation, SimulationTimeout

__all__ = ["RtlDevice"]

PROGRESS_CYCLES = 100_000


class RtlDevice(Allocator):
    """A Verilated accelerator with its DRAM. Other options are those of ``NativeSimulation``."""

    name = "rtl"

    def __init__(
        self, config: Config, *, progress: Callable[[int], None] | None = None, **options: Any
    ) -> None:
        self.config = config
        self._progress = progress
        self.simulation = NativeSimulation(config, **options)
        super().__init__(self.simulation.dram, self.simulation.dram_base)

    def read(self, offset: int) -> int:
        """The value of a register, over AXI4-Lite."""
        return self.simulation.read32(offset)

    def write(self, offset: int, value: int) -> None:
        """Write a register, over AXI4-Lite."""
        self.simulation.write32(offset, value)

    def wait(self, timeout_cycles: int) -> bool:
        """Run the clock until the interrupt; ``progress`` hears how many cycles have passed."""
        chunk = PROGRESS_CYCLES if self._progress else timeout_cycles
        for done in range(0, timeout_cycles, chunk):
            try:
                self.simulation.run_until_irq(min(chunk, timeout_cycles - done))
            except SimulationTimeout:
                if self._progress:
                    self._progress(done + chunk)
            else:
                return True
        return False

    @property
    def rtl_sha256(self) -> str:
        """SHA-256 of the Verilog that runs."""
        return hashlib.sha256(accelerator_verilog(self.config).encode()).hexdigest()
