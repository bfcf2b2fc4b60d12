"""The PLL of an ECP5 board, by value: no simulation has one."""

from amaranth import Signal

from transept.golden.config import TINY
from transept.rtl.link.ecp5 import Ecp5Top

TOP = Ecp5Top(TINY, memory_bytes=4096, cycles=50, oscillator_mhz=25, dividers=(24, 12))


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
