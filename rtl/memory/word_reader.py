"""Prefetching reader of the activation scratchpad, for engines whose pipelines may pause."""

from __future__ import annotations

from amaranth import Module, Mux, Signal
from amaranth.hdl import ShapeLike
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.rtl.arith.fixed import index_bits
from transept.rtl.arith.pipeline import delay
from transept.rtl.interfaces import ACT_READ_LATENCY, act_read, act_word
from transept.rtl.memory.queue import Queue
from transept.rtl.memory.skid import Skid

__all__ = ["WORDS_AHEAD", "WordReader"]

#: Words under way or waiting; one level of distributed RAM.
WORDS_AHEAD = 32


class WordReader(wiring.Component):
    """Words of the addresses asked for, in order, each with the tag that came with its address.

    Up to WORDS_AHEAD words are read ahead of ``o``; one word a cycle.

    Members
    -------
    i : In(stream of {addr, tag})
    o : Out(stream of {word: int16[tile], tag})
    port : Out(act_read)
    asks : Out(tag), that of the word asked for at the port
    """

    i: stream.Interface
    o: stream.Interface
    port: wiring.PureInterface

    def __init__(self, cfg: Config, tag: ShapeLike) -> None:
        self._cfg, self._tag = cfg, tag
        self._request = data.StructLayout({"addr": index_bits(cfg.act_words), "tag": tag})
        answer = data.StructLayout({"word": act_word(cfg), "tag": tag})
        super().__init__(
            {
                "i": In(stream.Signature(self._request)),
                "o": Out(stream.Signature(answer)),
                "port": Out(act_read(cfg)),
                "asks": Out(tag),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.words = words = Queue(act_word(self._cfg), WORDS_AHEAD)
        m.submodules.tags = tags = Queue(self._tag, WORDS_AHEAD)
        # the memory decides late in the cycle whether it accepts
        m.submodules.requests = requests = Skid(self._request)
        ahead = Signal(range(WORDS_AHEAD + 1))
        room, accepted, taken = Signal(), Signal(), Signal()
        asked = self.port.en & self.port.ready
        m.d.comb += [
            room.eq(ahead != WORDS_AHEAD),
            requests.i.payload.eq(self.i.payload),
            requests.i.valid.eq(self.i.valid & room),
            self.i.ready.eq(requests.i.ready & room),
            accepted.eq(requests.i.valid & requests.i.ready),
            self.port.en.eq(requests.o.valid),
            self.port.addr.eq(requests.o.payload.addr),
            self.asks.eq(requests.o.payload.tag),
            requests.o.ready.eq(self.port.ready),
            tags.i.valid.eq(accepted),
            tags.i.payload.eq(self.i.payload.tag),
            words.i.valid.eq(delay(m, asked, ACT_READ_LATENCY)),
            words.i.payload.eq(self.port.data),
            self.o.valid.eq(words.o.valid),
            self.o.payload.word.eq(words.o.payload),
            self.o.payload.tag.eq(tags.o.payload),
            words.o.ready.eq(self.o.ready),
            tags.o.ready.eq(taken),
            taken.eq(self.o.valid & self.o.ready),
        ]
        with m.If(accepted != taken):
            m.d.sync += ahead.eq(Mux(accepted, ahead + 1, ahead - 1))
        return m
