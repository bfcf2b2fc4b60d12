"""int16 rows to int8 operands of the MAC array, by the scale of the row."""

from __future__ import annotations

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.golden.numerics.requantise import HALF_BITS
from transept.rtl.arith.fixed import round_saturate

__all__ = ["RowQuantiser"]

SCALE_SHIFT = 25


class RowQuantiser(wiring.Component):
    """One row word a cycle: ``sat8(round(x * scale / 2**25))``, the seven bits behind it if
    ``low``, or the low bytes if ``raw``.

    Latency 3 cycles, never stalls; one DSP slice a lane. Golden models: ``quantise_row`` and
    ``quantise_halves`` with the scale of ``quantise_scale``.

    Members
    -------
    i : In, valid, row: int16[tile], scale: int25 (not negative), raw: 1, low: 1 (if built)
    o : Out, valid, row: int8[tile]
    """

    LATENCY = 3

    i: wiring.PureInterface
    o: wiring.PureInterface

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        i = {
            "valid": Out(1),
            "row": Out(data.ArrayLayout(signed(16), cfg.tile)),
            "scale": Out(signed(25)),
            "raw": Out(1),
            "low": Out(1),
        }
        o = {"valid": Out(1), "row": Out(data.ArrayLayout(signed(8), cfg.tile))}
        super().__init__({"i": In(wiring.Signature(i)), "o": Out(wiring.Signature(o))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        loaded, multiplied = Signal(), Signal()
        raw, raw_multiplied = Signal(reset_less=True), Signal(reset_less=True)
        low, low_multiplied = Signal(reset_less=True), Signal(reset_less=True)
        scale = Signal(signed(25), reset_less=True)
        m.d.sync += [loaded.eq(self.i.valid), multiplied.eq(loaded), self.o.valid.eq(multiplied)]
        with m.If(self.i.valid):
            m.d.sync += [scale.eq(self.i.scale), raw.eq(self.i.raw)]
            if self._cfg.blocks.halves:
                m.d.sync += low.eq(self.i.low)
        with m.If(loaded):
            m.d.sync += [raw_multiplied.eq(raw), low_multiplied.eq(low)]
        for x, y in zip(self.i.row, self.o.row, strict=True):
            element = Signal(signed(16), reset_less=True)
            product, byte = Signal(signed(41), reset_less=True), Signal.like(y, reset_less=True)
            with m.If(self.i.valid):
                m.d.sync += element.eq(x)
            with m.If(loaded):
                m.d.sync += [product.eq(element * scale), byte.eq(element)]
            with m.If(multiplied):
                rounded = round_saturate(product >> (SCALE_SHIFT - 1), 8)
                behind = product[SCALE_SHIFT - HALF_BITS : SCALE_SHIFT].as_signed()
                m.d.sync += y.eq(Mux(raw_multiplied, byte, Mux(low_multiplied, behind, rounded)))
        return m
