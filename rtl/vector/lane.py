"""One lane of the vector unit: sum or product, norm and its statistics on one element a cycle."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.golden.isa import Opcode
from transept.golden.layouts import NORM_RECORD
from transept.golden.numerics.norm import SQUARE_SHIFT
from transept.rtl.arith.fixed import clips, round_saturate, saturate
from transept.rtl.arith.pipeline import delay
from transept.rtl.arith.polynomial import VALUE_BITS
from transept.rtl.arith.product import registered_product
from transept.rtl.arith.shifter import RoundShift
from transept.rtl.interfaces import operand

__all__ = ["MEAN_BITS", "ROUNDED_BITS", "SHIFT_BITS", "SQUARE_BITS", "SUM_BITS", "NormLane"]

SUM_BITS = 24  # z
ROUNDED_BITS = 18  # w
SQUARE_BITS = 2 * ROUNDED_BITS - 2  # w**2, not negative
MEAN_BITS = 25
SHIFT_BITS = operand(Opcode.NORM, "out_shift").width


class NormLane(wiring.Component):
    """Statistics for the first sweep, results for the second; the first multiplier serves both.

    ``z = sat24((y << y_shift) + (x << x_shift))``, ``w = sat18(round(z / 64))``, ``w**2``; with
    ``normalise`` ``out = sat16(round((u * gamma + (beta << 8)) / 2**out_shift))`` of
    ``u = sat18(round(sat25(z - mean) * mantissa / 2**shift))``. The rounded sum
    ``sat16(round(z / 2**shift))`` is that of mean 0, mantissa 1, no out_shift, and ``plain``, which
    stands for gamma 1 and beta 0. With ``product`` z is multiplied by ``factor``, not by the
    mantissa. With ``narrow``, which needs ``plain``, results are saturated to 8 bits: they are the
    upper bytes of results of gamma 256. Golden functions: ``golden.numerics.norm``,
    ``golden.numerics.elementwise``. One element a cycle, never stalls; two DSP slices.

    Members (in brackets the cycle of a port, counted from the one in which y and x are given)
    -------
    y, x : In(signed(16)) [0]; y_shift, x_shift : In(4) [1]
    normalise : In(1), mean : In(signed(25)), mantissa : In(17) [SUM]; shift : In(6) [SHIFT]
    product : In(1), factor : In(signed(16)) [SUM]; narrow : In(1), constant while results are made
    plain : In(1), gamma : In(signed(18)) [GAMMA]; beta : In(signed(24)) [BETA]
    out_shift : In(6) [OUT_SHIFT]
    z : Out(signed(24)) [SUM]; w : Out(signed(18)) [SUM + 1]; square : Out(34) [SUM + 2]
    out : Out(signed(16)) [LATENCY]
    clipped : Out(1), z or what became of it with ``normalise`` was clipped [LATENCY]
    """

    SUM = 3
    SHIFT = SUM + 2
    GAMMA = SHIFT + RoundShift.LATENCY - 1
    BETA = GAMMA + 1
    OUT_SHIFT = BETA + 2
    LATENCY = OUT_SHIFT + RoundShift.LATENCY

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        gamma, beta = NORM_RECORD["gamma"].width, NORM_RECORD["beta"].width
        super().__init__(
            {
                "y": In(signed(16)),
                "x": In(signed(16)),
                "y_shift": In(NORM_RECORD["y_shift"].width),
                "x_shift": In(NORM_RECORD["x_shift"].width),
                "normalise": In(1),
                "mean": In(signed(MEAN_BITS)),
                "mantissa": In(VALUE_BITS),
                "product": In(1),
                "factor": In(signed(16)),
                "narrow": In(1),
                "shift": In(SHIFT_BITS),
                "plain": In(1),
                "gamma": In(signed(gamma)),
                "beta": In(signed(beta)),
                "out_shift": In(SHIFT_BITS),
                "z": Out(signed(SUM_BITS)),
                "w": Out(signed(ROUNDED_BITS)),
                "square": Out(SQUARE_BITS),
                "out": Out(signed(16)),
                "clipped": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        product, z_clipped = self._multiply_first(m)
        u_clipped, out_clipped = self._scale(m, product)
        until = self.LATENCY
        m.d.comb += self.clipped.eq(
            delay(m, z_clipped, until - self.SUM, reset_less=True)
            | delay(m, u_clipped, until - self.BETA, reset_less=True)
            | out_clipped
        )
        return m

    def _multiply_first(self, m: Module) -> tuple[Value, Signal]:
        """The element on the common scale, then its rounded square or its scaled deviation; and
        whether the element was clipped."""
        shifted = []
        for value, shift in ((self.y, self.y_shift), (self.x, self.x_shift)):
            element = Signal.like(value, reset_less=True)
            result = Signal(signed(16 + 15), reset_less=True)
            m.d.sync += [element.eq(value), result.eq(element << shift)]
            shifted.append(result)
        total, clipped = shifted[0] + shifted[1], Signal()
        m.d.sync += [self.z.eq(saturate(total, SUM_BITS)), clipped.eq(clips(total, SUM_BITS))]

        a = Signal(signed(MEAN_BITS), reset_less=True)
        b = Signal(signed(ROUNDED_BITS), reset_less=True)
        rounded = round_saturate(self.z >> (SQUARE_SHIFT - 1), ROUNDED_BITS)
        # needs no saturation: a row's mean is at least 2 / count of the range from either end
        centred = self.z - self.mean
        scale = Mux(self.product, self.factor, self.mantissa)
        m.d.sync += [
            a.eq(Mux(self.normalise, centred, rounded)),
            b.eq(Mux(self.normalise, scale, rounded)),
        ]
        product = registered_product(m, self._cfg, a, b, MEAN_BITS + VALUE_BITS - 1)
        m.d.comb += [self.w.eq(b), self.square.eq(product)]
        return product, clipped

    def _scale(self, m: Module, product: Value) -> tuple[Signal, Signal]:
        """Normalised value times gamma plus beta; whether the one or the other was clipped."""
        m.submodules.normalised = normalised = RoundShift(len(product), SHIFT_BITS, ROUNDED_BITS)
        m.d.comb += [normalised.x.eq(product), normalised.shift.eq(self.shift)]
        gamma = Signal.like(self.gamma, reset_less=True)
        beta = Signal.like(self.beta, reset_less=True)
        plain = Signal(reset_less=True)
        scaled, total = Signal(signed(35), reset_less=True), Signal(signed(36), reset_less=True)
        m.d.sync += [
            plain.eq(self.plain),
            gamma.eq(Mux(self.plain, Cat(~self.narrow, Const(0, 7), self.narrow), self.gamma)),
            beta.eq(Mux(plain, 0, self.beta)),
            scaled.eq(normalised.o * gamma),
            total.eq(scaled + (beta << 8)),
        ]
        m.submodules.result = result = RoundShift(len(total), SHIFT_BITS, 16)
        # of a narrow result that was clipped bit 0 is set: -32767 becomes -127
        byte = Cat(result.o[8] | result.o[0], result.o[9:]).as_signed()
        m.d.comb += [
            result.x.eq(total),
            result.shift.eq(self.out_shift),
            self.out.eq(Mux(self.narrow, byte, result.o)),
        ]
        return normalised.clipped, result.clipped
