"""cocotb test of both exponentials side by side."""

import cocotb
from cocotb.triggers import ClockCycles
from pins import Pins
from twins import ASKED_BITS, Twins

DESIGN = Twins()


@cocotb.test()
async def they_never_differ(dut):
    pins = Pins(dut, DESIGN)
    await pins.start()
    first = pins.raw("asked")
    await ClockCycles(dut.clk, (1 << ASKED_BITS) + 20)
    # it has counted through all of them
    assert (pins.raw("asked") - first) % (1 << ASKED_BITS) == 20
    assert not pins.raw("differ")
