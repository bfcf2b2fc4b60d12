"""What a driver needs of a device, and nothing else: registers, buffers, waiting."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from transept.golden.config import Config

__all__ = [
    "Allocator",
    "Buffer",
    "Device",
    "DeviceError",
    "DeviceLostError",
    "OutOfMemoryError",
]

PAGE = 4096


class DeviceError(RuntimeError):
    """The device answered wrongly or not at all; the message says what was asked and what came."""


class DeviceLostError(DeviceError):
    """The device does not even come out of reset; nothing but opening it again helps."""


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

    def release(self, buffer: Buffer) -> None:
        """Give a buffer back."""

    def release_all(self) -> None:
        """Give back every buffer."""

    def flush(self, buffer: Buffer) -> None:
        """Make the host's writes visible to the device."""

    def invalidate(self, buffer: Buffer) -> None:
        """Make the device's writes visible to the host."""

    def wait(self, timeout_cycles: int) -> bool:
        """Wait for the interrupt; False if it did not come in time."""


class Allocator:
    """The memory of a device whose DRAM is an array of the host, at physical address ``base``.

    A buffer lies in the first gap that holds it. Nothing is cached.
    """

    def __init__(self, memory: np.ndarray, base: int) -> None:
        self._memory, self._base = memory, base
        self._taken: list[tuple[int, int]] = []  # first byte and end of every buffer, in order

    def allocate(self, nbytes: int) -> Buffer:
        """``nbytes`` bytes, zeroed, from a page on."""
        start = self._gap(nbytes)
        left = max(0, self._memory.size - start)
        if nbytes > left:
            raise OutOfMemoryError(f"buffer of {nbytes} bytes, device memory has {left} left")
        bisect.insort(self._taken, (start, start + nbytes))
        array = self._memory[start : start + nbytes]
        array[:] = 0
        return Buffer(self._base + start, array)

    def _gap(self, nbytes: int) -> int:
        """First byte of the first gap that holds so many, or of what is behind all buffers."""
        start = 0
        for first, end in self._taken:
            if start + nbytes <= first:
                break
            start = -(-end // PAGE) * PAGE
        return start

    def release(self, buffer: Buffer) -> None:
        """Its place is free for another."""
        start = buffer.address - self._base
        self._taken.remove((start, start + buffer.nbytes))

    def release_all(self) -> None:
        """All places are free."""
        self._taken.clear()

    def flush(self, buffer: Buffer) -> None:
        """Nothing to do."""

    def invalidate(self, buffer: Buffer) -> None:
        """Nothing to do."""
