"""Beats of DRAM data as scratchpad words with their addresses."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.golden.isa import Opcode
from transept.rtl.arith.fixed import index_bits
from transept.rtl.interfaces import act_word, operand
from transept.rtl.memory.blocks import BLOCK_BITS, CODE_WORDS, BlockWalk
from transept.rtl.memory.skid import Skid
from transept.rtl.memory.walker import same_fields

__all__ = ["Unpacker", "placement_layout", "word_layout"]


def placement_layout() -> data.StructLayout:
    """Where rows go on chip: operands of LOAD. ``rows`` or ``words`` may be 0; ``words`` are those
    in DRAM, with ``blocks`` of four-bit weights in front of each row."""
    names = ("memory", "wide", "stats", "addr", "stride", "rowstat", "rows", "words")
    observed = ("observe", "phase", "summary")
    fields = {name: operand(Opcode.LOAD, name) for name in (*names, *observed)}
    return data.StructLayout(fields | {"blocks": BLOCK_BITS})


def word_layout(cfg: Config) -> data.StructLayout:
    """One word for ``memory``; int8 elements are sign-extended.

    ``last`` ends its row, whose statistic is ``rowstat``; ``final`` ends its instruction;
    ``empty``: there is no word, only the end of an instruction that moves nothing. With ``observe``
    the word belongs to key summary ``summary``, which its ``first`` word begins. A ``coded`` one is
    part of a block of four-bit weights: the word of scales or minima of that number, or one of
    ``codes``, whose ``addr`` is that of the first word that it becomes.
    """
    names = ("memory", "wide", "stats", "addr", "rowstat", "observe", "summary")
    return data.StructLayout(
        {
            **{name: operand(Opcode.LOAD, name) for name in names},
            "coded": 1,
            "codes": 1,
            "number": index_bits(CODE_WORDS),
            "empty": 1,
            "first": 1,
            "last": 1,
            "final": 1,
            "word": act_word(cfg),
        }
    )


class Unpacker(wiring.Component):
    """Assembles each row's words and numbers them ``addr + row * stride + word``.

    One beat a cycle, also from one instruction to the next; a word leaves two cycles after its last
    beat.

    Members
    -------
    i : In(stream of placement_layout)
    beats : In(stream of axi_data_bits)
    o : Out(stream of word_layout)
    """

    i: stream.Interface
    beats: stream.Interface
    o: stream.Interface

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        # a beat, which one of its word it is, whether it completes it, and all else of the word
        facts = {name: field for name, field in word_layout(cfg) if name != "word"}
        self._placed = data.StructLayout(
            {
                **{name: field.shape for name, field in facts.items()},
                "beat": range(2 * cfg.tile // cfg.axi_bytes),
                "complete": 1,
                "data": cfg.memories.axi_data_bits,
            }
        )
        super().__init__(
            {
                "i": In(stream.Signature(placement_layout())),
                "beats": In(stream.Signature(cfg.memories.axi_data_bits)),
                "o": Out(stream.Signature(word_layout(cfg))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # the memories decide late in the cycle whether they accept: the walk does not wait for them
        m.submodules.placed = placed = Skid(self._placed)
        self._walk(m, placed.i)
        self._assemble(m, placed.o)
        return m

    def _walk(self, m: Module, placed: stream.Interface) -> None:
        """Give each beat its word, and the word its place."""
        place, active, new = Signal(placement_layout()), Signal(), self.i.payload
        beat, fill = Signal(self._placed["beat"].shape), Signal()
        word, last_beat, ends = Signal.like(place.words), Signal(), Signal()
        # of the word at hand, registers: what follows a beat waits for no comparison
        empty, single, last_word, last_row = Signal(), Signal(), Signal(), Signal()
        tile_ends = place.phase == self._cfg.tile - 1  # the row is the last one of its key tile
        int8_beats = self._cfg.tile // self._cfg.axi_bytes
        m.d.comb += [
            placed.valid.eq(active & (self.beats.valid | empty)),
            fill.eq(placed.valid & placed.ready),
            self.beats.ready.eq(active & placed.ready & ~empty),
            last_beat.eq(beat == Mux(place.wide, 2 * int8_beats - 1, int8_beats - 1)),
            ends.eq(empty | (last_beat & last_word & last_row)),
            self.i.ready.eq(~active | (fill & ends)),
            same_fields(placed.payload, place),
            placed.payload.addr.eq(place.addr + word),
            placed.payload.summary.eq(place.summary + word),
            placed.payload.empty.eq(empty),
            placed.payload.first.eq(place.phase == 0),
            placed.payload.last.eq(last_word),
            placed.payload.final.eq((last_word & last_row) | empty),
            placed.payload.beat.eq(beat),
            placed.payload.complete.eq(last_beat | empty),
            placed.payload.data.eq(self.beats.payload),
        ]
        if self._cfg.blocks.packed:
            m.submodules.blocks = blocks = BlockWalk(self._cfg)
            m.d.comb += [
                blocks.moves.eq(~active | fill),
                blocks.begins.eq(~active | ends | (last_beat & last_word)),
                blocks.advances.eq(last_beat),
                blocks.blocks.eq(Mux(~active | ends, new.blocks, place.blocks)),
                *(
                    placed.payload[name].eq(getattr(blocks, name))
                    for name in ("coded", "codes", "number")
                ),
                placed.payload.addr.eq(place.addr + blocks.offset),
            ]
        with m.If(~active | fill):
            m.d.sync += beat.eq(beat + 1)
            with m.If(~active | ends):
                m.d.sync += [
                    active.eq(self.i.valid),
                    place.eq(new),
                    beat.eq(0),
                    word.eq(0),
                    empty.eq((new.rows == 0) | (new.words == 0)),
                    single.eq(new.words == 1),
                    last_word.eq(new.words == 1),
                    last_row.eq(new.rows == 1),
                ]
            with m.Elif(last_beat):
                m.d.sync += [
                    beat.eq(0),
                    word.eq(word + 1),
                    last_word.eq(single | (word == place.words - 2)),
                ]
                with m.If(last_word):
                    m.d.sync += [
                        word.eq(0),
                        last_row.eq(place.rows == 2),
                        place.rows.eq(place.rows - 1),
                        place.addr.eq(place.addr + place.stride),
                        place.rowstat.eq(place.rowstat + 1),
                        place.phase.eq(Mux(tile_ends, 0, place.phase + 1)),
                        place.summary.eq(place.summary + Mux(tile_ends, place.stride, 0)),
                    ]

    def _assemble(self, m: Module, placed: stream.Interface) -> None:
        """Each element takes its byte or half word of the beat that holds it."""
        cfg, o, item = self._cfg, self.o, placed.payload
        m.d.comb += placed.ready.eq(~o.valid | o.ready)
        with m.If(placed.ready):
            m.d.sync += [
                o.valid.eq(placed.valid & item.complete),
                same_fields(o.payload, item),
            ]
        for number, element in enumerate(o.payload.word):
            int8_beat, byte = divmod(number, cfg.axi_bytes)
            int16_beat, half = divmod(number, cfg.axi_bytes // 2)
            mine = item.beat == Mux(item.wide, int16_beat, int8_beat)
            with m.If(placed.ready & placed.valid & mine):
                int8 = item.data.word_select(byte, 8).as_signed()
                int16 = item.data.word_select(half, 16).as_signed()
                m.d.sync += element.eq(Mux(item.wide, int16, int8))
