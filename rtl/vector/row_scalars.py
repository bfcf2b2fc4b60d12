"""Mean and reciprocal deviation of a row from its sums, by serial multiplication."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.hdl import Shape, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.golden.isa import Opcode
from transept.rtl.arith.fixed import normalise
from transept.rtl.arith.polynomial import VALUE_BITS
from transept.rtl.arith.reciprocal import Rsqrt
from transept.rtl.hls.blocks import chosen
from transept.rtl.interfaces import operand
from transept.rtl.vector.lane import MEAN_BITS, SHIFT_BITS
from transept.rtl.vector.sums import sums_layout

__all__ = ["RowScalars", "SerialProduct", "scalars_layout"]

COUNT_BITS = operand(Opcode.NORM, "count").width
INVERSE_BITS = operand(Opcode.NORM, "inverse_count").width
U_FRACTION_BITS = 11


def scalars_layout() -> data.StructLayout:
    """What the second sweep needs of a row: ``u = (z - mean) * mantissa / 2**shift``."""
    return data.StructLayout(
        {"mean": signed(MEAN_BITS), "mantissa": VALUE_BITS, "shift": SHIFT_BITS}
    )


class SerialProduct(wiring.Component):
    """``a * b``, one bit of b a step, lowest first; an adder as wide as a.

    After n steps ``high = floor(a * (b mod 2**n) / 2**n)``; after as many as b has bits ``product``
    is complete. Further steps divide ``high`` by two.

    Members
    -------
    load : In(1), begin anew with ``b``; step : In(1), a must stay constant
    a : In(a_shape); b : In(b_bits)
    high : Out(as wide as a, or one more); product : Out
    """

    def __init__(self, a_shape: Shape, b_bits: int) -> None:
        high = Shape(a_shape.width + (not a_shape.signed), a_shape.signed)
        super().__init__(
            {
                "load": In(1),
                "step": In(1),
                "a": In(a_shape),
                "b": In(b_bits),
                "high": Out(high),
                "product": Out(Shape(high.width + b_bits, high.signed)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits_left, low = Signal.like(self.b), Signal.like(self.b)
        total = self.high + Mux(bits_left[0], self.a, 0)
        with m.If(self.load):
            m.d.sync += [self.high.eq(0), bits_left.eq(self.b)]
        with m.Elif(self.step):
            m.d.sync += [
                self.high.eq(total >> 1),
                low.eq(Cat(low[1:], total[0])),
                bits_left.eq(bits_left >> 1),
            ]
        m.d.comb += self.product.eq(Cat(low, self.high))
        return m


class RowScalars(wiring.Component):
    """Mean, ``1 / sqrt(v)`` and shift of one row: the scalar part of ``golden.numerics.norm``.

    ``mean = round(sum(z) * inverse / 2**(15 + b))``, b = bit_length(count - 1);
    ``v = max(1, count * sum(w**2) - sum(w)**2 + epsilon)``; without ``centre`` mean and sum(w) are
    0; shift = 11 - b + exponent of rsqrt(v). One row at a time, about ``18 + log2(max_hidden) +
    Rsqrt.LATENCY + 4`` cycles each.

    Members
    -------
    i : In(stream of sums_layout), held until the row is done
    count, centre, inverse, epsilon : In, constant for an instruction
    o : Out(stream of scalars_layout)

    Raises
    ------
    ValueError
        If the shift could be negative or v longer than 62 bits.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, cfg: Config) -> None:
        self._cfg, self._sums = cfg, sums_layout(cfg)
        if (cfg.geometry.max_hidden - 1).bit_length() > U_FRACTION_BITS:
            raise ValueError(
                f"max_hidden={cfg.geometry.max_hidden} must be at most {1 << U_FRACTION_BITS}: "
                "the normalised value has 11 fractional bits"
            )
        super().__init__(
            {
                "i": In(stream.Signature(self._sums)),
                "count": In(COUNT_BITS),
                "centre": In(1),
                "inverse": In(INVERSE_BITS),
                "epsilon": In(operand(Opcode.NORM, "epsilon")),
                "o": Out(stream.Signature(scalars_layout())),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.rsqrt = rsqrt = chosen(self._cfg, Rsqrt)()
        step, load, steps = Signal(5), Signal(), Signal(5)
        square, moment, mean = self._products(m, load, step, steps)

        v = Signal(62)
        difference = Signal(64)
        length = Signal(range(COUNT_BITS + 1))
        leading = normalise(Cat(self.count - 1, Const(0, 16))[:16], (8, 4, 2, 1))
        m.d.sync += [
            length.eq(Mux(leading[0][-1], ~leading[1] + 1, 0)),
            steps.eq(INVERSE_BITS - 1 + length),
        ]
        m.d.comb += rsqrt.i.payload.eq(v)
        with m.If(rsqrt.o.valid):
            m.d.sync += [
                self.o.payload.mean.eq(Mux(self.centre, (mean + 1) >> 1, 0)),
                self.o.payload.mantissa.eq(rsqrt.o.payload.mantissa),
                self.o.payload.shift.eq(U_FRACTION_BITS - length + rsqrt.o.payload.exponent),
            ]

        with m.FSM():
            with m.State("Idle"):
                m.d.comb += load.eq(1)
                m.d.sync += step.eq(0)
                with m.If(self.i.valid):
                    m.next = "Multiply"
            with m.State("Multiply"):
                # the moment is complete before the square
                m.d.sync += [step.eq(step + 1), difference.eq(moment + self.epsilon)]
                with m.If(step == self._last_step()):
                    m.next = "Subtract"
            with m.State("Subtract"):
                m.d.sync += difference.eq(difference - Mux(self.centre, square, 0))
                m.next = "Square root"
            with m.State("Square root"):
                m.d.comb += rsqrt.i.valid.eq(1)
                m.next = "Wait"
            with m.State("Wait"), m.If(rsqrt.o.valid):
                m.d.comb += self.i.ready.eq(1)
                m.next = "Offer"
            with m.State("Offer"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "Idle"
        m.d.comb += v.eq(Mux(difference.any(), difference, 1))
        return m

    def _last_step(self) -> int:
        longest = len(self.i.payload.w), INVERSE_BITS - 1 + U_FRACTION_BITS
        return max(longest) - 1

    def _products(
        self, m: Module, load: Signal, step: Signal, mean_steps: Signal
    ) -> tuple[Value, Value, Value]:
        """``sum(w)**2``, ``count * sum(w**2)`` and ``floor(2 sum(z) inverse / 2**mean_steps)``."""
        sums = self.i.payload
        magnitude = abs(sums.w)
        m.submodules.square = square = SerialProduct(unsigned(len(magnitude)), len(magnitude))
        m.submodules.moment = moment = SerialProduct(unsigned(len(sums.square)), COUNT_BITS)
        m.submodules.mean = mean = SerialProduct(signed(len(sums.z) + 1), INVERSE_BITS)
        m.d.comb += [
            square.a.eq(magnitude),
            square.b.eq(magnitude),
            moment.a.eq(sums.square),
            moment.b.eq(self.count),
            mean.a.eq(sums.z << 1),
            mean.b.eq(self.inverse),
        ]
        for product, steps in ((square, len(magnitude)), (moment, COUNT_BITS), (mean, mean_steps)):
            m.d.comb += [product.load.eq(load), product.step.eq(step < steps)]
        return square.product, moment.product, mean.high
