"""The accelerator as a core for real fabric: the ports that tools expect, a reset from anywhere."""

from __future__ import annotations

from amaranth import ClockDomain, ClockSignal, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from transept.golden import registers
from transept.golden.config import Config
from transept.rtl.interfaces import axi4_port, axi_lite
from transept.rtl.top import Top

__all__ = ["Fabric", "ResetSynchroniser"]

#: Flip-flops between the reset pin and the accelerator.
STAGES = 2


class ResetSynchroniser(wiring.Component):
    """A reset that begins without a clock and ends with one.

    It ends ``STAGES`` edges after ``areset``. Of the path into the flip-flops only the end is
    timed, by the second one: constraints find them by their attribute ASYNC_REG.

    Members
    -------
    clk, areset : In(1)
    reset : Out(1)
    """

    def __init__(self) -> None:
        super().__init__({"clk": In(1), "areset": In(1), "reset": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.domains.pin = ClockDomain(local=True, async_reset=True)
        stages = [
            Signal(name=f"reset_stage{number}", init=1, attrs={"ASYNC_REG": "TRUE"})
            for number in range(STAGES)
        ]
        m.d.comb += [ClockSignal("pin").eq(self.clk), ResetSignal("pin").eq(self.areset)]
        for before, stage in zip((0, *stages), stages, strict=False):
            m.d.pin += stage.eq(before)
        m.d.comb += self.reset.eq(stages[-1])
        return m


class Fabric(wiring.Component):
    """``Top`` with the ports of a processing system; it adds no logic to any of them.

    ``aresetn`` may fall at any time; no handshake is high from the next edge of ``aclk`` on until
    four after it has risen. It forgets bursts that are under way, which the other side of the bus
    does not: it may fall only if that is reset too or nothing is under way, as after
    ``CONTROL.soft_reset``.

    Members
    -------
    aclk, aresetn : In(1)
    s_axil : In(axi_lite), the registers of ``golden.registers``
    m_axi : Out(axi4_port), DRAM
    interrupt : Out(1), level, see register IRQ
    """

    s_axil: wiring.PureInterface
    m_axi: wiring.PureInterface

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            {
                "aclk": In(1),
                "aresetn": In(1),
                "s_axil": In(axi_lite(registers.ADDRESS_BITS)),
                "m_axi": Out(axi4_port(cfg)),
                "interrupt": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.domains.sync = ClockDomain()
        m.submodules.synchroniser = synchroniser = ResetSynchroniser()
        m.submodules.accelerator = top = Top(self._cfg)
        m.d.comb += [
            synchroniser.clk.eq(self.aclk),
            synchroniser.areset.eq(~self.aresetn),
            ClockSignal("sync").eq(self.aclk),
            ResetSignal("sync").eq(synchroniser.reset),
            self.interrupt.eq(top.irq),
            self.m_axi.awlock.eq(0),
            self.m_axi.arlock.eq(0),
            self.m_axi.awqos.eq(0),
            self.m_axi.arqos.eq(0),
        ]
        for bus in ("s_axil", "m_axi"):
            outer, inner = getattr(self, bus), getattr(top, bus)
            for name, member in inner.signature.members.items():
                mine, of_top = getattr(outer, name), getattr(inner, name)
                m.d.comb += mine.eq(of_top) if member.flow is Out else of_top.eq(mine)
        return m
