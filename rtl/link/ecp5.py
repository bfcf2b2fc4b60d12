"""The top of an ECP5 board: its clock and reset, and an accelerator on a serial line."""

from __future__ import annotations

from amaranth import ClockDomain, ClockSignal, Instance, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.rtl.link.top import LinkedTop

__all__ = ["Ecp5Top"]


class Ecp5Top(wiring.Component):
    """``LinkedTop`` behind a PLL. In reset until the PLL has locked.

    Members
    -------
    clock : In(1), of the board's oscillator
    rx : In(1), tx : Out(1), the serial line as the FPGA sees it
    busy : Out(1), an interrupt waits
    keep_awake : Out(1), always 1
    """

    def __init__(
        self,
        cfg: Config,
        *,
        memory_bytes: int,
        cycles: int,
        oscillator_mhz: int,
        dividers: tuple[int, int],
    ) -> None:
        """cycles: of a bit of the line; dividers: of the PLL (feedback, output)
        where the oscillator in it runs at the board's oscillator * feedback."""
        self._linked = LinkedTop(cfg, memory_bytes, cycles)
        self._oscillator_mhz, self._dividers = oscillator_mhz, dividers
        super().__init__(
            {
                "clock": In(1),
                "rx": In(1),
                "tx": Out(1, init=1),
                "busy": Out(1),
                "keep_awake": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.domains.sync = ClockDomain()
        locked = Signal()
        m.submodules.pll = self._pll(locked)
        m.submodules.linked = linked = self._linked
        m.d.comb += [
            ResetSignal("sync").eq(~locked),
            linked.rx.eq(self.rx),
            self.tx.eq(linked.tx),
            self.busy.eq(linked.irq),
            self.keep_awake.eq(1),
        ]
        return m

    def _pll(self, locked: Signal) -> Instance:
        """CLKOP is what the phase detector compares with the input, CLKOS the clock; attributes
        and inputs that are not used as Project Trellis has them."""
        feedback, output = self._dividers
        compared = Signal()
        return Instance(
            "EHXPLLL",
            a_FREQUENCY_PIN_CLKI=str(self._oscillator_mhz),
            a_ICP_CURRENT="12",
            a_LPF_RESISTOR="8",
            a_MFG_ENABLE_FILTEROPAMP="1",
            a_MFG_GMCREF_SEL="2",
            p_PLLRST_ENA="DISABLED",
            p_INTFB_WAKE="DISABLED",
            p_STDBY_ENABLE="DISABLED",
            p_DPHASE_SOURCE="DISABLED",
            p_OUTDIVIDER_MUXA="DIVA",
            p_CLKOP_ENABLE="ENABLED",
            p_OUTDIVIDER_MUXB="DIVB",
            p_CLKOP_DIV=feedback,
            p_CLKOP_CPHASE=feedback - 1,
            p_CLKOP_FPHASE=0,
            p_CLKOS_ENABLE="ENABLED",
            p_CLKOS_DIV=output,
            p_CLKOS_CPHASE=output - 1,
            p_CLKOS_FPHASE=0,
            p_CLKI_DIV=1,
            p_CLKFB_DIV=1,
            p_FEEDBK_PATH="CLKOP",
            i_CLKI=self.clock,
            i_CLKFB=compared,
            i_RST=0,
            i_STDBY=0,
            i_PHASESEL0=0,
            i_PHASESEL1=0,
            i_PHASEDIR=0,
            i_PHASESTEP=0,
            i_PHASELOADREG=0,
            i_ENCLKOP=0,
            i_ENCLKOS=0,
            i_PLLWAKESYNC=0,
            o_CLKOP=compared,
            o_CLKOS=ClockSignal("sync"),
            o_LOCK=locked,
        )
