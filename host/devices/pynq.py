"""A PYNQ board, through ``pynq`` as everybody uses it: on the board itself, or from another machine
by PYNQ.remote.

``pynq`` is imported with this module, and decides then which devices there are; to use a remote
board, set ``PYNQ_REMOTE_DEVICES`` to its address before.
"""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pynq
from pynq.pl_server.global_state import clear_global_state

from transept.bitstreams.boards import VLNV
from transept.bitstreams.overlay import read_manifest
from transept.golden import registers
from transept.golden.config import Config
from transept.host.devices.base import Buffer, DeviceError, OutOfMemoryError

__all__ = ["Accelerator", "AcceleratorOverlay", "PynqDevice"]

#: Physical addresses that the accelerator's ports reach.
ADDRESSES = 1 << 32
PAGE = 4096
#: Seconds between two looks at a device that works: at first, and at most.
FIRST_NAP, LONGEST_NAP = 20e-6, 2e-3
#: Seconds in which the counter of cycles must move while a program runs.
PATIENCE = 20.0


class Accelerator(pynq.DefaultIP):
    """The accelerator's registers; ``register_map`` has all of them by name."""

    bindto = [VLNV]

    def __init__(self, description: dict[str, Any]) -> None:
        super().__init__(description)


class AcceleratorOverlay(pynq.Overlay):
    """An overlay with one accelerator; ``accelerator`` is its driver.

    Raises
    ------
    DeviceError
        If there is none in it.
    """

    def __init__(self, bitfile: str | Path, **options: Any) -> None:
        _name_clocks()
        # else a hand-off that was edited since is not read: pynq knows bitstreams by their hash
        clear_global_state()
        super().__init__(str(Path(bitfile).resolve()), **options)
        found = [name for name, ip in self.ip_dict.items() if ip["type"] == VLNV]
        if len(found) != 1:
            there = ", ".join(sorted(ip["type"] for ip in self.ip_dict.values())) or "nothing"
            raise DeviceError(
                f"overlay {Path(bitfile).name} has {len(found)} accelerators {VLNV}, "
                f"must have one; there is {there}"
            )
        self.accelerator: Accelerator = getattr(self, found[0])


def _name_clocks() -> None:
    """pynq 4.0.0 with pynqmetadata 0.2.0 looks on a Zynq-7000 for the clocks of an UltraScale+, and
    divides by what it does not find."""
    from pynqmetadata.models.zynq_proc_sys_core import ZynqProcSysCore

    if hasattr(ZynqProcSysCore, "clk_freq_param_name"):
        ZynqProcSysCore.clk_freq_param_name = lambda self, i: f"PCW_ACT_FPGA{i}_PERIPHERAL_FREQMHZ"


class PynqDevice:
    """The accelerator of an overlay, which is loaded first; ``wait`` polls, for a remote board has
    no interrupts.

    bitfile: with ``.hwh`` and ``.json`` beside it.

    Raises
    ------
    DeviceError
        If the overlay has no accelerator, or is for another configuration.
    """

    name = "pynq"

    def __init__(self, config: Config, *, bitfile: str | Path) -> None:
        self.config = config
        manifest = read_manifest(Path(bitfile))
        if manifest.config_digest != config.digest:
            raise DeviceError(
                f"overlay {Path(bitfile).name} is for {manifest.config} "
                f"({manifest.config_digest:08x}), the program is for {config.name} "
                f"({config.digest:08x})"
            )
        self.overlay = AcceleratorOverlay(bitfile)
        self._ip = self.overlay.accelerator
        self._buffers: dict[int, Any] = {}  # by their physical address

    def __enter__(self) -> PynqDevice:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release_all()

    # --- registers
    def read(self, offset: int) -> int:
        """The value of a register."""
        try:
            return int(self._ip.read(offset))
        except Exception as error:  # whatever the way to a remote board has
            raise DeviceError(f"{self.name}: read of register {offset:#05x}: {error}") from None

    def write(self, offset: int, value: int) -> None:
        """Write a register."""
        try:
            self._ip.write(offset, int(value))  # no NumPy integer gets through
        except Exception as error:
            raise DeviceError(f"{self.name}: write of register {offset:#05x}: {error}") from None

    # --- memory
    def allocate(self, nbytes: int) -> Buffer:
        """Physically contiguous memory that starts on a page, zeroed.

        Raises
        ------
        OutOfMemoryError
            If there is none, or none that the accelerator's ports reach.
        """
        # what is smaller than a page may lie anywhere
        size = -(-nbytes // PAGE) * PAGE
        try:
            held = pynq.allocate((size,), "u1")
            address = int(held.physical_address)
        except (RuntimeError, MemoryError) as error:
            raise OutOfMemoryError(f"buffer of {nbytes} bytes: {error}") from None
        if not address or address + size > ADDRESSES or address % PAGE:
            raise OutOfMemoryError(
                f"buffer of {nbytes} bytes lies at {address:#x}, must start on a page below "
                f"{ADDRESSES:#x}"
            )
        held[:] = 0
        held.flush()
        self._buffers[address] = held
        return Buffer(address, np.asarray(held)[:nbytes])

    def release(self, buffer: Buffer) -> None:
        """Give a buffer back."""
        self._buffers.pop(buffer.address).freebuffer()

    def release_all(self) -> None:
        """Give back every buffer."""
        while self._buffers:
            self._buffers.popitem()[1].freebuffer()

    # a remote board takes a part of a buffer for its beginning: only whole ones are moved
    def flush(self, buffer: Buffer) -> None:
        """Make the host's writes visible to the device."""
        try:
            self._buffers[buffer.address].flush()
        except Exception as error:
            raise DeviceError(f"{self.name}: {buffer.nbytes} bytes to memory: {error}") from None

    def invalidate(self, buffer: Buffer) -> None:
        """Make the device's writes visible to the host."""
        try:
            self._buffers[buffer.address].invalidate()
        except Exception as error:
            raise DeviceError(f"{self.name}: {buffer.nbytes} bytes from memory: {error}") from None

    # --- waiting
    def wait(self, timeout_cycles: int) -> bool:
        """Poll until a program ends; False if it does not within so many cycles of the device's
        clock, or that clock stands still."""
        start = last = self._cycles()
        moved, nap = time.monotonic(), FIRST_NAP
        while not self.read(registers.offset("IRQ")):
            now = self._cycles()
            if now != last:
                last, moved = now, time.monotonic()
            if now - start >= timeout_cycles or time.monotonic() - moved > PATIENCE:
                return False
            time.sleep(nap)
            nap = min(2 * nap, LONGEST_NAP)
        return True

    def _cycles(self) -> int:
        low = self.read(registers.offset("CYCLES_LO"))
        return low | self.read(registers.offset("CYCLES_HI")) << 32
