"""A simulated board without its server: files, memory, registers, and a clock of its own."""

import dataclasses
import time

import numpy as np
import pytest

from transept.bitstreams.boards import BOARDS
from transept.bitstreams.overlay import simulated_overlay
from transept.golden import registers
from transept.golden.config import CONTRACT_VERSION, TINY
from transept.sim.board.machine import FIRMWARE, PROGRAM, BoardError, Defects, Machine

Z2 = dataclasses.replace(BOARDS["pynq_z2"], config=TINY)
BASE = Z2.register_base


def at(name):
    return BASE + registers.offset(name)


@pytest.fixture
def opened():
    """Makes machines, and switches them off."""
    machines = []

    def make(**options):
        machines.append(Machine(Z2, dram_bytes=1 << 20, **options))
        return machines[-1]

    yield make
    for machine in machines:
        machine.close()


def program(machine, folder, config=TINY):
    """Load the accelerator, as a client does: words reversed, then the name."""
    board = dataclasses.replace(Z2, config=config)
    bitfile = simulated_overlay(folder, board, "").bitfile
    data = bitfile.read_bytes()
    payload = data[data.index(b"transept simulated") :]
    machine.write_file(f"{FIRMWARE}a.bin", np.frombuffer(payload, "<u4").byteswap().tobytes())
    machine.write_file(PROGRAM, b"a.bin")


def test_files_tell_what_the_board_is(opened):
    files = opened().files
    assert b"armv7l" in files["/proc/version"]
    assert files["/proc/device-tree/chosen/pynq_board"] == b"pynq_z2 simulated\0"


def test_clocks_are_those_that_a_driver_expects(opened):
    """30 times 33.3 MHz, divided by 10 and by 1."""
    machine = opened()
    assert [machine.read32(0xF800_0100 + 4 * i) >> 12 & 0x7F for i in range(3)] == [30] * 3
    value = machine.read32(0xF800_0170)
    assert (value >> 8 & 0x3F, value >> 20 & 0x3F) == (10, 1)
    machine.write32(0xF800_0170, 7)
    assert machine.read32(0xF800_0170) == 7
    assert machine.read32(0xF800_0FFC) == 0


def test_the_logic_is_what_the_bitstream_says(opened, tmp_path):
    machine = opened()
    with pytest.raises(BoardError, match=r"^no bitstream is loaded$"):
        machine.read32(at("ID"))
    program(machine, tmp_path)
    assert machine.read32(at("ID")) == registers.MAGIC
    assert machine.read32(at("CONTRACT")) == CONTRACT_VERSION
    assert machine.read32(at("CONFIG")) == TINY.digest
    with pytest.raises(BoardError, match=r"^write of register 0x000: response 2$"):
        machine.write32(at("ID"), 0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "there is no bitstream /lib/firmware/a.bin"),
        (bytes(8), "/lib/firmware/a.bin: the bitstream is none for a simulated board"),
    ],
)
def test_what_is_no_bitstream_is_told(opened, data, message):
    machine = opened()
    if data is not None:
        machine.write_file(f"{FIRMWARE}a.bin", data)
    with pytest.raises(BoardError, match=f"^{message}$"):
        machine.write_file(PROGRAM, b"a.bin")


def test_memory_stays_when_the_logic_changes(opened, tmp_path):
    machine = opened()
    buffer = machine.allocate(16)
    machine.write(buffer, 4, b"abc")
    program(machine, tmp_path)
    assert machine.read(buffer) == b"\0\0\0\0abc" + bytes(9)
    machine.write(buffer, 0, b"x")
    program(machine, tmp_path)
    assert machine.read(buffer)[:5] == b"x\0\0\0a"


def test_buffers_take_the_first_gap(opened):
    machine = opened()
    numbers = [machine.allocate(size) for size in (4096, 5000, 1)]
    assert [machine.address(n) - 0x1000_0000 for n in numbers] == [0, 4096, 12288]
    machine.free(numbers[1])
    machine.free(numbers[1])
    assert machine.address(machine.allocate(8192)) == 0x1000_1000
    assert machine.address(machine.allocate(4096)) == 0x1000_4000
    with pytest.raises(BoardError, match=f"^there is no buffer {numbers[1]}$"):
        machine.read(numbers[1])


@pytest.mark.parametrize("size", [0, (1 << 20) + 1])
def test_memory_ends(opened, size):
    machine = opened()
    with pytest.raises(BoardError, match=f"^no {size} bytes of contiguous memory are left$"):
        machine.allocate(size)
    assert machine.address(machine.allocate(1 << 20)) == 0x1000_0000
    with pytest.raises(BoardError, match=r"^no 1 bytes of contiguous memory are left$"):
        machine.allocate(1)


def test_nothing_is_written_behind_a_buffer(opened):
    machine = opened()
    buffer = machine.allocate(4)
    with pytest.raises(BoardError, match=r"^5 bytes are written to a buffer of 4$"):
        machine.write(buffer, 2, b"abc")


@pytest.mark.parametrize(
    ("at_bit", "stuck_at", "seen"), [(0, 1, 1), (13, 1, 0x2000), (63, 1, 1 << 63)]
)
def test_a_stuck_bit_is_stuck_everywhere(opened, at_bit, stuck_at, seen):
    machine = opened(defects=Defects(stuck=at_bit, stuck_at=stuck_at))
    buffer = machine.allocate(24)
    machine.write(buffer, 0, bytes(24))
    assert np.frombuffer(machine.read(buffer), "<u8").tolist() == [seen] * 3


def test_a_bit_is_stuck_at_zero(opened):
    machine = opened(defects=Defects(stuck=9, stuck_at=0))
    machine.allocate(4096)
    buffer = machine.allocate(16)
    machine.write(buffer, 0, b"\xff" * 16)
    assert machine.read(buffer) == (b"\xff\xfd" + b"\xff" * 6) * 2


def test_registers_may_tell_of_other_hardware(opened, tmp_path):
    machine = opened(defects=Defects(constants={"CONTRACT": 2}))
    program(machine, tmp_path)
    assert machine.read32(at("CONTRACT")) == 2
    assert machine.read32(at("CONFIG")) == TINY.digest


def test_files_are_corrupted_below_a_folder(opened):
    machine = opened(defects=Defects(corrupts="/home"))
    for path in ("/home/a", "/tmp/a"):
        machine.write_file(path, b"ab")
    assert (machine.files["/home/a"], machine.files["/tmp/a"]) == (b"`b", b"ab")


def test_the_clock_runs_while_the_logic_is_busy(opened, tmp_path):
    """A program of zeros is END; it ends though nobody looks meanwhile."""
    machine = opened()
    program(machine, tmp_path)
    cycles = machine.read32(at("CYCLES_LO"))
    time.sleep(0.05)
    assert machine.read32(at("CYCLES_LO")) - cycles < 100
    buffer = machine.allocate(4096)
    machine.write32(at("WINDOW_BASE_PROGRAM"), machine.address(buffer))
    machine.write32(at("WINDOW_LIMIT_PROGRAM"), 4096)
    machine.write32(at("CONTROL"), registers.encode("CONTROL", start=1))
    deadline = time.monotonic() + 30
    while machine.read32(at("CYCLES_LO")) - cycles < 2000:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    status = registers.decode("STATUS", machine.read32(at("STATUS")))
    assert status["done"]
    assert not status["busy"]


def test_a_failure_of_the_logic_is_told_ever_after(opened, tmp_path):
    class Broken:
        dram = np.zeros(1 << 20, np.uint8)

        def __init__(self, config, **options):
            pass

        def write32(self, offset, value):
            pass

        def step(self, cycles):
            raise RuntimeError("the bus is on fire")

        def close(self):
            pass

    machine = opened(open_logic=Broken)
    program(machine, tmp_path)
    machine.write32(at("CONTROL"), 1)
    deadline = time.monotonic() + 30
    while not machine._failure:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for access in (lambda: machine.read32(at("ID")), lambda: machine.write32(at("CONTROL"), 1)):
        with pytest.raises(BoardError, match=r"^the bus is on fire$"):
            access()
