"""Registers between the two sides of a stream, so that no path runs through its handshake."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, ShapeLike, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Skid", "Slot"]


class Skid(wiring.Component):
    """Two entries: one payload a cycle, latency 1; every output is a register.

    Members
    -------
    i : In(stream of shape)
    o : Out(stream of shape)
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, shape: ShapeLike) -> None:
        self._shape = shape
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        spare, kept = Signal(self._shape, reset_less=True), Signal()  # kept: there is a spare
        m.d.comb += self.i.ready.eq(~kept)
        with m.If(~kept):
            m.d.sync += spare.eq(self.i.payload)
        with m.If(self.o.ready | ~self.o.valid):
            m.d.sync += [
                self.o.valid.eq(kept | self.i.valid),
                self.o.payload.eq(Mux(kept, spare, self.i.payload)),
                kept.eq(0),
            ]
        with m.Elif(self.i.valid):
            m.d.sync += kept.eq(1)
        return m


class Slot(wiring.Component):
    """One entry: a payload every other cycle, latency 1; every output is a register.

    Members
    -------
    i : In(stream of shape), ready while there is no payload
    o : Out(stream of shape)
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, shape: ShapeLike) -> None:
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.i.ready.eq(~self.o.valid)
        with m.If(self.i.ready):
            m.d.sync += [self.o.valid.eq(self.i.valid), self.o.payload.eq(self.i.payload)]
        with m.Elif(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        return m
