"""What is synthesised and simulated: the accelerator behind a synchronised reset."""

from __future__ import annotations

from amaranth import ClockDomain, ClockSignal, DomainRenamer, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from transept.golden.config import Config
from transept.rtl.accelerator import Accelerator

__all__ = ["Top"]


class Top(wiring.Component):
    """``Accelerator`` with the same ports; its reset ends two cycles after ``rst``.

    ``rst`` may come from another clock: two registers bring it into this one, and the second drives
    the reset of every flip-flop, so that the pin is on no long path. (A simulator gains more: logic
    that depends on a pin is evaluated again whenever a pin may have changed.) While either is set
    no handshake signal is high, so that a pulse of one cycle is a whole reset to the buses.
    """

    def __init__(self, cfg: Config) -> None:
        self._core = Accelerator(cfg)
        super().__init__(dict(self._core.signature.members))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.domains.core = ClockDomain()
        arriving, reset = Signal(init=1, reset_less=True), Signal(init=1, reset_less=True)
        m.d.sync += [arriving.eq(ResetSignal("sync")), reset.eq(arriving)]
        m.d.comb += [ClockSignal("core").eq(ClockSignal("sync")), ResetSignal("core").eq(reset)]
        m.submodules.core = DomainRenamer({"sync": "core"})(self._core)
        awake = ~(arriving | reset)
        for bus in ("s_axil", "m_axi"):
            outer, inner = getattr(self, bus), getattr(self._core, bus)
            for name, member in outer.signature.members.items():
                mine, of_core = getattr(outer, name), getattr(inner, name)
                if member.flow is not Out:
                    m.d.comb += of_core.eq(mine)
                elif name.endswith(("valid", "ready")):
                    m.d.comb += mine.eq(of_core & awake)
                else:
                    m.d.comb += mine.eq(of_core)
        m.d.comb += [self.irq.eq(self._core.irq), self.activity.eq(self._core.activity)]
        return m
