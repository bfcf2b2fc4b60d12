"""The maximum magnitude of each row of a stream of words."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.rtl.interfaces import act_word, rowstat_write

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


def _rank(x: Value) -> Value:
    """``2 * abs(x) - (x < 0)``: orders by magnitude without an adder."""
    return Cat(x[-1], x[:-1] ^ x[-1].replicate(len(x) - 1))


def _larger(a: Value, b: Value) -> Value:
    return Mux(a > b, a, b)


class RowMagnitude(wiring.Component):
    """Writes ``max(abs(x))`` over the words of each measured row to its entry. One word a cycle.

    The tree of maxima takes one register a level. ``retire`` is high for one cycle when a ``final``
    word has left and everything before it is written; it comes log2(tile) + 2 cycles after the
    word unless the port is refused.

    Members
    -------
    i : In(stream of measured_layout)
    write : Out(rowstat_write)
    retire : Out(1)
    """

    i: stream.Interface

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            {
                "i": In(stream.Signature(measured_layout(cfg))),
                "write": Out(rowstat_write(cfg)),
                "retire": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        advance = Signal()
        m.d.comb += [advance.eq(~self.write.en | self.write.ready), self.i.ready.eq(advance)]

        word = self.i.payload
        mark = Signal(
            data.StructLayout({"measure": 1, "last": 1, "final": 1, "entry": len(self.write.addr)})
        )
        m.d.comb += [
            mark.measure.eq(word.measure & self.i.valid),
            mark.last.eq(word.last),
            mark.final.eq(word.final & self.i.valid),
            mark.entry.eq(word.entry),
        ]
        values = [_rank(element) for element in word.word]
        while len(values) > 1:
            mark, values = self._level(m, advance, mark, values)
        self._finish(m, advance, mark, values[0])
        return m

    def _level(
        self, m: Module, advance: Signal, mark: data.View, values: list[Value]
    ) -> tuple[data.View, list[Value]]:
        """Registers of the larger of each pair; they move for measured words only."""
        next_mark = Signal.like(mark, name=f"mark{len(values) // 2}")
        halves = [
            Signal(unsigned(16), name=f"rank{len(values) // 2}_{i}", reset_less=True)
            for i in range(len(values) // 2)
        ]
        pairs = zip(values[::2], values[1::2], strict=True)
        with m.If(advance):
            m.d.sync += next_mark.eq(mark)
            with m.If(mark.measure):
                m.d.sync += [
                    half.eq(_larger(*pair)) for half, pair in zip(halves, pairs, strict=True)
                ]
        return next_mark, halves

    def _finish(self, m: Module, advance: Signal, mark: data.View, value: Value) -> None:
        """The maximum of the row so far, written after its last word."""
        row, total = Signal(16), Signal(16)
        final, written = Signal(), Signal(16)
        m.d.comb += [
            total.eq(_larger(row, value)),
            self.write.data.eq((written + 1) >> 1),
            self.retire.eq(final & advance),
        ]
        with m.If(advance):
            m.d.sync += [self.write.en.eq(mark.measure & mark.last), final.eq(mark.final)]
            with m.If(mark.measure):
                m.d.sync += [
                    row.eq(Mux(mark.last, 0, total)),
                    written.eq(total),
                    self.write.addr.eq(mark.entry),
                ]
