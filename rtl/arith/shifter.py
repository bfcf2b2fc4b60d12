"""Right shift by a signal with rounding and saturation, pipelined."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from transept.rtl.arith.fixed import narrow_shift, saturate

__all__ = ["RoundShift"]


class RoundShift(wiring.Component):
    """``saturate(round_shift(x, shift), bits)``, one result a cycle, LATENCY cycles later.

    Two bits of the shift are one level of multiplexers, the large steps first; every level keeps
    no more bits than the result can still need and notes whether what it drops was significant.
    Golden functions: ``round_shift`` and ``saturate`` of ``golden.numerics.fixed``.

    Members
    -------
    x : In(signed(width))
    shift : In(shift_bits), sampled with x
    o : Out(signed(bits))
    """

    LATENCY = 2

    x: Signal
    shift: Signal
    o: Signal

    def __init__(self, width: int, shift_bits: int, bits: int) -> None:
        self._bits = bits
        super().__init__(
            {"x": In(signed(width)), "shift": In(shift_bits), "o": Out(signed(bits))},
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        sign = self.x[-1]
        value: Value = Cat(0, self.x).as_signed()  # one bit below the point decides the rounding
        width = self._bits + 1
        lost = []
        for low in reversed(range(2, len(self.shift), 2)):
            step = 1 << low
            value, beyond = narrow_shift(value, self.shift[low : low + 2], step, width + step - 1)
            value = Cat(value, sign).as_signed()
            lost.append(beyond)

        coarse = Signal(signed(len(value)))
        digit, negative, lost_before = Signal.like(self.shift[:2]), Signal(), Signal()
        m.d.sync += [
            coarse.eq(value),
            digit.eq(self.shift),
            negative.eq(sign),
            lost_before.eq(Cat(lost).any()),
        ]
        window, beyond = narrow_shift(coarse, digit, 1, width)
        limit = (1 << (self._bits - 1)) - 1
        m.d.sync += self.o.eq(
            Mux(
                lost_before | beyond,
                Mux(negative, -limit, limit),
                saturate((window.as_signed() + 1) >> 1, self._bits),
            )
        )
        return m
