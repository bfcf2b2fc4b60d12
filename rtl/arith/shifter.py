"""Rounding right shift by a variable amount, pipelined."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from transept.rtl.arith.fixed import narrow_shift, round_clips, round_saturate

__all__ = ["RoundShift"]

#: Bits of the shift that one row of LUTs decides.
_DIGIT = 2


class RoundShift(wiring.Component):
    """``sat(round(x / 2**shift))``, saturated to ``bits``.

    Latency LATENCY, one result a cycle, never stalls: the upper digits of the shift, the lowest
    one, then rounding and saturation. Golden functions: ``round_shift``, ``saturate``.

    Its registers have no reset: whoever reads a result knows whether there is one.

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
        bits, fine_bits = self._bits, min(_DIGIT, self._shift_bits)
        value, lost, sign = self._coarse(Cat(Const(0, 1), self.x).as_signed())
        coarse = Signal(signed(len(value) + 1), reset_less=True)
        coarse_lost, fine = Signal(reset_less=True), Signal(fine_bits, reset_less=True)
        m.d.sync += [
            coarse.eq(Cat(value, sign)),
            coarse_lost.eq(lost),
            fine.eq(self.shift),
        ]

        shifted = Signal(signed(bits + 1), reset_less=True)
        shifted_lost = Signal(reset_less=True)
        window, lost = narrow_shift(coarse, fine, 1, bits)
        m.d.sync += [
            shifted.eq(Cat(window, coarse[-1])),
            shifted_lost.eq(lost | coarse_lost),
        ]

        rounded, clipped = Signal.like(self.o, reset_less=True), Signal(reset_less=True)
        m.d.sync += [
            rounded.eq(round_saturate(shifted, bits, shifted_lost)),
            clipped.eq(round_clips(shifted, bits, shifted_lost)),
        ]
        m.d.comb += [self.o.eq(rounded), self.clipped.eq(clipped)]
        return m

    def _coarse(self, half_steps: Value) -> tuple[Value, Value, Value]:
        """All digits but the last, the highest first: what is left of the value, whether a bit
        above it was lost, and the sign."""
        sign, lost = half_steps[-1], Const(0, 1)
        value = half_steps
        for place in reversed(range(_DIGIT, self._shift_bits, _DIGIT)):
            # a bit lost above this window would still be above the result after the other digits
            width = self._bits + (1 << place) - 1
            missing = max(0, width + 1 - len(value))
            value = Cat(value, sign.replicate(missing)).as_signed()
            window, above = narrow_shift(
                value, self.shift[place : place + _DIGIT], 1 << place, width
            )
            value, lost = Cat(window, sign).as_signed(), lost | above
        return value[:-1], lost, sign
