import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge, with_timeout
from mock_accelerator import BURST_BEATS, Register

from transept.sim import axi, streams
from transept.sim.cocotb_runner import parameters


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(backpressure=[0.0, 0.4])
async def copies(dut, backpressure):
    Clock(dut.clk, 10, unit="ns").start()
    beat, bursts = parameters()["axi_bytes"], 3
    ram = axi.attach_memory(dut, 1 << 16, backpressure=backpressure)
    registers = axi.attach_registers(dut, backpressure=backpressure)
    await streams.reset(dut, 4)
    data = random.randbytes(bursts * BURST_BEATS * beat)
    ram.write(0x1000, data)
    for register, value in ((Register.SOURCE, 0x1000), (Register.DESTINATION, 0x8000)):
        await registers.write_dword(register, value)
    await registers.write_dword(Register.BURSTS, bursts)
    await registers.write_dword(Register.CONTROL, 1)
    if not dut.irq.value:
        await with_timeout(RisingEdge(dut.irq), 500, "us")
    assert ram.read(0x8000, len(data)) == data


@cocotb.test()
async def sees_ports_only(dut):
    names = {handle._name for handle in dut}
    assert "m_axi_araddr" in names
    assert "left" not in names
