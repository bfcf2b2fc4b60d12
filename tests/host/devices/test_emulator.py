"""The emulator's registers: which windows it sees, and what a run leaves behind."""

import types

import numpy as np
import pytest

from transept.golden import registers
from transept.golden.config import TINY
from transept.golden.emulator import EmulatorError
from transept.golden.isa import Opcode, Window
from transept.golden.registers import ErrorCode, Stall, Unit
from transept.golden.verify import Finding
from transept.host.devices import emulator as module
from transept.host.devices.base import OutOfMemoryError
from transept.host.devices.emulator import DRAM_BASE, EmulatorDevice

BYTES = 1 << 16


@pytest.fixture
def device():
    return EmulatorDevice(TINY, dram_bytes=BYTES)


def write(device, name, **fields):
    device.write(registers.offset(name), registers.encode(name, **fields))


def read(device, name, index=0):
    return device.read(registers.offset(name, index))


def told(device):
    """STATUS, IRQ, ERROR, ERROR_OFFSET and WATCHDOG, without fields that are 0."""
    names = ("STATUS", "IRQ", "ERROR", "ERROR_OFFSET", "WATCHDOG")
    found = {name: registers.decode(name, read(device, name)) for name in names}
    return {
        name: {field: int(value) for field, value in fields.items() if value}
        for name, fields in found.items()
        if any(fields.values())
    }


def test_a_device_has_its_memory_and_its_identity(device):
    assert (device.name, device.config) == ("emulator", TINY)
    assert DRAM_BASE == 0x1000_0000
    assert device.allocate(BYTES).address == DRAM_BASE
    assert EmulatorDevice(TINY).allocate(64 << 20).nbytes == 64 << 20
    with pytest.raises(OutOfMemoryError, match=r"device memory has 67108864 left$"):
        EmulatorDevice(TINY).allocate((64 << 20) + 1)
    assert read(device, "CONFIG") == TINY.digest
    assert told(device) == {"STATUS": {"idle": 1}}
    assert device.wait(5) is False


WINDOWS = [
    (DRAM_BASE, BYTES, (0, BYTES)),
    (DRAM_BASE + 8, BYTES - 8, (8, BYTES - 8)),
    (DRAM_BASE + BYTES, 0, (BYTES, 0)),
    (DRAM_BASE - 4, 4, None),
    (DRAM_BASE + 4, BYTES - 3, None),
    (DRAM_BASE + 2, 4, None),
]


@pytest.mark.parametrize(("base", "limit", "inside"), WINDOWS)
def test_windows_are_whole_words_inside_memory(device, base, limit, inside):
    write(device, "WINDOW_BASE_IO", value=base)
    write(device, "WINDOW_LIMIT_IO", value=limit)
    assert device._windows().get(Window.IO) == inside


class Fake:
    """An emulator that ends as it is told, and remembers how it was started."""

    started: list = []
    error = None

    def __init__(self, config, dram, windows, *, seed):
        Fake.started.append((config, len(dram), windows, seed))

    def run(self, offset):
        Fake.started.append(offset)
        if Fake.error is not None:
            raise Fake.error
        return types.SimpleNamespace(
            instructions={Opcode.LOAD: 3, Opcode.END: 1},
            bytes_read=100,
            bytes_fetched=23,
            bytes_written=7,
            clipped=(5, 0, 6),
        )


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(module, "Emulator", Fake)
    monkeypatch.setattr(Fake, "error", None)
    monkeypatch.setattr(Fake, "started", [])
    return Fake


def test_a_run_ends_with_its_counters(fake):
    device = EmulatorDevice(TINY, seed=9, dram_bytes=BYTES)
    write(device, "WINDOW_BASE_IO", value=DRAM_BASE + 4)
    write(device, "WINDOW_LIMIT_IO", value=12)
    write(device, "PROGRAM_OFFSET", value=64)
    write(device, "CONTROL", irq_enable=1)
    assert not fake.started
    write(device, "CONTROL", start=1)
    assert fake.started == [(TINY, BYTES, {Window.IO: (4, 12)}, 9), 64]
    assert told(device) == {"STATUS": {"idle": 1, "done": 1}, "IRQ": {"done": 1}}
    counters = ("INSTRUCTIONS", "BYTES_READ_LO", "BYTES_WRITTEN_LO", "RUN_CYCLES_LO")
    assert [read(device, name) for name in counters] == [4, 123, 7, 0]
    assert [read(device, "CLIPPED", tally) for tally in range(4)] == [5, 0, 6, 0]
    assert device.wait(1) is True
    write(device, "IRQ", error=1)
    assert device.wait(1) is True
    write(device, "IRQ", done=1)
    assert device.wait(1) is False


FINDINGS = [
    (None, {"ERROR": {"code": ErrorCode.ILLEGAL_OPERAND}}),
    (
        Finding(5, "STORE", "x", ErrorCode.ILLEGAL_INSTRUCTION, 3),
        {
            "ERROR": {"code": ErrorCode.ILLEGAL_INSTRUCTION, "engine": Unit.STORE, "rule": 3},
            "ERROR_OFFSET": {"value": 5},
        },
    ),
    (
        Finding(5, "LOAD", "x", ErrorCode.WINDOW, 3, Window.IO, 77),
        {
            "ERROR": {"code": ErrorCode.WINDOW, "engine": Unit.LOAD, "window": Window.IO},
            "ERROR_OFFSET": {"value": 77},
        },
    ),
    (
        Finding(5, "NORM", "x", ErrorCode.NONE),
        {
            "WATCHDOG": {
                "fired": 1,
                "engine": Unit.VECTOR,
                "stall": Stall.TOKEN,
                "waiting": 1 << Unit.VECTOR,
            }
        },
    ),
]


@pytest.mark.parametrize(("finding", "registers_then"), FINDINGS)
def test_a_run_that_fails_says_where(fake, device, finding, registers_then):
    fake.error = EmulatorError("it broke", finding)
    write(device, "CONTROL", start=1)
    assert device.failure == "it broke"
    wanted = {
        name: {field: int(value) for field, value in fields.items() if value}
        for name, fields in registers_then.items()
    }
    assert told(device) == {"STATUS": {"error": 1}, "IRQ": {"error": 1}, **wanted}
    write(device, "CONTROL", start=1)
    assert [seed for *_, seed in fake.started[::2]] == [1]
    assert len(fake.started) == 2
    write(device, "CONTROL", soft_reset=1)
    assert told(device) == {"STATUS": {"idle": 1}}
    fake.error = None
    write(device, "CONTROL", start=1)
    assert device.failure == ""


def test_what_has_not_run_has_not_failed(device):
    assert device.failure == ""


def test_memory_is_seen_by_the_emulator(device):
    buffer = device.allocate(16)
    buffer.array[:] = np.arange(16)
    start = buffer.address - DRAM_BASE
    assert device._dram[start : start + 16].tolist() == list(range(16))
