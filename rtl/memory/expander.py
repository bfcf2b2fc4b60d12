"""Four-bit weights to int8 words, on their way from DRAM to the stationary scratchpad."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.golden.isa import Memory
from transept.golden.numerics.four_bit import (
    CODE_BITS,
    GROUP,
    MINIMUM_BITS,
    MINIMUM_FRACTION,
    SCALE_BITS,
    SCALE_FRACTION,
)
from transept.rtl.arith.fixed import select
from transept.rtl.interfaces import stat_beside, stat_word
from transept.rtl.memory.blocks import CODE_WORDS, PLANES, beside_distance
from transept.rtl.memory.unpacker import word_layout

__all__ = ["Expander"]

#: Bits of a scaled code with its minimum, which is made positive; two fit a product.
SUM_BITS = 18


class Expander(wiring.Component):
    """Words that are ``coded`` become those of ``golden.layouts.unpack_four_bit``, two at a time;
    all others go through as they are, without a register.

    A word of scales or minima takes a cycle in which none leaves; a word of codes leaves two cycles
    later as two words, the second one at ``beside``. A product of a scale and two codes takes one
    DSP slice. Golden model: ``golden.numerics.four_bit``.

    Members
    -------
    i : In(stream of word_layout)
    o : Out(stream of word_layout); ``ready`` for the word of ``i``
    takes : In(1), ready for a word of its own
    beside : Out(stat_beside), with ``o``
    passes : Out(1), ``o`` is ``i``, if that is not coded
    """

    i: stream.Interface
    o: stream.Interface
    takes: Signal
    beside: wiring.PureInterface
    passes: Signal

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        layout, addr = word_layout(cfg), word_layout(cfg)["addr"].shape
        #: Outputs whose inputs one word of codes holds.
        self._outputs = max(1, cfg.tile * 2 // GROUP)
        parameters = data.StructLayout({"scale": SCALE_BITS, "minimum": MINIMUM_BITS})
        place = {"addr": addr, "beside": addr, "last": 1, "final": 1}
        self._coded = data.StructLayout(
            {
                "addr": addr,
                "last": 1,
                "final": 1,
                "codes": data.ArrayLayout(2 * CODE_BITS, cfg.tile),
                "parameters": data.ArrayLayout(parameters, self._outputs),
            }
        )
        sums = data.ArrayLayout(2 * SUM_BITS, cfg.tile)
        self._scaled = data.StructLayout({**place, "sums": sums})
        super().__init__(
            {
                "i": In(stream.Signature(layout)),
                "o": Out(stream.Signature(layout)),
                "takes": In(1),
                "beside": Out(stat_beside(cfg)),
                "passes": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        item, busy, room = self.i.payload, Signal(), Signal()
        coded: Any = Signal(self._coded, reset_less=True)
        scaled: Any = Signal(self._scaled, reset_less=True)
        coded_valid, scaled_valid = Signal(), Signal()
        moves = ~scaled_valid | self.takes
        enters = self.i.valid & item.coded & item.codes
        # a register, for it chooses every bit: whether there is anything
        m.d.sync += busy.eq(enters | coded_valid | (scaled_valid & ~self.takes))
        m.d.comb += [
            self.passes.eq(~busy),
            room.eq(~coded_valid | moves),
            self.i.ready.eq(Mux(item.coded, ~item.codes | room, self.o.ready & ~busy)),
        ]
        planes = self._planes(m)
        with m.If(room):
            m.d.sync += coded_valid.eq(enters)
            self._take(m, coded, planes)
        with m.If(moves):
            m.d.sync += scaled_valid.eq(coded_valid)
            self._scale(m, coded, scaled)

        m.d.comb += [
            self.o.valid.eq(Mux(busy, scaled_valid, self.i.valid & ~item.coded)),
            self.o.payload.eq(item),
        ]
        first, second = self._words(scaled)
        with m.If(busy):
            # what enters meanwhile may be of another instruction
            m.d.comb += [
                self.o.payload.memory.eq(Memory.STAT),
                *(self.o.payload[name].eq(0) for name in ("wide", "stats", "observe", "empty")),
                *(self.o.payload[name].eq(scaled[name]) for name in ("addr", "last", "final")),
                *(self.o.payload.word[n].eq(element) for n, element in enumerate(first)),
            ]
        m.d.comb += [
            self.beside.en.eq(scaled_valid),
            self.beside.addr.eq(scaled.beside),
            *(self.beside.data[n].eq(element) for n, element in enumerate(second)),
        ]
        return m

    def _planes(self, m: Module) -> list[Any]:
        """Scales and minima of the block, a byte for each output in each of them."""
        item = self.i.payload
        planes = [Signal(stat_word(self._cfg), name=f"plane_{n}") for n in range(PLANES)]
        for number, plane in enumerate(planes):
            with m.If(self.i.valid & item.coded & ~item.codes & (item.number == number)):
                for element, byte in zip(plane, item.word, strict=True):
                    m.d.sync += element.eq(byte)
        return planes

    def _take(self, m: Module, coded: data.View, planes: list[Any]) -> None:
        """A word of codes with what belongs to its outputs."""
        item = self.i.payload
        m.d.sync += [coded[name].eq(item[name]) for name in ("addr", "last", "final")]
        for code, byte in zip(coded.codes, item.word, strict=True):
            m.d.sync += code.eq(byte[: 2 * CODE_BITS])
        for n, target in enumerate(coded.parameters):
            m.d.sync += target.as_value().eq(self._parameters(planes, item.number, n))

    def _parameters(self, planes: list[Any], pair: Value, n: int) -> Value:
        """Scale and minimum of the n-th output of a pair, of those that it has."""
        tile, shared = self._cfg.tile, max(1, CODE_WORDS // self._cfg.tile)
        columns = [(place // shared) * self._outputs + n for place in range(CODE_WORDS)]
        scale, minimum, high = (
            select([Value.cast(plane[column]) for column in columns], pair) for plane in planes
        )
        assert max(columns) == tile - self._outputs + n
        return Cat(scale, high[:4], minimum, high[4:])

    def _scale(self, m: Module, coded: data.View, scaled: data.View) -> None:
        """``scale * code + 8 * minimum`` of two elements in one product."""
        m.d.sync += [scaled[name].eq(coded[name]) for name in ("addr", "last", "final")]
        m.d.sync += scaled.beside.eq(coded.addr + beside_distance(self._cfg))
        spread = SCALE_FRACTION - MINIMUM_FRACTION
        for half in range(2):
            its = coded.parameters[half % self._outputs]
            # positive: half a step of the result, and 128 steps that ``_words`` takes off
            lifted = Cat(its.minimum[:-1], ~its.minimum[-1]) << spread
            offset = lifted + (1 << SCALE_FRACTION - 1)
            codes = [code.word_select(half, CODE_BITS) for code in coded.codes]
            for place in range(self._cfg.tile // 2):
                low, high = codes[2 * place : 2 * place + 2]
                both = Cat(low, Value.cast(high).shift_left(SUM_BITS - CODE_BITS))
                product = its.scale * both + Cat(offset, Const(0, SUM_BITS - len(offset)), offset)
                m.d.sync += scaled.sums[half * self._cfg.tile // 2 + place].eq(product)

    def _words(self, scaled: data.View) -> tuple[list[Value], list[Value]]:
        """Both words, int8 elements."""
        found = []
        for total in scaled.sums:
            for part in (total[:SUM_BITS], total[SUM_BITS:]):
                steps = part[SCALE_FRACTION:]
                byte = Cat(steps[:7], ~steps[7])
                limit = Mux(steps[8:].any(), 127, Mux(steps == 0, -127, byte.as_signed()))
                found.append(limit)
        return found[: self._cfg.tile], found[self._cfg.tile :]
