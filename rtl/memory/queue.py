"""A first-in first-out queue of shaped payloads."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Shape, ShapeLike, Signal, Value
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Queue"]


class Queue(wiring.Component):
    """Streams through ``depth`` entries of distributed RAM; latency 1, no combinational path.

    Whether there is an entry, and room for one, are registers: much follows from either.

    Members
    -------
    i : In(stream of shape)
    o : Out(stream of shape)
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, shape: ShapeLike, depth: int) -> None:
        self._width, self._depth = Shape.cast(shape).width, depth
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.storage = storage = memory.Memory(
            shape=self._width, depth=self._depth, init=[]
        )
        write, read = storage.write_port(), storage.read_port(domain="comb")
        push, pop, full = Signal(), Signal(), Signal()
        level = Signal(range(self._depth + 1))
        m.d.comb += [
            self.i.ready.eq(~full),
            push.eq(self.i.valid & self.i.ready),
            pop.eq(self.o.valid & self.o.ready),
            write.en.eq(push),
            write.data.eq(self.i.payload),
            self.o.payload.eq(read.data),
        ]
        self._follow(m, write.addr, push)
        self._follow(m, read.addr, pop)
        with m.If(push & ~pop):
            m.d.sync += [
                level.eq(level + 1),
                self.o.valid.eq(1),
                full.eq(level == self._depth - 1),
            ]
        with m.Elif(pop & ~push):
            m.d.sync += [level.eq(level - 1), self.o.valid.eq(level != 1), full.eq(0)]
        return m

    def _follow(self, m: Module, address: Value, moves: Value) -> None:
        """The entry after the one that was moved, in turn."""
        entry = Signal(range(self._depth))
        m.d.comb += address.eq(entry)
        with m.If(moves):
            m.d.sync += entry.eq(Mux(entry == self._depth - 1, 0, entry + 1))
