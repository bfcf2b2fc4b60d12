"""Rounding right shift by a variable amount, pipelined."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from transept.rtl.arith.fixed import narrow_shift, round_clips, round_saturate

__all__ = ["RoundShift"]


class RoundShift(wiring.Component):
    """``sat(round(x / 2**shift))``, saturated to ``bits``.

    Latency LATENCY, one result a cycle, never stalls: the upper half of the shift's digits, the
    lower half, then rounding and saturation. Golden functions: ``round_shift``, ``saturate``.

    Members
    -------
    x : In(signed(width))
    shift : In(shift_bits)
    o : Out(signed(bits)), clipped : Out(1), o is not the rounded value
    """

    LATENCY = 3

    x: Signal
    shift: Signal
    o: Signal
    clipped: Signal

    def __init__(self, width: int, shift_bits: int, bits: int) -> None:
        self._width, self._shift_bits, self._bits = width, shift_bits, bits
        super().__init__(
            {
                "x": In(signed(width)),
                "shift": In(shift_bits),
                "o": Out(signed(bits)),
                "clipped": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits, split = self._bits, self._shift_bits // 2
        # a bit lost above this window would still be above the result after the fine shift
        window_bits = bits + (1 << split) - 1

        half_steps = Signal(signed(max(self._width, window_bits) + 1))
        m.d.comb += half_steps.eq(Cat(Const(0, 1), self.x).as_signed())
        coarse = Signal(signed(window_bits + 1))
        coarse_lost, fine = Signal(), Signal(split)
        window, lost = narrow_shift(half_steps, self.shift[split:], 1 << split, window_bits)
        m.d.sync += [
            coarse.eq(Cat(window, half_steps[-1])),
            coarse_lost.eq(lost),
            fine.eq(self.shift),
        ]

        shifted, shifted_lost = Signal(signed(bits + 1)), Signal()
        window, lost = narrow_shift(coarse, fine, 1, bits)
        m.d.sync += [
            shifted.eq(Cat(window, coarse[-1])),
            shifted_lost.eq(lost | coarse_lost),
        ]

        m.d.sync += [
            self.o.eq(round_saturate(shifted, bits, shifted_lost)),
            self.clipped.eq(round_clips(shifted, bits, shifted_lost)),
        ]
        return m
