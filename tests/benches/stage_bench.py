import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles

from transept.sim import streams
from transept.sim.cocotb_runner import parameters


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(gap=[0.0, 0.5], stall=[0.0, 0.5], patient=[False, True])
async def passes_all(dut, gap, stall, patient):
    Clock(dut.clk, 10, unit="ns").start()
    driver = streams.Driver(dut, "i", gap=gap)
    sink = streams.Sink(dut, "o", stall=stall, patient=patient)
    await streams.reset(dut)
    lanes = [[random.randint(-128, 127) for _ in range(4)] for _ in range(100)]
    items = [streams.pack(values, 8) for values in lanes]
    board = streams.Scoreboard(items)
    entered, left = streams.Monitor(dut, "i"), streams.Monitor(dut, "o", board)
    task = cocotb.start_soon(driver.send(items))
    got = await sink.take(len(items))
    await task
    await ClockCycles(dut.clk, 3)
    board.finish()
    assert [streams.unpack(word, 8, 4) for word in got] == lanes
    assert entered.items == left.items == items


@cocotb.test(timeout_time=100, timeout_unit="us")
async def fails_on_request(dut):
    Clock(dut.clk, 10, unit="ns").start()
    driver, sink = streams.Driver(dut, "i"), streams.Sink(dut, "o")
    await streams.reset(dut)
    board = streams.Scoreboard([1, 2] if parameters()["wrong"] else [1, 3])
    streams.Monitor(dut, "o", board)
    task = cocotb.start_soon(driver.send([1, 3]))
    await sink.take(2)
    await task
    await ClockCycles(dut.clk, 3)
    board.finish()
