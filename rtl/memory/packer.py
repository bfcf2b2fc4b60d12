"""Scratchpad rows as beats of DRAM data."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.golden.isa import Memory, Opcode
from transept.rtl.arith.pipeline import delay
from transept.rtl.interfaces import (
    ACT_READ_LATENCY,
    STAT_READ_LATENCY,
    act_read,
    operand,
    stat_read,
)
from transept.rtl.memory.bank import select
from transept.rtl.memory.word_reader import WordReader

__all__ = ["Packer", "source_layout"]


def source_layout() -> data.StructLayout:
    """Which words to read: operands of STORE; rows and words are not 0."""
    names = ("memory", "wide", "addr", "stride", "rows", "words")
    return data.StructLayout({name: operand(Opcode.STORE, name) for name in names})


class Packer(wiring.Component):
    """Reads words ``addr + row * stride + word`` in order, gives their elements as int8 or int16.

    int8 is the low byte, or an element of STAT. One beat a cycle, also from one instruction to the
    next; reads run ahead.

    Members
    -------
    i : In(stream of source_layout)
    act_read : Out(act_read), stat_read : Out(stat_read)
    o : Out(stream of axi_data_bits)
    """

    i: stream.Interface
    act_read: wiring.PureInterface
    stat_read: wiring.PureInterface
    o: stream.Interface

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            {
                "i": In(stream.Signature(source_layout())),
                "act_read": Out(act_read(cfg)),
                "stat_read": Out(stat_read(cfg)),
                "o": Out(stream.Signature(cfg.memories.axi_data_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        assert ACT_READ_LATENCY == STAT_READ_LATENCY
        m = Module()
        m.submodules.words = words = WordReader(
            self._cfg, data.StructLayout({"wide": 1, "stationary": 1})
        )
        self._read(m, words.port, words.asks.stationary)
        self._ask(m, words.i)
        self._pack(m, words.o)
        return m

    def _read(self, m: Module, port: wiring.PureInterface, stationary: Value) -> None:
        """Requests go to one of the memories, which answer after the same time."""
        act, stat = self.act_read, self.stat_read
        from_stat = delay(m, stationary, ACT_READ_LATENCY)
        m.d.comb += [
            act.en.eq(port.en & ~stationary),
            stat.en.eq(port.en & stationary),
            act.addr.eq(port.addr),
            stat.addr.eq(port.addr),
            port.ready.eq(Mux(stationary, stat.ready, act.ready)),
        ]
        for element, wide, narrow in zip(port.data, act.data, stat.data, strict=True):
            m.d.comb += element.eq(Cat(Mux(from_stat, narrow, wide)[:8], wide[8:]))

    def _ask(self, m: Module, request: stream.Interface) -> None:
        """Walk the words of each instruction."""
        rows, active, new = Signal(source_layout()), Signal(), self.i.payload
        word = Signal.like(rows.words)
        # flags of the word at hand, registers: its acceptance is known late in the cycle
        accepted, single, last_word, last_row = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            request.valid.eq(active),
            request.payload.addr.eq(rows.addr + word),
            request.payload.tag.wide.eq(rows.wide),
            request.payload.tag.stationary.eq(rows.memory == Memory.STAT),
            accepted.eq(active & request.ready),
            self.i.ready.eq(~active | (accepted & last_word & last_row)),
        ]
        with m.If(~active | accepted):
            m.d.sync += [word.eq(word + 1), last_word.eq(single | (word == rows.words - 2))]
            with m.If(~active | (last_word & last_row)):
                m.d.sync += [
                    active.eq(self.i.valid),
                    rows.eq(new),
                    word.eq(0),
                    single.eq(new.words == 1),
                    last_word.eq(new.words == 1),
                    last_row.eq(new.rows == 1),
                ]
            with m.Elif(last_word):
                m.d.sync += [
                    word.eq(0),
                    last_row.eq(rows.rows == 2),
                    rows.addr.eq(rows.addr + rows.stride),
                    rows.rows.eq(rows.rows - 1),
                ]

    def _pack(self, m: Module, words: stream.Interface) -> None:
        int8_beats = self._cfg.tile // self._cfg.axi_bytes
        beat, last, wide = Signal(range(2 * int8_beats)), Signal(), words.payload.tag.wide
        width = self._cfg.memories.axi_data_bits

        def current(bits: Value, count: int) -> Value:
            return select([bits.word_select(i, width) for i in range(count)], beat)

        int16 = Value.cast(words.payload.word)
        int8 = Cat(element[:8] for element in words.payload.word)
        m.d.comb += [
            last.eq(beat == Mux(wide, 2 * int8_beats - 1, int8_beats - 1)),
            self.o.valid.eq(words.valid),
            self.o.payload.eq(Mux(wide, current(int16, 2 * int8_beats), current(int8, int8_beats))),
            words.ready.eq(self.o.ready & last),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += beat.eq(Mux(last, 0, beat + 1))
