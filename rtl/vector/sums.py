"""The three sums of a row that LayerNorm's mean and deviation are made of."""

from __future__ import annotations

from amaranth import Module, Mux, Signal, signed
from amaranth.hdl import Shape
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.rtl.arith.pipeline import delay
from transept.rtl.vector.lane import ROUNDED_BITS, SQUARE_BITS, SUM_BITS

__all__ = ["RowSums", "sums_layout"]


def sums_layout(cfg: Config) -> data.StructLayout:
    """``sum(z)``, ``sum(w)`` and ``sum(w**2)`` of one row of up to ``max_hidden`` elements."""
    growth = (cfg.geometry.max_hidden - 1).bit_length()
    return data.StructLayout(
        {
            "z": signed(SUM_BITS + growth),
            "w": signed(ROUNDED_BITS + growth),
            "square": SQUARE_BITS + growth,
        }
    )


class RowSums(wiring.Component):
    """Adds up ``vector_lanes`` elements a cycle through trees with a register a level.

    One result for each row, ``3 + log2(lanes)`` cycles after its ``last``.

    Members (w comes a cycle, square two cycles after the z of the same element)
    -------
    valid, first, last : In(1), of z; ``first`` and ``last`` bound a row
    z : In(signed(24)[lanes]); w : In(signed(18)[lanes]); square : In(34 bits[lanes])
    o : Out(always-ready stream of sums_layout)
    """

    o: stream.Interface

    def __init__(self, cfg: Config) -> None:
        self._layout = sums_layout(cfg)
        lanes = cfg.engines.vector_lanes
        self._levels = (lanes - 1).bit_length()
        super().__init__(
            {
                "valid": In(1),
                "first": In(1),
                "last": In(1),
                "z": In(data.ArrayLayout(signed(SUM_BITS), lanes)),
                "w": In(data.ArrayLayout(signed(ROUNDED_BITS), lanes)),
                "square": In(data.ArrayLayout(SQUARE_BITS, lanes)),
                "o": Out(stream.Signature(self._layout, always_ready=True)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        levels = self._levels
        valid, first = delay(m, self.valid, levels + 2), delay(m, self.first, levels + 2)
        for name, lag in (("z", 0), ("w", 1), ("square", 2)):
            terms = list(getattr(self, name))
            while len(terms) > 1:
                pairs = zip(terms[::2], terms[1::2], strict=True)
                terms = [delay(m, a + b, 1, reset_less=True) for a, b in pairs]
            aligned = delay(m, terms[0], 2 - lag, reset_less=True)
            total = Signal(Shape.cast(self._layout[name].shape), name=f"total_{name}")
            with m.If(valid):
                m.d.sync += total.eq(Mux(first, 0, total) + aligned)
            m.d.comb += getattr(self.o.payload, name).eq(total)
        m.d.comb += self.o.valid.eq(delay(m, self.valid & self.last, levels + 3))
        return m
