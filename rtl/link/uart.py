"""Bytes over one wire each way: a start bit, eight data bits from the lowest on, a stop bit."""

from __future__ import annotations

from amaranth import Cat, Module, Signal
from amaranth.lib import cdc, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["UartReceiver", "UartTransmitter", "divisor"]


def divisor(clock_hz: int, baud: int) -> int:
    """Cycles of one bit.

    Raises
    ------
    ValueError
        If the nearest rate is more than 2 % off: ten bits must not drift by half of one.
    """
    cycles = round(clock_hz / baud)
    if cycles < 4 or abs(clock_hz / cycles - baud) > 0.02 * baud:
        raise ValueError(f"{baud} baud cannot be made from {clock_hz} Hz: {cycles} cycles a bit")
    return cycles


class UartReceiver(wiring.Component):
    """The bytes of a line. Nothing waits: a byte is there for one cycle.

    Bits are sampled in their middle. A byte without its stop bit is an ``error`` and not passed on.

    Members
    -------
    rx : In(1), from another clock, 1 while nothing is sent
    byte : Out(8)
    valid : Out(1), for one cycle
    error : Out(1), for one cycle
    """

    def __init__(self, cycles: int) -> None:
        self._cycles = cycles
        super().__init__({"rx": In(1), "byte": Out(8), "valid": Out(1), "error": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rx = Signal(init=1)
        m.submodules.rx = cdc.FFSynchronizer(self.rx, rx, init=1)
        timer, left = Signal(range(2 * self._cycles)), Signal(range(10))
        m.d.sync += [self.valid.eq(0), self.error.eq(0)]
        with m.If((left == 0) & ~rx):
            # the middle of the first data bit is one bit and a half from here
            m.d.sync += [left.eq(9), timer.eq(self._cycles + self._cycles // 2 - 1)]
        with m.Elif(left == 0):
            m.d.sync += timer.eq(0)
        with m.Elif(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Else():
            m.d.sync += [left.eq(left - 1), timer.eq(self._cycles - 1)]
            with m.If(left == 1):
                m.d.sync += [self.valid.eq(rx), self.error.eq(~rx)]
            with m.Else():
                m.d.sync += self.byte.eq(Cat(self.byte[1:], rx))
        return m


class UartTransmitter(wiring.Component):
    """Sends the bytes of a stream.

    Members
    -------
    i : In(stream of 8 bits)
    tx : Out(1)
    """

    def __init__(self, cycles: int) -> None:
        self._cycles = cycles
        super().__init__({"i": In(stream.Signature(8)), "tx": Out(1, init=1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        timer, left, bits = Signal(range(self._cycles)), Signal(range(11)), Signal(9, init=-1)
        m.d.comb += self.i.ready.eq(left == 0)
        with m.If(left == 0), m.If(self.i.valid):
            m.d.sync += [left.eq(10), timer.eq(self._cycles - 1)]
            m.d.sync += [self.tx.eq(0), bits.eq(Cat(self.i.payload, 1))]
        with m.Elif(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Else():
            m.d.sync += [left.eq(left - 1), timer.eq(self._cycles - 1)]
            m.d.sync += [self.tx.eq(bits[0]), bits.eq(Cat(bits[1:], 1))]
        return m
