"""The maximum magnitude of each row of a stream of words."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.rtl.arith.fixed import rank
from transept.rtl.interfaces import act_word, rowstat_write
from transept.rtl.memory.queue import Queue

__all__ = ["RowMagnitude", "measured_layout"]


def measured_layout(cfg: Config) -> data.StructLayout:
    """One word; ``measure``: it counts, ``last`` ends its row, ``final`` ends its instruction."""
    return data.StructLayout(
        {
            "word": act_word(cfg),
            "measure": 1,
            "last": 1,
            "final": 1,
            "entry": rowstat_write(cfg).members["addr"].shape,
        }
    )


def _mark_layout(cfg: Config) -> data.StructLayout:
    """What travels beside a word; ``write``: its row ends."""
    entry = rowstat_write(cfg).members["addr"].shape
    return data.StructLayout({"measure": 1, "write": 1, "final": 1, "entry": entry})


def _larger(a: Value, b: Value) -> Value:
    return Mux(a > b, a, b)


class RowMagnitude(wiring.Component):
    """Writes ``max(abs(x))`` over the words of each measured row to its entry. One word a cycle.

    The tree of maxima takes one register a level and never stalls; results wait in a queue, which
    takes no more words when it is half full. ``retire`` is high in the cycle after that in which a
    ``final`` word has left and everything before it is written; it comes log2(tile) + 2 cycles
    after the word unless the port is refused.

    Members
    -------
    i : In(stream of measured_layout)
    write : Out(rowstat_write)
    retire : Out(1)
    """

    i: stream.Interface
    write: wiring.PureInterface

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        levels = cfg.tile.bit_length()
        self._half = 1 << levels.bit_length()
        super().__init__(
            {
                "i": In(stream.Signature(measured_layout(cfg))),
                "write": Out(rowstat_write(cfg)),
                "retire": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        word = self.i.payload
        accepted = self.i.valid & self.i.ready
        mark = Signal(_mark_layout(self._cfg))
        m.d.comb += [
            mark.measure.eq(word.measure & accepted),
            mark.write.eq(word.measure & word.last & accepted),
            mark.final.eq(word.final & accepted),
            mark.entry.eq(word.entry),
        ]
        values = [rank(element) for element in word.word]
        while len(values) > 1:
            mark, values = self._level(m, mark, values)
        self._finish(m, mark, values[0])
        return m

    def _level(
        self, m: Module, mark: data.View, values: list[Value]
    ) -> tuple[data.View, list[Value]]:
        """Registers of the larger of each pair; they move for measured words only."""
        count = len(values) // 2
        next_mark = Signal.like(mark, name=f"mark{count}")
        larger = [Signal(16, name=f"rank{count}_{i}", reset_less=True) for i in range(count)]
        m.d.sync += next_mark.eq(mark)
        with m.If(mark.measure):
            m.d.sync += [
                one.eq(_larger(values[2 * i], values[2 * i + 1])) for i, one in enumerate(larger)
            ]
        return next_mark, larger

    def _finish(self, m: Module, mark: data.View, value: Value) -> None:
        """The maximum of the row so far; after its last word it waits for the port."""
        result = data.StructLayout({"mark": _mark_layout(self._cfg), "value": 16})
        m.submodules.results = results = Queue(result, 2 * self._half)
        waiting, row, total = Signal(range(2 * self._half + 1)), Signal(16), Signal(16)
        enters, leaves, head = Signal(), Signal(), results.o.payload
        m.d.comb += [
            total.eq(_larger(row, value)),
            enters.eq(mark.write | mark.final),
            results.i.valid.eq(enters),
            results.i.payload.mark.eq(mark),
            results.i.payload.value.eq((total + 1) >> 1),
            self.write.en.eq(results.o.valid & head.mark.write),
            self.write.addr.eq(head.mark.entry),
            self.write.data.eq(head.value),
            results.o.ready.eq(~head.mark.write | self.write.ready),
            leaves.eq(results.o.valid & results.o.ready),
        ]
        m.d.sync += [
            waiting.eq(waiting + enters - leaves),
            # a cycle late, for the other half has room for what the tree holds and one word more
            self.i.ready.eq(waiting < self._half),
            self.retire.eq(leaves & head.mark.final),
        ]
        with m.If(mark.measure):
            m.d.sync += row.eq(Mux(mark.write, 0, total))
