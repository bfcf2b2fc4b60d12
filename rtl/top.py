"""What is synthesised and simulated: the accelerator behind one reset register."""

from __future__ import annotations

from amaranth import ClockDomain, ClockSignal, DomainRenamer, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import connect, flipped

from transept.golden.config import Config
from transept.rtl.accelerator import Accelerator

__all__ = ["Top"]


class Top(wiring.Component):
    """``Accelerator`` with the same ports; its reset ends one cycle after ``rst``.

    The register drives the reset of every flip-flop, so it keeps the pin off long paths. A
    simulator gains more: logic that depends on a pin is evaluated again whenever a pin may have
    changed, and otherwise all logic would depend on ``rst``.
    """

    def __init__(self, cfg: Config) -> None:
        self._core = Accelerator(cfg)
        super().__init__(dict(self._core.signature.members))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.domains.core = ClockDomain()
        reset = Signal(init=1, reset_less=True)
        m.d.sync += reset.eq(ResetSignal("sync"))
        m.d.comb += [ClockSignal("core").eq(ClockSignal("sync")), ResetSignal("core").eq(reset)]
        m.submodules.core = DomainRenamer({"sync": "core"})(self._core)
        for name in ("s_axil", "m_axi"):
            connect(m, flipped(getattr(self, name)), getattr(self._core, name))
        m.d.comb += [self.irq.eq(self._core.irq), self.activity.eq(self._core.activity)]
        return m
