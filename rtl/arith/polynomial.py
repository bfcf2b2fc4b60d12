"""Piecewise quadratics of the fixed tables on a cascade of two multiply-adds."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth import Const, Module, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.numerics.polynomial import GUARD_BITS, POSITION_BITS
from transept.rtl.arith.fixed import index_bits, select
from transept.rtl.arith.pipeline import delay

__all__ = ["VALUE_BITS", "Polynomial"]

#: Bits of a result; the tables' values are positive.
VALUE_BITS = 17


def _signed_bits(values: Sequence[int]) -> int:
    return 1 + max(max(v, -v - 1).bit_length() for v in values)


class Polynomial(wiring.Component):
    """``c0 + round((c1 + round(c2 d / 2**12)) d / 2**18)`` of segment ``index`` at position d.

    Latency LATENCY, one result a cycle, never refused. Golden function:
    ``golden.numerics.polynomial.evaluate``. Two DSP slices; the coefficients lie in LUTs.

    Members
    -------
    i : In(always-ready stream of {index, position: 12 bits})
    o : Out(always-ready stream of 17 bits)
    """

    LATENCY = 5

    i: stream.Interface
    o: stream.Interface

    def __init__(self, rows: Sequence[tuple[int, int, int]]) -> None:
        self._rows = rows
        argument = data.StructLayout({"index": index_bits(len(rows)), "position": POSITION_BITS})
        super().__init__(
            {
                "i": In(stream.Signature(argument, always_ready=True)),
                "o": Out(stream.Signature(VALUE_BITS, always_ready=True)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        slope_scale, value_scale = POSITION_BITS, POSITION_BITS + GUARD_BITS
        # the rounding constants ride with c1 and c0 into the post-adders
        columns = (
            [c0 << value_scale | 1 << (value_scale - 1) for c0, _, _ in self._rows],
            [(c1 << slope_scale) + (1 << (slope_scale - 1)) for _, c1, _ in self._rows],
            [c2 for _, _, c2 in self._rows],
        )
        index = self.i.payload.index
        coefficients = []
        for values in columns:
            shape = signed(_signed_bits(values))
            register = Signal(shape)
            m.d.sync += register.eq(select([Const(value, shape) for value in values], index))
            coefficients.append(register)
        c0, c1, c2 = coefficients
        position = Signal(signed(POSITION_BITS + 1))
        m.d.sync += position.eq(self.i.payload.position)

        curvature = Signal(signed(len(c2) + len(position)))
        slope = Signal(signed(len(c1) + 1))
        m.d.sync += [
            curvature.eq(c2 * position),
            slope.eq(curvature + delay(m, c1, 1, reset_less=True)),
        ]
        tangent = slope[slope_scale:].as_signed()
        product = Signal(signed(len(tangent) + len(position)))
        value = Signal(signed(len(c0) + 1))
        m.d.sync += [
            product.eq(tangent * delay(m, position, 2, reset_less=True)),
            value.eq(product + delay(m, c0, 3, reset_less=True)),
        ]
        m.d.comb += [
            self.o.payload.eq(value[value_scale:]),
            self.o.valid.eq(delay(m, self.i.valid, self.LATENCY)),
        ]
        return m
