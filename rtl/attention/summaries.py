"""The sums of the keys of each key tile, made as the keys are written."""

from __future__ import annotations

from amaranth import Module, Mux, Signal
from amaranth.hdl import signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.golden.filters import summary_bits
from transept.rtl.arith.fixed import index_bits
from transept.rtl.interfaces import observation_layout

__all__ = ["KeySummaries", "summary_layout"]


def summary_layout(cfg: Config) -> data.ArrayLayout:
    """Sums of up to ``tile`` int8 words; longer ones wrap around."""
    return data.ArrayLayout(signed(summary_bits(cfg.tile)), cfg.tile)


class KeySummaries(wiring.Component):
    """``summary = word`` for the first word of a key tile, ``summary += word`` for the others.

    One word a cycle, never refused, seen by reads two cycles later. Golden form:
    ``golden.emulator.memory.OnChip.observe``.

    Members
    -------
    observe : In(always-ready stream of observation_layout)
    en, addr : In, a request; accepted if ``ready`` : Out(1), in cycles without an observation
    value : Out(summary_layout), one cycle after the request was accepted, for one cycle
    """

    observe: stream.Interface
    value: data.View

    def __init__(self, cfg: Config) -> None:
        self._cfg, self._summary = cfg, summary_layout(cfg)
        super().__init__(
            {
                "observe": In(stream.Signature(observation_layout(cfg), always_ready=True)),
                "en": In(1),
                "addr": In(index_bits(cfg.key_summaries)),
                "ready": Out(1),
                "value": Out(self._summary),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = entries = memory.Memory(
            shape=self._summary, depth=self._cfg.key_summaries, init=[]
        )
        write, read = entries.write_port(), entries.read_port()
        seen, item = Signal(), Signal.like(self.observe.payload)
        fresh, written = Signal(), Signal(self._summary)  # of the item before
        m.d.comb += [
            self.ready.eq(~self.observe.valid),
            read.en.eq(self.observe.valid | self.en),
            read.addr.eq(Mux(self.observe.valid, self.observe.payload.summary, self.addr)),
            self.value.eq(read.data),
            write.en.eq(seen),
            write.addr.eq(item.summary),
        ]
        m.d.sync += [
            seen.eq(self.observe.valid),
            fresh.eq(seen & (item.summary == self.observe.payload.summary)),
        ]
        with m.If(self.observe.valid):
            m.d.sync += item.eq(self.observe.payload)
        with m.If(seen):
            m.d.sync += written.eq(write.data)
        for total, word, old, new in zip(write.data, item.word, read.data, written, strict=True):
            m.d.comb += total.eq(Mux(item.first, 0, Mux(fresh, new, old)) + word)
        return m
