"""What a driver needs of a device, and nothing else: registers, buffers, waiting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from transept.golden.config import Config

__all__ = ["Buffer", "BumpAllocator", "Device", "DeviceError", "OutOfMemoryError"]

PAGE = 4096


class DeviceError(RuntimeError):
    """The device answered wrongly or not at all; the message says what was asked and what came."""


class OutOfMemoryError(DeviceError):
    """A buffer does not fit into device memory; the message has size and space left."""


@dataclass(frozen=True)
class Buffer:
    """Device memory: its physical address, and the host's view of it as uint8."""

    address: int
    array: np.ndarray

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.array.size


class Device(Protocol):
    """A machine that runs programs: simulated RTL, emulator, board."""

    name: str
    config: Config

    def read(self, offset: int) -> int:
        """The value of a register."""

    def write(self, offset: int, value: int) -> None:
        """Write a register."""

    def allocate(self, nbytes: int) -> Buffer:
        """Physically contiguous memory that starts on a page. OutOfMemoryError if there is none."""

    def release_all(self) -> None:
        """Give back every buffer."""

    def flush(self, buffer: Buffer) -> None:
        """Make the host's writes visible to the device."""

    def invalidate(self, buffer: Buffer) -> None:
        """Make the device's writes visible to the host."""

    def wait(self, timeout_cycles: int) -> bool:
        """Wait for the interrupt; False if it did not come in time."""


class BumpAllocator:
    """The memory of a device whose DRAM is an array of the host, at physical address ``base``.

    Buffers lie one after the other and are released together. Nothing is cached.
    """

    def __init__(self, memory: np.ndarray, base: int) -> None:
        self._memory, self._base, self._next = memory, base, 0

    def allocate(self, nbytes: int) -> Buffer:
        """The next ``nbytes`` bytes, zeroed."""
        left = self._memory.size - self._next
        if nbytes > left:
            raise OutOfMemoryError(f"buffer of {nbytes} bytes, device memory has {left} left")
        start = self._next
        self._next = min(-(-(start + nbytes) // PAGE) * PAGE, self._memory.size)
        array = self._memory[start : start + nbytes]
        array[:] = 0
        return Buffer(self._base + start, array)

    def release_all(self) -> None:
        """Start again from the beginning."""
        self._next = 0

    def flush(self, buffer: Buffer) -> None:
        """Nothing to do."""

    def invalidate(self, buffer: Buffer) -> None:
        """Nothing to do."""
