"""Writer of result rows: words to the activation scratchpad, one statistic a row to rowstat."""

from __future__ import annotations

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import ROWSTAT_BITS, Config
from transept.rtl.arith.fixed import index_bits
from transept.rtl.interfaces import act_write, rowstat_write
from transept.rtl.memory.queue import Queue

__all__ = ["RowWriter"]

#: Words in the pipeline before the writer or waiting; one level of distributed RAM.
WORDS_RESERVED = 32


class RowWriter(wiring.Component):
    """Takes the words of a pipeline that cannot pause and writes them when the memories accept.

    The pipeline reserves a place for each word at its entrance, while there is ``room``. With the
    ``last`` word of a row goes its ``statistic``, unless ``bare`` says that there are none. One
    word a cycle.

    Members
    -------
    reserve : In(1), a word enters the pipeline
    room : Out(1), a word may be reserved
    bare : In(1), rows have no statistic; constant while there are any
    i : In(always-ready stream of {word: signed(bits)[tile], addr, last, entry, statistic})
    written : Out(1), the last word of a row and its statistic have been accepted
    act_write : Out(act_write)
    rowstat_write : Out(rowstat_write)
    """

    reserve: Signal
    room: Signal
    bare: Signal
    i: stream.Interface
    written: Signal
    act_write: wiring.PureInterface
    rowstat_write: wiring.PureInterface

    def __init__(self, cfg: Config, bits: int) -> None:
        self._layout = data.StructLayout(
            {
                "word": data.ArrayLayout(signed(bits), cfg.tile),
                "addr": index_bits(cfg.act_words),
                "last": 1,
                "entry": index_bits(cfg.memories.rowstat_entries),
                "statistic": ROWSTAT_BITS,
            }
        )
        super().__init__(
            {
                "reserve": In(1),
                "room": Out(1),
                "bare": In(1),
                "i": In(stream.Signature(self._layout, always_ready=True)),
                "written": Out(1),
                "act_write": Out(act_write(cfg)),
                "rowstat_write": Out(rowstat_write(cfg)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.queue = queue = Queue(self._layout, WORDS_RESERVED)
        act, rowstat, head = self.act_write, self.rowstat_write, queue.o.payload
        reserved = Signal(range(WORDS_RESERVED + 1))
        word_written, statistic_written = Signal(), Signal()  # of the head
        word_done, statistic_done, done = Signal(), Signal(), Signal()
        m.d.comb += [
            self.room.eq(reserved != WORDS_RESERVED),
            queue.i.valid.eq(self.i.valid),
            queue.i.payload.eq(self.i.payload),
            act.en.eq(queue.o.valid & ~word_written),
            act.addr.eq(head.addr),
            rowstat.en.eq(queue.o.valid & head.last & ~self.bare & ~statistic_written),
            rowstat.addr.eq(head.entry),
            rowstat.data.eq(head.statistic),
            word_done.eq(word_written | act.ready),
            statistic_done.eq(statistic_written | rowstat.ready | ~head.last | self.bare),
            queue.o.ready.eq(word_done & statistic_done),
            done.eq(queue.o.valid & queue.o.ready),
            self.written.eq(done & head.last),
        ]
        m.d.comb += [out.eq(element) for out, element in zip(act.data, head.word, strict=True)]
        with m.If(queue.o.valid):
            m.d.sync += [
                word_written.eq(word_done & ~done),
                statistic_written.eq(statistic_done & head.last & ~done),
            ]
        with m.If(self.reserve != done):
            m.d.sync += reserved.eq(Mux(self.reserve, reserved + 1, reserved - 1))
        return m
