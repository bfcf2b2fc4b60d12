"""A cocotb test that runs one accelerator program from a DRAM image, through cocotbext-axi.

Parameters (JSON): ``image``, a .npy file with DRAM; ``registers``, (offset, value) pairs written in
order, the last one starts the run; ``result``, a file that gets cycles, seconds and DRAM;
``backpressure``, the probability that a channel withholds a cycle, and its ``seed``.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge, with_timeout

from transept.golden import registers
from transept.sim.axi import attach_memory, attach_registers
from transept.sim.cocotb_runner import parameters
from transept.sim.streams import reset

PERIOD_NS = 10
TIMEOUT_US = 100_000


@cocotb.test()
async def runs_the_program(dut: Any) -> None:
    """Load DRAM, start, wait for the interrupt, keep DRAM."""
    facts: dict[str, Any] = parameters()
    pace = {"backpressure": facts["backpressure"], "seed": facts["seed"]}
    image = np.load(facts["image"])
    Clock(dut.clk, PERIOD_NS, unit="ns").start()
    ram = attach_memory(dut, image.size, **pace)
    bus = attach_registers(dut, **pace)
    ram.write(0, image.tobytes())
    await reset(dut, 4)
    *setup, start = facts["registers"]
    for offset, value in setup:
        await bus.write_dword(offset, value)
    begin_ns, begin = cocotb.utils.get_sim_time("ns"), time.perf_counter()
    await bus.write_dword(*start)
    await with_timeout(RisingEdge(dut.irq), TIMEOUT_US, "us")
    seconds = time.perf_counter() - begin
    cycles = (cocotb.utils.get_sim_time("ns") - begin_ns) / PERIOD_NS
    status = registers.decode("STATUS", await bus.read_dword(registers.offset("STATUS")))
    assert status["done"], status
    assert not status["error"], status
    dram = np.frombuffer(ram.read(0, image.size), np.uint8)
    np.savez(Path(facts["result"]), cycles=cycles, seconds=seconds, dram=dram)
