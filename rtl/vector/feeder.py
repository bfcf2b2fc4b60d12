"""Words cut into chunks of ``vector_lanes`` elements, the padding of the row marked."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.golden.isa import Opcode
from transept.rtl.arith.fixed import index_bits, select
from transept.rtl.interfaces import act_word, operand
from transept.rtl.vector.walker import visit_tag

__all__ = ["ChunkFeeder", "chunk_layout"]


def chunk_layout(cfg: Config) -> data.StructLayout:
    """``vector_lanes`` elements of Y and X; keep: the element belongs to the row; paired: X counts.

    With ``writes`` the chunk becomes a part of a result, the rounded sum if it is ``plain``, else
    the normalised row; without, it goes into the statistics of the row. ``counts``: its elements
    are those of the row's maximum. ``first`` and ``last`` bound the row, ``word_last`` ends a word;
    ``row`` is the row of the parameter memory; addr and entry are those of the result.
    """
    elements = data.ArrayLayout(signed(16), cfg.engines.vector_lanes)
    return data.StructLayout(
        {
            "y": elements,
            "x": elements,
            "paired": 1,
            "keep": cfg.engines.vector_lanes,
            "row": index_bits(cfg.geometry.max_hidden // cfg.engines.vector_lanes),
            "writes": 1,
            "plain": 1,
            "counts": 1,
            "first": 1,
            "last": 1,
            "word_last": 1,
            "addr": index_bits(cfg.act_words),
            "entry": index_bits(cfg.memories.rowstat_entries),
        }
    )


class ChunkFeeder(wiring.Component):
    """One chunk a cycle; combinational from the word offered, which is taken with its last chunk.

    A word of which both sum and normalised elements are written gives its chunks twice, first those
    of the sum.

    Members
    -------
    i : In(stream of {y, x, paired, tag: visit_tag})
    count : In, elements a row; param : In, first group of ``tile`` channels
    sum, normalise : In(1), what is written; elementwise : In(1), a sum goes where a norm would
    o : Out(stream of chunk_layout)
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        word = {"y": act_word(cfg), "x": act_word(cfg), "paired": 1, "tag": visit_tag(cfg)}
        super().__init__(
            {
                "i": In(stream.Signature(data.StructLayout(word))),
                "count": In(operand(Opcode.NORM, "count")),
                "param": In(operand(Opcode.NORM, "param")),
                "sum": In(1),
                "normalise": In(1),
                "elementwise": In(1),
                "o": Out(stream.Signature(chunk_layout(cfg))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes, chunks = (
            self._cfg.engines.vector_lanes,
            self._cfg.tile // self._cfg.engines.vector_lanes,
        )
        word, tag, out = self.i.payload, self.i.payload.tag, self.o.payload
        number = Signal(index_bits(chunks))
        again, ends = Signal(), Signal()  # the chunks of the sum are out; the word is done with
        plain = tag.writes & self.sum & ~again
        m.d.comb += [
            out.word_last.eq(number == chunks - 1),
            ends.eq(out.word_last & ~(plain & self.normalise)),
            self.o.valid.eq(self.i.valid),
            self.i.ready.eq(self.o.ready & ends),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += number.eq(Mux(out.word_last, 0, number + 1))
            with m.If(out.word_last):
                m.d.sync += again.eq(~ends)

        part = number[: chunks.bit_length() - 1]
        position = Cat(part, tag.word)  # of the chunk in the row
        whole, rest = self.count >> (lanes.bit_length() - 1), self.count & (lanes - 1)
        partial = position == whole
        m.d.comb += [
            *(out.y[k].eq(select(list(word.y)[k::lanes], number)) for k in range(lanes)),
            *(out.x[k].eq(select(list(word.x)[k::lanes], number)) for k in range(lanes)),
            *(out.keep[k].eq((position < whole) | (partial & (rest > k))) for k in range(lanes)),
            out.paired.eq(word.paired),
            out.row.eq(Cat(part, (tag.word + self.param)[: len(self.param)])),
            out.writes.eq(tag.writes),
            out.plain.eq(plain),
            out.counts.eq(tag.writes & ~(plain & self.normalise)),
            out.first.eq((tag.word == 0) & (number == 0)),
            out.last.eq(tag.last & ends),
            out.addr.eq(Mux(plain & ~self.elementwise, tag.sum_addr, tag.addr)),
            out.entry.eq(tag.entry),
        ]
        return m
