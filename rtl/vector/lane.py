"""One lane of the vector unit: both sweeps of LayerNorm on one element a cycle."""

from __future__ import annotations

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from transept.golden.numerics.norm import SQUARE_SHIFT
from transept.rtl.arith.fixed import round_saturate, saturate
from transept.rtl.arith.polynomial import VALUE_BITS
from transept.rtl.arith.shifter import RoundShift

__all__ = ["MEAN_BITS", "ROUNDED_BITS", "SHIFT_BITS", "SQUARE_BITS", "SUM_BITS", "NormLane"]

SUM_BITS = 24  # z
ROUNDED_BITS = 18  # w
SQUARE_BITS = 2 * ROUNDED_BITS - 2  # w**2, not negative
MEAN_BITS = 25
SHIFT_BITS = 6


class NormLane(wiring.Component):
    """Sums for the first sweep, results for the second; the first multiplier serves both.

    ``z = sat24((y << y_shift) + (x << x_shift))``, ``w = sat18(round(z / 64))``, ``w**2``; with
    ``normalise`` ``out = sat16(round((u * gamma + (beta << 8)) / 2**out_shift))`` of
    ``u = sat18(round(sat25(z - mean) * mantissa / 2**shift))``. Golden function:
    ``golden.numerics.norm.layer_norm``. One element a cycle, never stalls; two DSP slices.

    Members (in brackets the cycle of a port, counted from the one in which y and x are given)
    -------
    y, x : In(signed(16)) [0]; y_shift, x_shift : In(4) [0]
    normalise : In(1), mean : In(signed(25)), mantissa : In(17) [SUM]; shift : In(6) [SHIFT]
    gamma : In(signed(18)) [GAMMA]; beta : In(signed(24)) [BETA]
    out_shift : In(6), constant for an instruction
    z : Out(signed(24)) [SUM]; w : Out(signed(18)) [SUM + 1]; square : Out(34) [SUM + 2]
    out : Out(signed(16)) [LATENCY]
    """

    SUM = 3
    SHIFT = SUM + 2
    GAMMA = SHIFT + RoundShift.LATENCY - 1
    BETA = GAMMA + 1
    LATENCY = BETA + 2 + RoundShift.LATENCY

    def __init__(self) -> None:
        super().__init__(
            {
                "y": In(signed(16)),
                "x": In(signed(16)),
                "y_shift": In(4),
                "x_shift": In(4),
                "normalise": In(1),
                "mean": In(signed(MEAN_BITS)),
                "mantissa": In(VALUE_BITS),
                "shift": In(SHIFT_BITS),
                "gamma": In(signed(18)),
                "beta": In(signed(24)),
                "out_shift": In(SHIFT_BITS),
                "z": Out(signed(SUM_BITS)),
                "w": Out(signed(ROUNDED_BITS)),
                "square": Out(SQUARE_BITS),
                "out": Out(signed(16)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        product = self._multiply_first(m)
        self._scale(m, product)
        return m

    def _multiply_first(self, m: Module) -> Signal:
        """The element on the common scale, then its rounded square or its scaled deviation."""
        shifted = []
        for value, shift in ((self.y, self.y_shift), (self.x, self.x_shift)):
            operand, amount = Signal(signed(16)), Signal(4)
            result = Signal(signed(16 + 15))
            m.d.sync += [operand.eq(value), amount.eq(shift), result.eq(operand << amount)]
            shifted.append(result)
        m.d.sync += self.z.eq(saturate(shifted[0] + shifted[1], SUM_BITS))

        a, b = Signal(signed(MEAN_BITS)), Signal(signed(ROUNDED_BITS))
        product = Signal(signed(MEAN_BITS + VALUE_BITS - 1))
        rounded = round_saturate(self.z >> (SQUARE_SHIFT - 1), ROUNDED_BITS)
        # needs no saturation: a row's mean is at least 2 / count of the range from either end
        centred = self.z - self.mean
        m.d.sync += [
            a.eq(Mux(self.normalise, centred, rounded)),
            b.eq(Mux(self.normalise, self.mantissa, rounded)),
            product.eq(a * b),
        ]
        m.d.comb += [self.w.eq(b), self.square.eq(product)]
        return product

    def _scale(self, m: Module, product: Signal) -> None:
        """Normalised value times gamma plus beta."""
        m.submodules.normalised = normalised = RoundShift(len(product), SHIFT_BITS, ROUNDED_BITS)
        m.d.comb += [normalised.x.eq(product), normalised.shift.eq(self.shift)]
        gamma, beta = Signal(signed(18)), Signal(signed(24))
        scaled, total = Signal(signed(35)), Signal(signed(36))
        m.d.sync += [
            gamma.eq(self.gamma),
            beta.eq(self.beta),
            scaled.eq(normalised.o * gamma),
            total.eq(scaled + (beta << 8)),
        ]
        m.submodules.result = result = RoundShift(len(total), SHIFT_BITS, 16)
        m.d.comb += [result.x.eq(total), result.shift.eq(self.out_shift), self.out.eq(result.o)]
