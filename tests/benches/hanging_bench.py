import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge


@cocotb.test()
async def waits_for_ever(dut):
    Clock(dut.clk, 10, unit="ns").start()
    while True:
        await RisingEdge(dut.clk)
