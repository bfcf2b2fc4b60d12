"""One segment of the activation table: Horner's rule with rounding shifts."""

from __future__ import annotations

from amaranth import Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.layouts import HEADER_RECORD, SEGMENT_RECORD
from transept.rtl.arith.fixed import clips, saturate
from transept.rtl.arith.pipeline import delay
from transept.rtl.arith.shifter import RoundShift
from transept.rtl.interfaces import record_layout

__all__ = ["OFFSET_BITS", "SEGMENT", "Interpolation"]

#: One segment, as it lies in memory.
SEGMENT = record_layout(SEGMENT_RECORD)
SHIFT_BITS = HEADER_RECORD["out_shift"].width
OFFSET_BITS = 17  # of a difference of two int16, and of positions in a segment


class Interpolation(wiring.Component):
    """``sat16(round((t d + (c0 << 8)) / 2**out_shift))`` at ``d = offset - base`` with
    ``t = sat25(c1 + round(c2 d / 2**slope_shift))``.

    Latency LATENCY, one result a cycle, never refused; the shifts must not change while values are
    under way. Golden model: ``activation``. Two DSP slices.

    Members
    -------
    offset : In(signed(17)), of the value from the table's start
    base : In(16), of the segment, not above the offset if that is positive
    segment : In(SEGMENT), of that base
    slope_shift : In(5), out_shift : In(5)
    o : Out(signed(16)), clipped : Out(1), some step was saturated
    """

    #: position; slope; value
    LATENCY = 1 + (1 + RoundShift.LATENCY + 1) + (2 + RoundShift.LATENCY)

    offset: Signal
    base: Signal
    segment: data.View
    slope_shift: Signal
    out_shift: Signal
    o: Signal
    clipped: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                "offset": In(signed(OFFSET_BITS)),
                "base": In(OFFSET_BITS - 1),
                "segment": In(SEGMENT),
                "slope_shift": In(SHIFT_BITS),
                "out_shift": In(SHIFT_BITS),
                "o": Out(signed(16)),
                "clipped": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        to_slope = 1 + RoundShift.LATENCY
        c2, c1, c0 = (
            delay(m, coefficient, cycles, reset_less=True)
            for coefficient, cycles in (
                (self.segment.c2, 1),
                (self.segment.c1, 1 + to_slope),
                (self.segment.c0, 1 + to_slope + 2),
            )
        )
        m.submodules.slope_shifter = slope_shift = RoundShift(33, SHIFT_BITS, 26)
        m.submodules.out_shifter = out_shift = RoundShift(43, SHIFT_BITS, 16)
        position = Signal(signed(OFFSET_BITS), reset_less=True)
        curvature = Signal(signed(33), reset_less=True)
        slope = Signal(signed(25))
        product = Signal(signed(42), reset_less=True)
        value = Signal(signed(43), reset_less=True)
        steep = Signal()
        # what saturates at 26 bits would at 25 bits after the sum with any c1
        total = c1 + slope_shift.o
        m.d.comb += [
            slope_shift.x.eq(curvature),
            slope_shift.shift.eq(self.slope_shift),
            out_shift.x.eq(value),
            out_shift.shift.eq(self.out_shift),
        ]
        m.d.sync += [
            position.eq(self.offset - self.base),
            curvature.eq(c2 * position),
            slope.eq(saturate(total, 25)),
            steep.eq(clips(total, 25)),
            product.eq(slope * delay(m, position, to_slope + 1, reset_less=True)),
            value.eq(product + (c0 << 8)),
        ]
        m.d.comb += [
            self.o.eq(out_shift.o),
            self.clipped.eq(out_shift.clipped | delay(m, steep, 2 + RoundShift.LATENCY)),
        ]
        return m
