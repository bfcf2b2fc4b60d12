"""Counters of clipped elements, one for each tally that instructions can name."""

from __future__ import annotations

from amaranth import Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.golden.isa import TALLIES
from transept.rtl.interfaces import clipped_layout

__all__ = ["Tallies"]

COUNT_BITS = 32


class Tallies(wiring.Component):
    """TALLIES counters in distributed RAM; ``clear`` sets all of them to 0.

    A counter carries the number of its run, modulo two; one of an earlier run counts as 0. While
    ``clearing``, for about TALLIES cycles, 0 is added to every counter, which brings it to the
    present run. Until then ``clear`` may not come again. After a reset, when they hold anything,
    all counters are cleared first.

    Members
    -------
    clipped : In(always-ready stream of clipped_layout).array(clients)
        Items of one client come at least ``clients`` cycles apart
    clear : In(1), clearing : Out(1)
    index : In(tally), count : Out(32), of that tally in the same cycle
    """

    def __init__(self, cfg: Config, *, clients: int) -> None:
        self._clients = clients
        clipped = stream.Signature(clipped_layout(cfg), always_ready=True)
        super().__init__(
            {
                "clipped": In(clipped).array(clients),
                "clear": In(1),
                "clearing": Out(1, init=1),
                "index": In(range(TALLIES)),
                "count": Out(COUNT_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        counter = data.StructLayout({"run": 1, "count": COUNT_BITS})
        m.submodules.counters = counters = memory.Memory(shape=counter, depth=TALLIES, init=[])
        write = counters.write_port()
        found, shown = (counters.read_port(domain="comb") for _ in range(2))
        run, tally, amount, add = Signal(), Signal.like(self.index), Signal(COUNT_BITS), Signal()
        known = Signal()  # every counter carries its run
        self._choose(m, tally, amount, add)
        with m.If(self.clear):
            m.d.sync += run.eq(~run)
        with m.If(~self.clearing):
            m.d.sync += known.eq(1)
        current = known & (found.data.run == run)

        m.d.comb += [
            found.addr.eq(tally),
            write.addr.eq(tally),
            write.en.eq(add),
            write.data.run.eq(run),
            write.data.count.eq(Mux(current, found.data.count, 0) + amount),
            shown.addr.eq(self.index),
            self.count.eq(Mux(shown.data.run == run, shown.data.count, 0)),
        ]
        return m

    def _choose(self, m: Module, tally: Signal, amount: Signal, add: Signal) -> None:
        """One item a cycle, of the first client that has one; nothing is added in between."""
        swept = Signal.like(self.index)
        m.d.comb += [tally.eq(swept), add.eq(self.clearing)]
        busy = Signal()
        for number in range(self._clients):
            item, waiting = self.clipped[number], Signal(name=f"waiting_{number}")
            held = Signal.like(item.payload, name=f"held_{number}")
            with m.If(item.valid):
                m.d.sync += [held.eq(item.payload), waiting.eq(1)]
            with m.Elif(~busy):
                m.d.sync += waiting.eq(0)
            with m.If(waiting & ~busy):
                m.d.comb += [tally.eq(held.tally), amount.eq(held.count), add.eq(1)]
            before, busy = busy, Signal(name=f"busy_{number}")
            m.d.comb += busy.eq(before | waiting)
        with m.If(self.clear):
            m.d.sync += [self.clearing.eq(1), swept.eq(0)]
        with m.Elif(self.clearing & ~busy):
            m.d.sync += [swept.eq(swept + 1), self.clearing.eq(swept != TALLIES - 1)]
