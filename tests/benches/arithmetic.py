"""Every function unit side by side, so that one simulation serves all of them."""

from __future__ import annotations

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import connect, flipped

from transept.golden.config import Config
from transept.golden.numerics import tables
from transept.rtl.arith.polynomial import Polynomial
from transept.rtl.arith.reciprocal import Reciprocal, RowFactor, Rsqrt
from transept.rtl.hls.blocks import chosen
from transept.rtl.softmax.exponential import Exponential

__all__ = ["POLYNOMIALS", "Arithmetic"]

POLYNOMIALS = ("EXP2", "RECIPROCAL", "RSQRT")


class Arithmetic(wiring.Component):
    """Members: each unit's own, under the unit's name. ``latency`` holds their latencies."""

    def __init__(self, cfg: Config) -> None:
        self._units = {
            f"poly_{name.lower()}": Polynomial(getattr(tables, name)) for name in POLYNOMIALS
        }
        self._units |= {
            "reciprocal": Reciprocal(),
            "rsqrt": chosen(cfg, Rsqrt)(),
            "row_factor": RowFactor(),
            "exponential": chosen(cfg, Exponential)(),
        }
        self.latency = {name: unit.LATENCY for name, unit in self._units.items()}
        super().__init__({name: wiring.Out(unit.signature) for name, unit in self._units.items()})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for name, unit in self._units.items():
            m.submodules[name] = unit
            connect(m, flipped(getattr(self, name)), unit)
        return m
