"""The simulated RTL: how long it is waited for, and who hears of it."""

import hashlib

import pytest

from transept.golden.config import TINY
from transept.host.devices import rtl as module
from transept.host.devices.rtl import RtlDevice
from transept.sim.native import SimulationTimeout


class Fake:
    """A simulation whose interrupt comes at a cycle."""

    dram, dram_base = b"", 0x40

    def __init__(self, config, at=0, **options):
        self.left, self.asked, self.options = at, [], options
        self.registers = {}

    def run_until_irq(self, cycles):
        self.asked.append(cycles)
        self.left -= cycles
        if self.left > 0:
            raise SimulationTimeout("no interrupt")

    def read32(self, offset):
        return self.registers[offset]

    def write32(self, offset, value):
        self.registers[offset] = value


@pytest.fixture(autouse=True)
def fake(monkeypatch):
    monkeypatch.setattr(module, "NativeSimulation", Fake)


@pytest.mark.parametrize(
    ("at", "limit", "answered", "asked", "heard"),
    [
        (1, 250_000, True, [100_000], []),
        (100_001, 250_000, True, [100_000, 100_000], [100_000]),
        (999_999, 250_000, False, [100_000, 100_000, 50_000], [100_000, 200_000, 300_000]),
        (5, 0, False, [], []),
    ],
)
def test_progress_is_told_every_hundred_thousand_cycles(at, limit, answered, asked, heard):
    told = []
    device = RtlDevice(TINY, progress=told.append, at=at)
    assert device.wait(limit) is answered
    assert (device.simulation.asked, told) == (asked, heard)


@pytest.mark.parametrize(("at", "answered"), [(250_000, True), (250_001, False)])
def test_without_an_ear_it_runs_at_one_go(at, answered):
    device = RtlDevice(TINY, at=at, backpressure=0.5)
    assert device.wait(250_000) is answered
    assert device.simulation.asked == [250_000]
    assert device.simulation.options == {"backpressure": 0.5}


def test_registers_and_memory_are_those_of_the_simulation(monkeypatch):
    device = RtlDevice(TINY)
    device.write(8, 5)
    assert (device.read(8), device.simulation.registers) == (5, {8: 5})
    assert (device.name, device.config, device._base) == ("rtl", TINY, 0x40)
    monkeypatch.setattr(module, "accelerator_verilog", lambda config: f"module {config.name}")
    assert device.rtl_sha256 == hashlib.sha256(b"module tiny").hexdigest()
