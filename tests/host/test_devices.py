"""Emulator and hardware answer alike at their registers, to what is wrong above all."""

import numpy as np
import pytest
from bench import instruction
from illegal import illegal, legal

from transept.golden import isa, registers
from transept.golden.config import TINY
from transept.golden.isa import Opcode, Window
from transept.golden.registers import ErrorCode, Unit
from transept.host.devices.emulator import EmulatorDevice
from transept.host.devices.rtl import RtlDevice
from transept.sim.native import BusError

DRAM = 1 << 20
WAIT = 20_000
REFUSED = (KeyError, BusError)
KINDS = {kind.name: kind for kind in illegal(TINY)}


def devices():
    return EmulatorDevice(TINY, dram_bytes=DRAM), RtlDevice(TINY, dram_bytes=DRAM)


@pytest.fixture(params=["emulator", "rtl"])
def device(request):
    return dict(zip(("emulator", "rtl"), devices(), strict=True))[request.param]


def write(device, name, **fields):
    device.write(registers.offset(name), registers.encode(name, **fields))


def status(device):
    """The bits of STATUS that are set."""
    return {name for name, value in read(device, "STATUS").items() if value}


def read(device, name):
    return registers.decode(name, device.read(registers.offset(name)))


def place(device, case):
    """Copy a case to device memory and set the windows; returns that memory."""
    buffer = device.allocate(len(case.dram))
    buffer.array[:] = case.dram
    for window, (base, limit) in case.windows.items():
        write(device, f"WINDOW_BASE_{window.name}", value=buffer.address + base)
        write(device, f"WINDOW_LIMIT_{window.name}", value=limit)
    return buffer


def run(device):
    """Start and wait; ERROR, ERROR_OFFSET, STATUS."""
    write(device, "WATCHDOG_LIMIT", value=3000)
    write(device, "CONTROL", start=1, irq_enable=1)
    assert device.wait(WAIT)
    write(device, "IRQ", done=1, error=1)
    return read(device, "ERROR"), read(device, "ERROR_OFFSET")["value"], status(device)


def store_at(offset):
    """A program of one STORE to SCRATCH."""
    wrong = instruction(Opcode.STORE, window=Window.SCRATCH, offset=offset, rows=1, words=1)
    text = isa.encode_program([wrong, instruction(Opcode.END)])
    case = legal(TINY)
    base, _ = case.windows[Window.PROGRAM]
    case.dram[base : base + len(text)] = np.frombuffer(text, np.uint8)
    return case


@pytest.mark.parametrize(
    ("shift", "limit", "offset"),
    [(3, 32, 0), (1, 32, 4), (0, 32, 1), (0, 32, 2), (0, 32, 3), (0, 32, 32), (0, 3, 0)],
)
def test_nothing_is_written_outside_a_window(device, shift, limit, offset):
    case = store_at(offset)
    buffer = place(device, case)
    base = case.windows[Window.SCRATCH][0]
    write(device, "WINDOW_BASE_SCRATCH", value=buffer.address + base + shift)
    write(device, "WINDOW_LIMIT_SCRATCH", value=limit)
    error, at, _ = run(device)
    names = {"code": ErrorCode.WINDOW, "engine": Unit.STORE, "window": Window.SCRATCH, "rule": 0}
    assert (error, at) == (names, offset)
    assert np.array_equal(buffer.array, case.dram)


@pytest.mark.parametrize(
    ("base", "limit", "offset"),
    [(0xFFFF_FFF0, 0x1000, 32), (0xFFFF_FFF0, 0x1000, 0), (0x1000_0000, 0xFFFF_FFFF, 0)],
)
def test_windows_do_not_wrap(device, base, limit, offset):
    case = store_at(offset)
    buffer = place(device, case)
    write(device, "WINDOW_BASE_SCRATCH", value=base)
    write(device, "WINDOW_LIMIT_SCRATCH", value=limit)
    error, _, _ = run(device)
    assert (error["code"], error["window"]) == (ErrorCode.WINDOW, Window.SCRATCH)
    assert np.array_equal(buffer.array, case.dram)


@pytest.mark.parametrize(
    ("register", "value"),
    [
        ("PROGRAM_OFFSET", 1),
        ("PROGRAM_OFFSET", 2),
        ("PROGRAM_OFFSET", 1 << 31),
        ("WINDOW_LIMIT_PROGRAM", 31),
        ("WINDOW_LIMIT_PROGRAM", 0),
        ("WINDOW_BASE_PROGRAM", 0xFFFF_FFF0),
        ("WINDOW_BASE_PROGRAM", 0x1000_0002),
    ],
)
def test_programs_are_not_read_from_outside_their_window(device, register, value):
    place(device, legal(TINY))
    write(device, register, value=value)
    error, _, _ = run(device)
    names = {"code": ErrorCode.WINDOW, "engine": Unit.CONTROL, "window": Window.PROGRAM}
    assert error == names | {"rule": 0}


@pytest.mark.parametrize("name", list(KINDS)[::5])
def test_errors_are_the_same(name):
    said = []
    for device in devices():
        place(device, KINDS[name].case)
        error, at, flags = run(device)
        # the hardware meets the first row that leaves the window, the verifier names the first
        said.append((error, at * (error["code"] == ErrorCode.ILLEGAL_INSTRUCTION), flags))
        watchdog = read(device, "WATCHDOG")
        said[-1] += (watchdog["fired"], watchdog["engine"], watchdog["waiting"])
    assert said[0] == said[1]


def test_after_an_error_only_a_soft_reset_helps(device):
    case = KINDS["load rows=0"].case
    buffer = place(device, case)
    assert run(device)[0]["code"] == ErrorCode.ILLEGAL_INSTRUCTION
    write(device, "CONTROL", start=1)
    assert status(device) == {"error"}
    for register in ("WINDOW_BASE_IO", "WINDOW_LIMIT_IO", "PROGRAM_OFFSET"):
        before = read(device, register)
        with pytest.raises(REFUSED):
            write(device, register, value=64)
        assert read(device, register) == before
    write(device, "CONTROL", soft_reset=1)
    for _ in range(1000):
        if read(device, "STATUS")["idle"]:
            break
    for register in ("ERROR", "ERROR_OFFSET", "WATCHDOG"):
        assert not any(read(device, register).values()), register
    assert status(device) == {"idle"}
    buffer.array[:] = legal(TINY).dram
    error, _, flags = run(device)
    assert error["code"] == ErrorCode.NONE
    assert flags == {"idle", "done"}


def test_reserved_bits_are_not_stored(device):
    for entry in registers.table(TINY):
        if entry.writable and entry.name not in ("CONTROL", "IRQ"):
            device.write(entry.offset, 0xFFFF_FFFF)
            assert device.read(entry.offset) == entry.stored, entry.name
    device.write(registers.offset("CONTROL"), 0xFFFF_FFFC)
    assert device.read(registers.offset("CONTROL")) == registers.encode("CONTROL", irq_enable=1)
