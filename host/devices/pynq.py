"""A PYNQ board, through ``pynq`` as everybody uses it: on the board itself, or from another machine
by PYNQ.remote.

``pynq`` is imported with this module, and decides then which devices there are; to use a remote
board, set ``PYNQ_REMOTE_DEVICES`` to its address before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import pynq
from pynq.pl_server.global_state import clear_global_state

from transept.bitstreams.boards import VLNV
from transept.bitstreams.overlay import read_manifest
from transept.golden import registers
from transept.golden.config import Config
from transept.host.devices.base import Buffer, DeviceError, DeviceLostError, OutOfMemoryError
from transept.host.devices.worker import UnansweredError, Worker

__all__ = ["Accelerator", "AcceleratorOverlay", "Calls", "PynqDevice", "connected"]

#: Physical addresses that the accelerator's ports reach.
ADDRESSES = 1 << 32
PAGE = 4096
#: Seconds between two looks at a device that works: at first, and at most.
FIRST_NAP, LONGEST_NAP = 20e-6, 2e-3
#: Seconds in which the counter of cycles must move while a program runs.
PATIENCE = 20.0
#: Looks at a soft reset, which takes some hundred cycles if memory answers.
RESET_POLLS = 1000
#: Times that a board is looked for.
ATTEMPTS = 2
#: Seconds in which a board must answer, and bytes of memory that travel in each of them at least.
ANSWER, BYTES_PER_SECOND = 30.0, 1 << 20

Answer = TypeVar("Answer")


def connected() -> Any:
    """pynq's device; a remote one on a busy machine may not answer at once, and pynq waits 5 s.

    Raises
    ------
    RuntimeError
        If none answers.
    """
    for _ in range(ATTEMPTS - 1):
        try:
            return pynq.Device.active_device
        except RuntimeError:
            del pynq.Device._devices  # else it is taken for found that there is none
    return pynq.Device.active_device


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


def _told(error: Exception) -> str:
    """What an error says in one line; those of gRPC have a page of it."""
    details = getattr(error, "details", None)
    return str(details() if callable(details) else error)


class Calls:
    """Calls of pynq, which have no time limit of their own, one after the other in one thread.

    lost: why the board is given up; a board that has not answered once is not asked again.
    """

    def __init__(self, name: str) -> None:
        self._name, self._worker, self.lost = name, Worker("board"), ""

    def ask(self, what: str, call: Callable[[], Answer], nbytes: int = 0) -> Answer:
        """What pynq answers.

        Raises
        ------
        DeviceError
            Whatever pynq raises; DeviceLostError if it does not answer within 30 s, and a second
            for each megabyte.
        """
        seconds = ANSWER + nbytes / BYTES_PER_SECOND
        if self.lost:
            raise DeviceLostError(f"{self._name}: {what}: {self.lost}")
        try:
            return self._worker.call(call, seconds)
        except DeviceError:
            raise
        except UnansweredError:
            self.lost = f"the board has not answered for {seconds:.0f} s"
            raise DeviceLostError(f"{self._name}: {what}: {self.lost}") from None
        except Exception as error:
            raise DeviceError(f"{self._name}: {what}: {_told(error)}") from None


class PynqDevice:
    """The accelerator of an overlay, which is loaded first; ``wait`` polls, for a remote board has
    no interrupts.

    At the end of a ``with`` nothing is under way on the bus: memory may go to others, and the logic
    may become another overlay, which in the middle of a burst would hang the processing system.

    bitfile: with ``.hwh`` and ``.json`` beside it.

    Raises
    ------
    DeviceError
        If the overlay has no accelerator, or is for another configuration; DeviceLostError, by
        every method too, if the board does not answer.
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
        self._calls = Calls(self.name)
        self._ask = self._calls.ask
        self._ask("connection", connected)
        loaded = self._ask("overlay", lambda: AcceleratorOverlay(bitfile))
        self.overlay, self._ip = loaded, loaded.accelerator
        self._buffers: dict[int, Any] = {}  # by their physical address

    def __enter__(self) -> PynqDevice:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._calls.lost:
            self._end_bursts()
        self.release_all()

    def _end_bursts(self) -> None:
        """A soft reset, if the accelerator is not idle."""
        if self._idle():
            return
        self.write(registers.offset("CONTROL"), registers.encode("CONTROL", soft_reset=1))
        if not any(self._idle() for _ in range(RESET_POLLS)):
            raise DeviceLostError(f"{self.name}: soft reset does not end, the bus does not answer")

    def _idle(self) -> bool:
        status = self.read(registers.offset("STATUS"))
        return bool(registers.decode("STATUS", status)["idle"])

    # --- registers
    def read(self, offset: int) -> int:
        """The value of a register."""
        return self._ask(f"read of register {offset:#05x}", lambda: int(self._ip.read(offset)))

    def write(self, offset: int, value: int) -> None:
        """Write a register."""
        plain = int(value)  # no NumPy integer gets through
        self._ask(f"write of register {offset:#05x}", lambda: self._ip.write(offset, plain))

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
            held = self._ask("allocation", lambda: pynq.allocate((size,), "u1"))
            address = self._ask("allocation", lambda: int(held.physical_address))
        except DeviceLostError:
            raise
        except DeviceError as error:
            raise OutOfMemoryError(f"buffer of {nbytes} bytes: {error}") from None
        if not address or address + size > ADDRESSES or address % PAGE:
            raise OutOfMemoryError(
                f"buffer of {nbytes} bytes lies at {address:#x}, must start on a page below "
                f"{ADDRESSES:#x}"
            )
        self._buffers[address] = held
        buffer = Buffer(address, np.asarray(held)[:nbytes])
        held[:] = 0
        self.flush(buffer)
        return buffer

    def release(self, buffer: Buffer) -> None:
        """Give a buffer back; a board that is lost keeps it."""
        held = self._buffers.pop(buffer.address)
        if not self._calls.lost:
            self._ask("release", held.freebuffer)

    def release_all(self) -> None:
        """Give back every buffer; a board that is lost keeps them."""
        while self._buffers and not self._calls.lost:
            self._ask("release", self._buffers.popitem()[1].freebuffer)
        self._buffers.clear()

    # a remote board takes a part of a buffer for its beginning: only whole ones are moved
    def flush(self, buffer: Buffer) -> None:
        """Make the host's writes visible to the device."""
        held = self._buffers[buffer.address]
        self._ask(f"{buffer.nbytes} bytes to memory", held.flush, buffer.nbytes)

    def invalidate(self, buffer: Buffer) -> None:
        """Make the device's writes visible to the host."""
        held = self._buffers[buffer.address]
        self._ask(f"{buffer.nbytes} bytes from memory", held.invalidate, buffer.nbytes)

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
