"""The PLL of an ECP5 board, by value: no simulation has one."""

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import TINY
from transept.rtl.link import ecp5
from transept.rtl.link.ecp5 import Ecp5Top
from transept.sim.build import to_verilog

FACTS = {"memory_bytes": 4096, "cycles": 50, "oscillator_mhz": 25, "dividers": (24, 12)}
TOP = Ecp5Top(TINY, **FACTS)


class Echo(wiring.Component):
    """In place of an accelerator."""

    def __init__(self, *facts):
        super().__init__({"rx": In(1), "tx": Out(1), "irq": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += [self.tx.eq(self.rx), self.irq.eq(~self.irq)]
        return m


def test_dividers_and_phases():
    """A phase of none is a divider less one."""
    pll = TOP._pll(Signal())
    assert pll.type == "EHXPLLL"
    assert dict(pll.parameters) == {
        **dict.fromkeys(("CLKOP_ENABLE", "CLKOS_ENABLE"), "ENABLED"),
        **dict.fromkeys(("PLLRST_ENA", "INTFB_WAKE", "STDBY_ENABLE", "DPHASE_SOURCE"), "DISABLED"),
        **{"OUTDIVIDER_MUXA": "DIVA", "OUTDIVIDER_MUXB": "DIVB", "FEEDBK_PATH": "CLKOP"},
        **{"CLKI_DIV": 1, "CLKFB_DIV": 1, "CLKOP_DIV": 24, "CLKOS_DIV": 12},
        **{"CLKOP_CPHASE": 23, "CLKOS_CPHASE": 11, "CLKOP_FPHASE": 0, "CLKOS_FPHASE": 0},
    }
    assert dict(pll.attrs) == {
        **{"FREQUENCY_PIN_CLKI": "25", "ICP_CURRENT": "12", "LPF_RESISTOR": "8"},
        **{"MFG_ENABLE_FILTEROPAMP": "1", "MFG_GMCREF_SEL": "2"},
    }


def test_the_clock_is_the_plls(monkeypatch):
    """Neither it nor its reset is a pin."""
    monkeypatch.setattr(ecp5, "LinkedTop", Echo)
    text = to_verilog(Ecp5Top(TINY, **FACTS), "top")
    outer = text[text.index("module top(") :].partition("endmodule")[0]
    pins = outer[len("module top(") : outer.index(")")]
    assert set(pins.split(", ")) == {"clock", "rx", "tx", "busy", "keep_awake"}
    for line in (".CLKOS(clk)", ".LOCK(locked)", ".clk(clk)", ".rst(rst)", "assign rst = ~ locked"):
        assert line in outer
