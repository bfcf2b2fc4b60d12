"""Reciprocals and reciprocal square roots as (mantissa, exponent); row factors made of them."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.numerics import tables
from transept.golden.numerics.requantise import ROW_MAX_FLOOR
from transept.rtl.arith.fixed import normalise, round_shift_by
from transept.rtl.arith.pipeline import delay
from transept.rtl.arith.polynomial import VALUE_BITS, Polynomial

__all__ = ["Reciprocal", "RowFactor", "Rsqrt", "row_maximum"]

INT16_MAX = (1 << 15) - 1
SCALE_BITS = 25

_FLOAT = data.StructLayout({"mantissa": VALUE_BITS, "exponent": 5})


class Reciprocal(wiring.Component):
    """``1 / n ~ mantissa * 2**-(16 + exponent)``; n = 0 gives mantissa 0.

    Latency LATENCY, one result a cycle, never refused. Golden function:
    ``golden.numerics.polynomial.reciprocal``. Two DSP slices.

    Members
    -------
    i : In(always-ready stream of 24 bits)
    o : Out(always-ready stream of {mantissa: 17 bits, exponent: 5 bits})
    """

    LATENCY = 2 + Polynomial.LATENCY

    i: stream.Interface
    o: stream.Interface

    def __init__(self) -> None:
        super().__init__(
            {
                "i": In(stream.Signature(24, always_ready=True)),
                "o": Out(stream.Signature(_FLOAT, always_ready=True)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.polynomial = polynomial = Polynomial(tables.RECIPROCAL)

        coarse, coarse_flags = Signal(32), Signal(2)
        fine, flags = Signal(32), Signal(5)
        shifted, moved = normalise(Cat(self.i.payload, Const(0, 8)), (16, 8))
        m.d.sync += Cat(coarse, coarse_flags).eq(Cat(shifted, moved))
        shifted, moved = normalise(coarse, (4, 2, 1))
        m.d.sync += Cat(fine, flags).eq(Cat(shifted, moved, coarse_flags))

        fraction = fine[31 - 17 : 31]  # below the leading one
        m.d.comb += [
            polynomial.i.valid.eq(delay(m, self.i.valid, 2)),
            polynomial.i.payload.position.eq(fraction[:12]),
            polynomial.i.payload.index.eq(fraction[12:]),
        ]
        found = delay(m, fine[-1], Polynomial.LATENCY, reset_less=True)
        m.d.comb += [
            self.o.valid.eq(polynomial.o.valid),
            self.o.payload.mantissa.eq(Mux(found, polynomial.o.payload, 0)),
            self.o.payload.exponent.eq(delay(m, ~flags, Polynomial.LATENCY, reset_less=True)),
        ]
        return m


class Rsqrt(wiring.Component):
    """``1 / sqrt(v) ~ mantissa * 2**-(16 + exponent)`` for v from 1 to 2**62 - 1.

    Latency LATENCY, one result a cycle, never refused. Golden function:
    ``golden.numerics.polynomial.rsqrt``. Two DSP slices.

    Members
    -------
    i : In(always-ready stream of 62 bits)
    o : Out(always-ready stream of {mantissa: 17 bits, exponent: 5 bits})
    """

    LATENCY = 3 + Polynomial.LATENCY

    i: stream.Interface
    o: stream.Interface

    def __init__(self) -> None:
        super().__init__(
            {
                "i": In(stream.Signature(62, always_ready=True)),
                "o": Out(stream.Signature(_FLOAT, always_ready=True)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.polynomial = polynomial = Polynomial(tables.RSQRT)

        value: Value = Cat(self.i.payload, Const(0, 2))
        flags: Value = Cat()
        for steps in ((32, 16), (8, 4), (2, 1)):
            shifted, moved = normalise(value, steps)
            value, later = Signal(64), Signal(len(flags) + len(moved))
            m.d.sync += [value.eq(shifted), later.eq(Cat(moved, flags))]
            flags = later

        lead = ~flags
        fraction = value[63 - 16 : 63]  # below the leading one
        m.d.comb += [
            polynomial.i.valid.eq(delay(m, self.i.valid, 3)),
            polynomial.i.payload.position.eq(fraction[:12]),
            polynomial.i.payload.index.eq(Cat(fraction[12:], lead[0])),
            self.o.valid.eq(polynomial.o.valid),
            self.o.payload.mantissa.eq(polynomial.o.payload),
            self.o.payload.exponent.eq(delay(m, lead[1:], Polynomial.LATENCY, reset_less=True)),
        ]
        return m


def row_maximum(statistic: Value) -> Value:
    """A row statistic as a maximum: signed, limited to 256 to 32767."""
    negative, magnitude = statistic[-1], statistic[:-1]
    low, high = negative | (magnitude < ROW_MAX_FLOOR), ~negative & (magnitude > INT16_MAX)
    return Mux(low, ROW_MAX_FLOOR, Mux(high, INT16_MAX, magnitude))[: INT16_MAX.bit_length()]


class RowFactor(wiring.Component):
    """What the row streamer makes of one row statistic, on one reciprocal.

    A row sum becomes (mantissa, exponent) of its reciprocal; a row maximum becomes ``scale``, the
    multiplier of the quantiser. Latency LATENCY, one result a cycle, never refused. Golden
    functions: ``reciprocal`` and ``quantise_scale`` of ``golden.numerics``.

    Members
    -------
    i : In(always-ready stream of {statistic: 24 bits, quantise: 1 if it is a row maximum})
    o : Out(always-ready stream of {mantissa, exponent, scale: 25 bits (0 unless quantise)})
    """

    LATENCY = 1 + Reciprocal.LATENCY + 2

    i: stream.Interface
    o: stream.Interface

    def __init__(self) -> None:
        argument = data.StructLayout({"statistic": 24, "quantise": 1})
        result = data.StructLayout({"mantissa": VALUE_BITS, "exponent": 5, "scale": SCALE_BITS})
        super().__init__(
            {
                "i": In(stream.Signature(argument, always_ready=True)),
                "o": Out(stream.Signature(result, always_ready=True)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.reciprocal = reciprocal = Reciprocal()

        statistic = self.i.payload.statistic
        clamped = row_maximum(statistic)
        m.d.comb += [
            reciprocal.i.payload.eq(
                delay(m, Mux(self.i.payload.quantise, clamped, statistic)[:24], 1, reset_less=True)
            ),
            reciprocal.i.valid.eq(delay(m, self.i.valid, 1)),
        ]

        quantise = delay(m, self.i.payload.quantise, 1 + Reciprocal.LATENCY, reset_less=True)
        mantissa, exponent = reciprocal.o.payload.mantissa, reciprocal.o.payload.exponent
        wide = Signal(VALUE_BITS + 7)  # 127 times the mantissa
        narrow = Signal(3)  # a maximum of 256 to 32767 has exponent 8 to 14
        scale = Signal(SCALE_BITS)
        m.d.sync += [
            wide.eq(Mux(quantise, (mantissa << 7) - mantissa, 0)),
            narrow.eq(exponent[:3]),
            scale.eq(round_shift_by(wide << 1, narrow)),
        ]
        m.d.comb += [
            self.o.valid.eq(delay(m, reciprocal.o.valid, 2)),
            self.o.payload.mantissa.eq(delay(m, mantissa, 2, reset_less=True)),
            self.o.payload.exponent.eq(delay(m, exponent, 2, reset_less=True)),
            self.o.payload.scale.eq(scale),
        ]
        return m
