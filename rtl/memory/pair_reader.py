"""Prefetching reader of two operands, word by word, through one read port."""

from __future__ import annotations

from amaranth import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect

from transept.golden.config import Config
from transept.rtl.arith.fixed import index_bits
from transept.rtl.arith.pipeline import delay
from transept.rtl.interfaces import ACT_READ_LATENCY, act_read, act_word
from transept.rtl.memory.queue import Queue
from transept.rtl.memory.skid import Skid
from transept.rtl.memory.word_reader import WORDS_AHEAD

__all__ = ["PairReader"]


class PairReader(wiring.Component):
    """As ``WordReader``, for pairs of words; one read a cycle, so a pair takes two.

    Members
    -------
    i : In(stream of {y_addr, x_addr, paired: 0 if there is no x, tag})
    o : Out(stream of {y, x: int16[tile], paired, tag}), x is undefined unless paired
    port : Out(act_read)
    """

    i: stream.Interface
    o: stream.Interface
    port: wiring.PureInterface

    def __init__(self, cfg: Config, tag: data.StructLayout) -> None:
        self._cfg = cfg
        addr = index_bits(cfg.act_words)
        self._tag = data.StructLayout({"paired": 1, "tag": tag})
        request = data.StructLayout({"y_addr": addr, "x_addr": addr, "paired": 1, "tag": tag})
        answer = {"y": act_word(cfg), "x": act_word(cfg), "paired": 1, "tag": tag}
        super().__init__(
            {
                "i": In(stream.Signature(request)),
                "o": Out(stream.Signature(data.StructLayout(answer))),
                "port": Out(act_read(cfg)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.y_words = y_words = Queue(act_word(self._cfg), WORDS_AHEAD)
        m.submodules.x_words = x_words = Queue(act_word(self._cfg), WORDS_AHEAD)
        m.submodules.tags = tags = Queue(self._tag, WORDS_AHEAD)
        m.submodules.tag = tag = Skid(self._tag)  # it says whether the words are there
        connect(m, tags.o, tag.i)
        # the memory decides late in the cycle whether it accepts
        request_of_one = data.StructLayout({"addr": index_bits(self._cfg.act_words), "second": 1})
        m.submodules.requests = requests = Skid(request_of_one)
        ahead = Signal(range(WORDS_AHEAD + 1))
        second, room, accepted, started, taken = (Signal() for _ in range(5))
        request, answer = self.i.payload, self.o.payload
        m.d.comb += [
            room.eq(second | (ahead != WORDS_AHEAD)),
            requests.i.payload.addr.eq(Mux(second, request.x_addr, request.y_addr)),
            requests.i.payload.second.eq(second),
            requests.i.valid.eq(self.i.valid & room),
            accepted.eq(requests.i.valid & requests.i.ready),
            started.eq(accepted & ~second),
            self.i.ready.eq(requests.i.ready & room & (second | ~request.paired)),
            tags.i.valid.eq(started),
            tags.i.payload.paired.eq(request.paired),
            tags.i.payload.tag.eq(request.tag),
        ]
        with m.If(accepted):
            m.d.sync += second.eq(~second & request.paired)

        paired, asks = tag.o.payload.paired, requests.o.payload
        asked = self.port.en & self.port.ready
        m.d.comb += [
            self.port.en.eq(requests.o.valid),
            self.port.addr.eq(asks.addr),
            requests.o.ready.eq(self.port.ready),
            y_words.i.valid.eq(delay(m, asked & ~asks.second, ACT_READ_LATENCY)),
            x_words.i.valid.eq(delay(m, asked & asks.second, ACT_READ_LATENCY)),
            y_words.i.payload.eq(self.port.data),
            x_words.i.payload.eq(self.port.data),
            self.o.valid.eq(tag.o.valid & y_words.o.valid & (x_words.o.valid | ~paired)),
            answer.y.eq(y_words.o.payload),
            answer.x.eq(x_words.o.payload),
            answer.paired.eq(paired),
            answer.tag.eq(tag.o.payload.tag),
            taken.eq(self.o.valid & self.o.ready),
            y_words.o.ready.eq(taken),
            x_words.o.ready.eq(taken & paired),
            tag.o.ready.eq(taken),
        ]
        with m.If(started != taken):
            m.d.sync += ahead.eq(Mux(started, ahead + 1, ahead - 1))
        return m
