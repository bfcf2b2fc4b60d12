"""Scratchpad rows as beats of DRAM data."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from transept.golden.config import Config
from transept.rtl.interfaces import act_read
from transept.rtl.memory.bank import select
from transept.rtl.memory.word_reader import WordReader

__all__ = ["Packer", "source_layout"]


def source_layout() -> data.StructLayout:
    """Which words to read: operands of STORE; rows and words are not 0."""
    return data.StructLayout({"wide": 1, "addr": 16, "stride": 16, "rows": 16, "words": 16})


class Packer(wiring.Component):
    """Reads words ``addr + row * stride + word`` in order, gives their elements as int8 or int16.

    int8 is the low byte. One beat a cycle, also from one instruction to the next; reads run ahead.

    Members
    -------
    i : In(stream of source_layout)
    read : Out(act_read)
    o : Out(stream of axi_data_bits)
    """

    i: stream.Interface
    read: wiring.PureInterface
    o: stream.Interface

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            {
                "i": In(stream.Signature(source_layout())),
                "read": Out(act_read(cfg)),
                "o": Out(stream.Signature(cfg.memories.axi_data_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.words = words = WordReader(self._cfg, data.StructLayout({"wide": 1}))
        connect(m, words.port, flipped(self.read))
        self._ask(m, words.i)
        self._pack(m, words.o)
        return m

    def _ask(self, m: Module, request: stream.Interface) -> None:
        """Walk the words of each instruction."""
        rows, active, word = Signal(source_layout()), Signal(), Signal(16)
        accepted, last_word = Signal(), Signal()
        m.d.comb += [
            request.valid.eq(active),
            request.payload.addr.eq(rows.addr + word),
            request.payload.tag.wide.eq(rows.wide),
            accepted.eq(active & request.ready),
            last_word.eq(word == rows.words - 1),
            self.i.ready.eq(~active | (accepted & last_word & (rows.rows == 1))),
        ]
        with m.If(accepted):
            m.d.sync += word.eq(word + 1)
            with m.If(last_word):
                m.d.sync += [
                    word.eq(0),
                    rows.addr.eq(rows.addr + rows.stride),
                    rows.rows.eq(rows.rows - 1),
                ]
        with m.If(self.i.ready):
            m.d.sync += [active.eq(self.i.valid), rows.eq(self.i.payload), word.eq(0)]

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
