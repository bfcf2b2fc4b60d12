"""Beats of DRAM data as scratchpad words with their addresses."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.golden.isa import Opcode
from transept.rtl.interfaces import act_word, operand

__all__ = ["Unpacker", "placement_layout", "word_layout"]


def placement_layout() -> data.StructLayout:
    """Where rows go on chip: operands of LOAD. ``rows`` or ``words`` may be 0."""
    names = ("memory", "wide", "stats", "addr", "stride", "rowstat", "rows", "words")
    observed = ("observe", "phase", "summary")
    return data.StructLayout({name: operand(Opcode.LOAD, name) for name in (*names, *observed)})


def word_layout(cfg: Config) -> data.StructLayout:
    """One word for ``memory``; int8 elements are sign-extended.

    ``last`` ends its row, whose statistic is ``rowstat``; ``final`` ends its instruction;
    ``empty``: there is no word, only the end of an instruction that moves nothing. With ``observe``
    the word belongs to key summary ``summary``, which its ``first`` word begins.
    """
    names = ("memory", "wide", "stats", "addr", "rowstat", "observe", "summary")
    return data.StructLayout(
        {
            **{name: operand(Opcode.LOAD, name) for name in names},
            "empty": 1,
            "first": 1,
            "last": 1,
            "final": 1,
            "word": act_word(cfg),
        }
    )


class Unpacker(wiring.Component):
    """Assembles each row's words and numbers them ``addr + row * stride + word``.

    One beat a cycle, also from one instruction to the next; a word leaves in the cycle after its
    last beat.

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
        super().__init__(
            {
                "i": In(stream.Signature(placement_layout())),
                "beats": In(stream.Signature(cfg.memories.axi_data_bits)),
                "o": Out(stream.Signature(word_layout(cfg))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        place, active, new = Signal(placement_layout()), Signal(), self.i.payload
        beat, fill = Signal(range(2 * self._cfg.tile // self._cfg.axi_bytes)), Signal()
        word, free, last_beat, ends = Signal.like(place.words), Signal(), Signal(), Signal()
        # of the word at hand, registers: nothing that the memories accept waits for a comparison
        empty, single, last_word, last_row = Signal(), Signal(), Signal(), Signal()
        tile_ends = place.phase == self._cfg.tile - 1  # the row is the last one of its key tile
        int8_beats = self._cfg.tile // self._cfg.axi_bytes
        m.d.comb += [
            free.eq(~self.o.valid | self.o.ready),
            fill.eq(active & free & (self.beats.valid | empty)),
            self.beats.ready.eq(active & free & ~empty),
            last_beat.eq(beat == Mux(place.wide, 2 * int8_beats - 1, int8_beats - 1)),
            ends.eq(empty | (last_beat & last_word & last_row)),
            self.i.ready.eq(~active | (fill & ends)),
        ]
        self._assemble(m, fill, beat, place.wide)
        self._emit(m, free, fill & (last_beat | empty), place, word, last_word, last_row, empty)

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
        return m

    def _assemble(self, m: Module, fill: Value, beat: Signal, wide: Value) -> None:
        """Each element takes its byte or half word of the beat that holds it."""
        cfg, payload = self._cfg, self.beats.payload
        for number, element in enumerate(self.o.payload.word):
            int8_beat, byte = divmod(number, cfg.axi_bytes)
            int16_beat, half = divmod(number, cfg.axi_bytes // 2)
            with m.If(fill & (beat == Mux(wide, int16_beat, int8_beat))):
                int8 = payload.word_select(byte, 8).as_signed()
                m.d.sync += element.eq(Mux(wide, payload.word_select(half, 16).as_signed(), int8))

    def _emit(
        self,
        m: Module,
        free: Value,
        complete: Value,
        place: data.View,
        word: Signal,
        last_word: Signal,
        last_row: Signal,
        empty: Signal,
    ) -> None:
        o = self.o.payload
        with m.If(free):
            m.d.sync += self.o.valid.eq(complete)
        with m.If(complete):
            m.d.sync += [
                o.memory.eq(place.memory),
                o.wide.eq(place.wide),
                o.stats.eq(place.stats),
                o.empty.eq(empty),
                o.last.eq(last_word),
                o.final.eq((last_word & last_row) | empty),
                o.addr.eq(place.addr + word),
                o.rowstat.eq(place.rowstat),
                o.observe.eq(place.observe),
                o.summary.eq(place.summary + word),
                o.first.eq(place.phase == 0),
            ]
