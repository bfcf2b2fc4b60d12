"""Both exponentials side by side, asked everything that they can be asked."""

from __future__ import annotations

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from transept.rtl.hls.blocks import HlsExponential
from transept.rtl.softmax.exponential import Exponential

__all__ = ["ASKED_BITS", "Twins"]

#: A score and a dither; results depend on the distance of score and maximum, and on -32768.
ASKED_BITS = 16 + 3


class Twins(wiring.Component):
    """Counts through all scores and dithers at the maximum 32767, one a cycle.

    Members
    -------
    asked : Out(ASKED_BITS), differ : Out(1), the results of LATENCY cycles before have differed at
        some time since the reset
    """

    asked: Signal
    differ: Signal

    def __init__(self) -> None:
        super().__init__({"asked": Out(ASKED_BITS), "differ": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.plain, m.submodules.hls = plain, hls = Exponential(), HlsExponential()
        started = Signal(range(Exponential.LATENCY + 1))
        for lane in (plain, hls):
            m.d.comb += [
                lane.score.eq(self.asked[:16]),
                lane.maximum.eq((1 << 15) - 1),
                lane.dither.eq(self.asked[16:]),
            ]
        m.d.sync += self.asked.eq(self.asked + 1)
        with m.If(started != Exponential.LATENCY):
            m.d.sync += started.eq(started + 1)
        with m.Elif(plain.level != hls.level):
            m.d.sync += self.differ.eq(1)
        return m
