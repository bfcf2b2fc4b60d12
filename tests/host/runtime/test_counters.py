"""What the driver writes to registers to start and to reset, and the counters that it reads."""

import dataclasses

import numpy as np
import pytest
from graphs import GraphBuilder

from transept.golden import registers
from transept.golden.config import TINY
from transept.golden.isa import Engine
from transept.host.devices.base import DeviceLostError
from transept.host.devices.emulator import EmulatorDevice
from transept.host.runtime.driver import SMALLEST_WINDOW, Driver
from transept.host.runtime.region import Region

A = np.arange(-60, 60).reshape(1, 10, 12).astype(np.int8)


@pytest.fixture(scope="module")
def region():
    """One linear layer on int8, 12 to 10."""
    build = GraphBuilder(1)
    x = build.value(12, 8)
    return Region("linear", build.graph([x], [build.linear(x, 10, 8)]), TINY)


@pytest.fixture(scope="module")
def executable(region):
    return region.executable(region.shape(1, {"rows": 10}))


def run(device, region, executable):
    driver = Driver(device)
    return driver.run(driver.load(region), executable, {"v0": A})


def test_every_counter_is_in_the_report(region, executable):
    """On a device whose registers hold their offsets."""

    class Counting(EmulatorDevice):
        def read(self, offset):
            return super().read(offset) if offset < registers.offset("RUN_CYCLES_LO") else offset

    _, report = run(Counting(TINY), region, executable)
    at = registers.offset

    def long(name):
        return at(f"{name}_HI") << 32 | at(f"{name}_LO")

    stalls = {engine: report.stalls[engine].keys() for engine in report.stalls}
    assert dataclasses.asdict(report) == {
        "cycles": long("RUN_CYCLES"),
        "instructions": at("INSTRUCTIONS"),
        "bytes_read": long("BYTES_READ"),
        "bytes_written": long("BYTES_WRITTEN"),
        "array_cycles": long("ARRAY_CYCLES"),
        "busy": {e.name: at(f"{e.name}_BUSY") for e in Engine},
        "stalls": {e: {s: at(f"{e}_STALL_{s}") for s in names} for e, names in stalls.items()},
        "tallies": {"linear0": at("CLIPPED", 0)},
    }
    assert {engine: list(names) for engine, names in stalls.items()} == {
        "LOAD": ["TOKEN", "MEMORY", "SCRATCHPAD"],
        "GEMM": ["TOKEN", "SCRATCHPAD", "WEIGHTS", "ACCUMULATOR", "FILTER"],
        "SOFTMAX": ["TOKEN", "SCRATCHPAD"],
        "VECTOR": ["TOKEN", "SCRATCHPAD"],
        "STORE": ["TOKEN", "MEMORY", "SCRATCHPAD"],
    }


def test_operators_that_share_a_counter_are_told_together():
    device = EmulatorDevice(TINY)
    for tally, count in enumerate((5, 0, 7)):
        device._values[registers.offset("CLIPPED", tally)] = count
    driver = Driver(device)
    found = driver.report({"a": 2, "b": 0, "c": 2, "d": 1}).tallies
    assert list(found.items()) == [("a, c", 7), ("b", 5), ("d", 0)]
    assert driver.report().tallies == {}


def test_a_start_sets_the_windows_and_clears_the_interrupt(region, executable):
    """CONTROL is written last, and a program begins where its window does."""

    class Writes(EmulatorDevice):
        def __init__(self, config):
            super().__init__(config)
            self.written = []

        def write(self, offset, value):
            self.written.append((offset, value))
            super().write(offset, value)

    device = Writes(TINY)
    driver = Driver(device)
    loaded = driver.load(region)
    driver.place(loaded, executable, {"v0": A})
    driver.start(loaded.windows)
    assert {window.name: buffer.nbytes for window, buffer in loaded.windows.items()} == {
        "WEIGHTS": region.weights.size,
        "PROGRAM": len(executable.instructions),
        "IO": executable.io_bytes,
        "SCRATCH": SMALLEST_WINDOW,
    }
    assert SMALLEST_WINDOW == 64
    wanted = [
        (f"WINDOW_{what}_{window.name}", value)
        for window, buffer in loaded.windows.items()
        for what, value in (("BASE", buffer.address), ("LIMIT", buffer.nbytes))
    ]
    wanted += [("PROGRAM_OFFSET", 0), ("IRQ", 0b11), ("CONTROL", 0b101)]
    assert device.written == [(registers.offset(name), value) for name, value in wanted]


@pytest.mark.parametrize(("polls", "ends"), [(0, True), (999, True), (1000, False)])
def test_a_reset_is_polled_a_thousand_times(polls, ends):
    class Slow(EmulatorDevice):
        left = 0

        def read(self, offset):
            value = super().read(offset)
            if offset == registers.offset("STATUS") and self.left:
                self.left -= 1
                return registers.encode("STATUS", idle=self.left % 2, resetting=1)
            return value

    device = Slow(TINY)
    driver = Driver(device)
    device.left = polls
    if ends:
        driver.reset()
        return
    with pytest.raises(DeviceLostError, match="emulator: soft reset does not end, the bus does"):
        driver.reset()


def test_the_report_counts(region, executable):
    _, report = run(EmulatorDevice(TINY), region, executable)
    assert report.bytes_read > region.weights.size
    assert report.bytes_written == 10 * 12  # words of four
    assert set(report.busy) == {engine.name for engine in Engine}
    assert set(report.tallies) == {op.name for op in region.graph.ops}


def test_counters_have_64_bits(region, executable):
    class Counting(EmulatorDevice):
        def read(self, offset):
            names = {
                registers.offset(f"{name}_{half}"): half for name in COUNTERS for half in HALVES
            }
            return HALVES.get(names.get(offset), super().read(offset))

    COUNTERS, HALVES = ("RUN_CYCLES", "ARRAY_CYCLES", "BYTES_READ"), {"LO": 0xFEDC_0001, "HI": 5}
    _, report = run(Counting(TINY), region, executable)
    wanted = 5 << 32 | 0xFEDC_0001
    assert (report.cycles, report.array_cycles, report.bytes_read) == (wanted,) * 3
