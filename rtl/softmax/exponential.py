"""One lane of the softmax: the probability level of one score."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from transept.golden.numerics import tables
from transept.golden.numerics.softmax import DITHER_BITS, FRACTION_BITS, MASKED
from transept.rtl.arith.pipeline import delay
from transept.rtl.arith.polynomial import VALUE_BITS, Polynomial

__all__ = ["LEVEL_BITS", "Exponential"]

LEVEL_BITS = 8
SCORE_FRACTION_BITS = 8
SEGMENT_BITS = (len(tables.EXP2) - 1).bit_length()
POINT_BITS = SCORE_FRACTION_BITS - SEGMENT_BITS  # of the position in a segment


class Exponential(wiring.Component):
    """``floor(254 * 2**((score - maximum) / 256) + dither / 8)`` for score <= maximum, 0 if the
    score is -32768.

    Latency LATENCY, one result a cycle, never refused. Golden function:
    ``golden.numerics.softmax.levels``. Two DSP slices.

    Members
    -------
    score : In(signed(16))
    maximum : In(signed(16)), the largest score of the row
    dither : In(3), of the key of ``score``
    level : Out(8)
    """

    LATENCY = 1 + Polynomial.LATENCY + 2
    #: Shifts from here on leave less than what the largest dither makes a level.
    VANISHED = VALUE_BITS - FRACTION_BITS + DITHER_BITS

    score: Signal
    maximum: Signal
    dither: Signal
    level: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                "score": In(signed(16)),
                "maximum": In(signed(16)),
                "dither": In(DITHER_BITS),
                "level": Out(LEVEL_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.polynomial = polynomial = Polynomial(tables.EXP2)
        distance, kept = Signal(16), Signal()
        m.d.sync += [distance.eq(self.maximum - self.score), kept.eq(self.score != MASKED)]

        point = polynomial.i.payload
        octave = distance[SCORE_FRACTION_BITS:]
        vanished = octave >= self.VANISHED
        m.d.comb += [
            point.position.eq(
                Cat(Const(0, len(point.position) - POINT_BITS), distance[:POINT_BITS])
            ),
            point.index.eq(distance[POINT_BITS:SCORE_FRACTION_BITS]),
        ]
        shift = delay(m, octave[: self.VANISHED.bit_length()], Polynomial.LATENCY, reset_less=True)
        visible = delay(m, kept & ~vanished, Polynomial.LATENCY, reset_less=True)

        dither = delay(m, self.dither, self.LATENCY - 1, reset_less=True)
        fine = Signal(LEVEL_BITS + DITHER_BITS)  # the level with a fraction
        m.d.sync += [
            fine.eq(Mux(visible, polynomial.o.payload[FRACTION_BITS - DITHER_BITS :] >> shift, 0)),
            self.level.eq((fine + dither) >> DITHER_BITS),
        ]
        return m
