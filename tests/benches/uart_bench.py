"""cocotb tests of an accelerator on a serial line: the host's driver on its pins."""

import cocotb
import numpy as np
import settings
from cocotb.clock import Clock
from cocotb.task import bridge, resume
from serial_line import SerialLine

from transept.host.bench.product import gemm, reference
from transept.host.devices.base import DeviceLostError
from transept.host.devices.uart import UartDevice
from transept.host.runtime.driver import Driver
from transept.sim.cocotb_runner import parameters
from transept.sim.streams import reset

CFG = settings.config()
CYCLES, MEMORY_BYTES = (parameters()[name] for name in ("cycles", "memory_bytes"))
#: Wall time that a simulated answer may take.
ANSWER_S = 60.0


class SimulatedLine:
    """The pins as the driver's line; every call lets the simulation go on."""

    name = "pins"

    def __init__(self, dut):
        self._pins, self.cut = SerialLine(dut, CYCLES), False

    async def start(self, dut):
        Clock(dut.clk, 10, unit="ns").start()
        await reset(dut)
        cocotb.start_soon(self._pins.listen())

    @resume
    async def write(self, data):
        for byte in data:
            if not self.cut:
                await self._pins.send(byte)

    @resume
    async def read(self, seconds):
        await self._pins.rest(20 * CYCLES)
        found = bytes(self._pins.received)
        self._pins.received.clear()
        return found

    def close(self):
        pass


@cocotb.test()
async def runs_a_product(dut):
    line, rng = SimulatedLine(dut), np.random.default_rng(settings.seed())
    await line.start(dut)
    a, b = rng.integers(-127, 128, (2, 8, 8)).astype(np.int8)
    product = gemm(CFG, 8, b)

    def host():
        device = UartDevice(CFG, line=line, memory_bytes=MEMORY_BYTES, answer_s=ANSWER_S)
        driver = Driver(device)
        loaded = driver.load(product.region)
        return driver.run(loaded, product.executable, {"a": a[None]})

    outputs, report = await bridge(host)()
    assert np.array_equal(outputs["c"][0], reference(a, b, product))
    assert report.instructions > 3
    assert report.bytes_read > 0


@cocotb.test()
async def a_line_that_is_cut_is_named(dut):
    line = SimulatedLine(dut)
    await line.start(dut)

    def host():
        device = UartDevice(CFG, line=line, memory_bytes=MEMORY_BYTES, answer_s=ANSWER_S)
        driver = Driver(device)
        line.cut = True
        device._client._answer_s = 0.1
        try:
            driver.reset()
        except DeviceLostError as error:
            return str(error)

    message = await bridge(host)()
    assert "pins: write registers at 0x80: no answer within" in message
