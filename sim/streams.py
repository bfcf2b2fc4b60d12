"""Drivers, monitors and scoreboards of valid/ready streams for cocotb.

A stream ``name`` has the ports ``name__valid``, ``name__ready`` and ``name__payload``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

__all__ = ["Driver", "Monitor", "Scoreboard", "Sink", "pack", "reset", "unpack"]


def pack(values: Iterable[int], width: int) -> int:
    """A bus of ``width``-bit elements, element 0 lowest."""
    return sum((int(v) & (1 << width) - 1) << k * width for k, v in enumerate(values))


def unpack(word: int, width: int, count: int, *, signed: bool = True) -> list[int]:
    """The elements of a bus."""
    values = [word >> k * width & (1 << width) - 1 for k in range(count)]
    if not signed:
        return values
    return [v - (1 << width) if v >> width - 1 else v for v in values]


async def reset(dut: Any, cycles: int = 2) -> None:
    """Hold the synchronous reset for some cycles; returns when a registered one has ended too."""
    dut.rst.value = 1
    for _ in range(cycles):
        await RisingEdge(dut.clk)
    dut.rst.value = 0
    for _ in range(2):
        await RisingEdge(dut.clk)


class _Port:
    def __init__(self, dut: Any, name: str) -> None:
        self.clk, self.name = dut.clk, name
        self.valid = getattr(dut, f"{name}__valid")
        self.ready = getattr(dut, f"{name}__ready")
        self.payload = getattr(dut, f"{name}__payload")


class Driver(_Port):
    """Offers items to an input stream; idles before each cycle with probability ``gap``."""

    def __init__(self, dut: Any, name: str, *, gap: float = 0.0, rng: Any = random) -> None:
        super().__init__(dut, name)
        self.gap, self.rng = gap, rng
        self.valid.value = 0

    async def send(self, items: Iterable[int]) -> None:
        """Offer the items in order; returns once the last is accepted."""
        for item in items:
            while self.rng.random() < self.gap:
                await RisingEdge(self.clk)
            self.payload.value = item
            self.valid.value = 1
            await RisingEdge(self.clk)
            while not self.ready.value:
                await RisingEdge(self.clk)
            self.valid.value = 0


class Sink(_Port):
    """Accepts items of an output stream; refuses a cycle with probability ``stall``.

    A patient sink raises ready only after it has seen valid; a producer that waits for ready
    first is stuck.
    """

    def __init__(
        self, dut: Any, name: str, *, stall: float = 0.0, patient: bool = False, rng: Any = random
    ) -> None:
        super().__init__(dut, name)
        self.stall, self.patient, self.rng = stall, patient, rng
        self.ready.value = 0

    async def take(self, count: int) -> list[int]:
        """The next ``count`` items."""
        items: list[int] = []
        for _ in range(count):
            while self.rng.random() < self.stall or (self.patient and not self.valid.value):
                await RisingEdge(self.clk)
            self.ready.value = 1
            await RisingEdge(self.clk)
            while not self.valid.value:
                await RisingEdge(self.clk)
            items.append(self.payload.value.to_unsigned())
            self.ready.value = 0
        return items


class Monitor(_Port):
    """Watches a stream from now on: collects its transfers, holds it to the stream rules.

    The rules: once valid, a stream stays valid with the same payload until it is accepted. A
    violation fails the test. ``listener`` gets each item.
    """

    def __init__(self, dut: Any, name: str, listener: Callable[[int], None] | None = None) -> None:
        super().__init__(dut, name)
        self.items: list[int] = []
        self._listener = listener
        self._rst = dut.rst
        cocotb.start_soon(self._watch())

    async def _watch(self) -> None:
        pending: int | None = None
        while True:
            await RisingEdge(self.clk)
            valid, ready = bool(self.valid.value), bool(self.ready.value)
            if self._rst.value:
                pending = None
                continue
            item = self.payload.value.to_unsigned()
            if pending is not None:
                assert valid, f"{self.name}: valid dropped before ready"
                assert item == pending, f"{self.name}: payload changed before ready"
            pending = item if valid and not ready else None
            if valid and ready:
                self._record(item)

    def _record(self, item: int) -> None:
        self.items.append(item)
        if self._listener:
            self._listener(item)


class Scoreboard:
    """Compares what comes with what is expected, in order; use it as a monitor's listener."""

    def __init__(self, expected: Sequence[int], show: Callable[[int], object] = hex) -> None:
        self.expected, self.show = list(expected), show
        self.count = 0

    def __call__(self, item: int) -> None:
        assert self.count < len(self.expected), f"item {self.count} was not expected"
        wanted = self.expected[self.count]
        assert item == wanted, (
            f"item {self.count} is {self.show(item)}, expected {self.show(wanted)}"
        )
        self.count += 1

    def finish(self) -> None:
        """Check that nothing is missing; call it some cycles after the last item."""
        assert self.count == len(self.expected), (
            f"{self.count} items came, {len(self.expected)} were expected"
        )
