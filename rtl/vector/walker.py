"""The order in which the vector unit visits the words of the rows of an instruction."""

from __future__ import annotations

from amaranth import Module, Mux, Signal, Value
from amaranth.hdl import ValueLike
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden import isa
from transept.golden.config import Config
from transept.rtl.arith.fixed import index_bits
from transept.rtl.interfaces import instruction_layout, operand

__all__ = ["Sweeps", "is_elementwise", "visit_tag"]


def visit_tag(cfg: Config) -> data.StructLayout:
    """What goes with a visited word: the sweep (``writes``, else statistics), its index in the row,
    whether it is the row's last, and where the normalised word and the sum go."""
    return data.StructLayout(
        {
            "writes": 1,
            "word": operand(isa.Opcode.NORM, "words"),
            "last": 1,
            "addr": index_bits(cfg.act_words),
            "sum_addr": index_bits(cfg.act_words),
            "entry": index_bits(cfg.memories.rowstat_entries),
        }
    )


def is_elementwise(cfg: Config, instruction: ValueLike) -> Value:
    """Whether an instruction of the vector unit is ELEMENTWISE; most of its operands are where
    those of NORM are."""
    opcode = Value.cast(instruction)[: isa.HEADER[0].width]
    return (opcode == isa.Opcode.ELEMENTWISE) & int(cfg.blocks.elementwise)


class Sweeps(wiring.Component):
    """Two sweeps over each row: measure(0), measure(1), write(0), measure(2), write(1), ...

    A row is measured while the one before it waits to be normalised, which hides the time that mean
    and deviation take. Without ``normalise``, and by ELEMENTWISE, rows are written alone. One word
    a cycle; a cycle between sweeps.

    Members
    -------
    i : In(stream of 256 bits), NORM or ELEMENTWISE; accepted when the walk before has ended
    o : Out(stream of {y_addr, x_addr, paired, tag: visit_tag}), requests of a ``PairReader``
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        addr = index_bits(cfg.act_words)
        request = {"y_addr": addr, "x_addr": addr, "paired": 1, "tag": visit_tag(cfg)}
        super().__init__(
            {
                "i": In(stream.Signature(8 * isa.INSTRUCTION_BYTES)),
                "o": Out(stream.Signature(data.StructLayout(request))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg, out = self._cfg, self.o.payload
        layout = instruction_layout(isa.Opcode.NORM)
        fields = data.View(layout, self.i.payload)
        elementwise = is_elementwise(cfg, self.i.payload)
        its = data.View(instruction_layout(isa.Opcode.ELEMENTWISE), self.i.payload)
        operands = ("y", "x", "out", "sum")
        # of the row to write next, and of the word to visit next
        row = {name: Signal(index_bits(cfg.act_words), name=f"{name}_row") for name in operands}
        word = {name: Signal(index_bits(cfg.act_words), name=f"{name}_word") for name in operands}
        stride = {
            name: Signal(operand(isa.Opcode.NORM, f"{name}_stride"), name=f"{name}_stride")
            for name in operands
        }
        words, index = Signal.like(fields.words), Signal.like(fields.words)
        rows_left, entry = Signal.like(fields.rows), Signal.like(out.tag.entry)
        paired, measured = Signal(), Signal()  # measured: rows are, before they are written
        writes, ahead = Signal(), Signal()  # ahead: the next row has been measured, or row 0
        last = Signal()
        advance = Signal()
        m.d.comb += [last.eq(index == words - 1), advance.eq(~self.o.valid | self.o.ready)]
        with m.If(advance):
            m.d.sync += self.o.valid.eq(0)

        with m.FSM():
            with m.State("Idle"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [
                    *(row[name].eq(getattr(fields, f"{name}_addr")) for name in operands),
                    *(stride[name].eq(getattr(fields, f"{name}_stride")) for name in operands),
                    words.eq(fields.words),
                    rows_left.eq(fields.rows),
                    paired.eq(fields.residual | elementwise),
                    entry.eq(Mux(elementwise, its.rowstat, fields.rowstat)),
                    measured.eq(fields.normalise & ~elementwise),
                    writes.eq(~fields.normalise | elementwise),
                    ahead.eq(0),
                ]
                with m.If(self.i.valid):
                    m.next = "Begin sweep"
            with m.State("Begin sweep"):
                for name in operands:
                    step = Mux(ahead & ~writes, stride[name], 0)
                    m.d.sync += word[name].eq(row[name] + step)
                m.d.sync += index.eq(0)
                m.next = "Sweep"
            with m.State("Sweep"), m.If(advance):
                m.d.sync += [
                    self.o.valid.eq(1),
                    out.y_addr.eq(word["y"]),
                    out.x_addr.eq(word["x"]),
                    out.paired.eq(paired),
                    out.tag.writes.eq(writes),
                    out.tag.word.eq(index),
                    out.tag.last.eq(last),
                    out.tag.addr.eq(word["out"]),
                    out.tag.sum_addr.eq(word["sum"]),
                    out.tag.entry.eq(entry),
                    index.eq(index + 1),
                    *(word[name].eq(word[name] + 1) for name in operands),
                ]
                with m.If(last):
                    m.next = "End sweep"
            with m.State("End sweep"):
                m.next = "Begin sweep"
                with m.If(writes):
                    m.d.sync += [
                        *(row[name].eq(row[name] + stride[name]) for name in operands),
                        entry.eq(entry + 1),
                        rows_left.eq(rows_left - 1),
                        writes.eq((rows_left == 1) | ~measured),
                    ]
                    with m.If(rows_left == 0):
                        m.next = "Idle"
                with m.Else():
                    m.d.sync += [ahead.eq(1), writes.eq(ahead | (rows_left == 0))]
        return m
