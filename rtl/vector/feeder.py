"""Words cut into chunks of ``vector_lanes`` elements, the padding of the row marked."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.rtl.arith.fixed import index_bits, select
from transept.rtl.interfaces import act_word
from transept.rtl.vector.walker import visit_tag

__all__ = ["ChunkFeeder", "chunk_layout"]


def chunk_layout(cfg: Config) -> data.StructLayout:
    """``vector_lanes`` elements of Y and X; keep: the element belongs to the row; paired: X counts.

    ``first`` and ``last`` bound the row, ``word_last`` ends a word; ``row`` is the row of the
    parameter memory; addr and entry are those of the result.
    """
    elements = data.ArrayLayout(signed(16), cfg.engines.vector_lanes)
    return data.StructLayout(
        {
            "y": elements,
            "x": elements,
            "paired": 1,
            "keep": cfg.engines.vector_lanes,
            "row": index_bits(cfg.geometry.max_hidden // cfg.engines.vector_lanes),
            "normalise": 1,
            "first": 1,
            "last": 1,
            "word_last": 1,
            "addr": index_bits(cfg.act_words),
            "entry": index_bits(cfg.memories.rowstat_entries),
        }
    )


class ChunkFeeder(wiring.Component):
    """One chunk a cycle; combinational from the word offered, which is taken with its last chunk.

    Members
    -------
    i : In(stream of {y, x, paired, tag: visit_tag})
    count : In, elements a row; param : In, first group of ``tile`` channels
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
                "count": In(12),
                "param": In(8),
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
        m.d.comb += [
            out.word_last.eq(number == chunks - 1),
            self.o.valid.eq(self.i.valid),
            self.i.ready.eq(self.o.ready & out.word_last),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += number.eq(Mux(out.word_last, 0, number + 1))

        part = number[: chunks.bit_length() - 1]
        position = Cat(part, tag.word)  # of the chunk in the row
        whole, rest = self.count >> (lanes.bit_length() - 1), self.count & (lanes - 1)
        ends = position == whole
        m.d.comb += [
            *(out.y[k].eq(select(list(word.y)[k::lanes], number)) for k in range(lanes)),
            *(out.x[k].eq(select(list(word.x)[k::lanes], number)) for k in range(lanes)),
            *(out.keep[k].eq((position < whole) | (ends & (rest > k))) for k in range(lanes)),
            out.paired.eq(word.paired),
            out.row.eq(Cat(part, (tag.word + self.param)[:8])),
            out.normalise.eq(tag.normalise),
            out.first.eq((tag.word == 0) & (number == 0)),
            out.last.eq(tag.last & out.word_last),
            out.addr.eq(tag.addr),
            out.entry.eq(tag.entry),
        ]
        return m
