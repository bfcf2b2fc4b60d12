"""The driver of a board with pynq, on a stand-in for pynq that notes what it is asked."""

import importlib
import itertools
import sys
import types

import numpy as np
import pytest

from transept.bitstreams.boards import VLNV
from transept.golden import registers
from transept.golden.config import TINY
from transept.host.devices.base import DeviceError, DeviceLostError, OutOfMemoryError
from transept.host.devices.worker import UnansweredError

OFFSET = registers.offset
STATUS, IRQ, CONTROL = OFFSET("STATUS"), OFFSET("IRQ"), OFFSET("CONTROL")
IDLE = registers.encode("STATUS", idle=1)
NAME = "transept.host.devices.pynq"


class Held(np.ndarray):
    """Memory of the board."""

    def __array_finalize__(self, other):
        self.physical_address = 0

    def note(self, what):
        self.log.append((what, self.physical_address))

    def flush(self):
        """To the board; what is moved is still what the host wrote."""
        self.log.append(("flush", self.physical_address, int(self.sum())))

    def invalidate(self):
        self.note("invalidate")

    def freebuffer(self):
        self.note("free")


class Board:
    """Registers, addresses of the next buffers, and a log."""

    def __init__(self):
        self.log, self.calls = [], []
        self.registers = {STATUS: IDLE, IRQ: 0, OFFSET("CYCLES_LO"): 0, OFFSET("CYCLES_HI"): 0}
        self.addresses = itertools.count(4096, 1 << 16)
        self.ips = {"one": {"type": "other"}, "acc": {"type": VLNV}}
        self.answers = iter([RuntimeError("busy"), "a device"])
        self.sizes = []

    def allocate(self, shape, kind):
        self.sizes.append((shape, kind))
        held = np.full(shape, 7, kind).view(Held)
        held.physical_address, held.log = next(self.addresses), self.log
        return held

    def read(self, offset):
        return np.uint32(self.registers[offset])

    def write(self, offset, value):
        assert type(value) is int
        self.log.append(("write", offset, value))


@pytest.fixture
def board():
    return Board()


@pytest.fixture
def module(monkeypatch, board):
    """The driver's module, imported with the stand-in."""

    class Overlay:
        def __init__(self, bitfile, **options):
            board.log.append(("overlay", bitfile, options))
            self.ip_dict = board.ips
            self.one, self.acc = (
                "another",
                types.SimpleNamespace(
                    read=lambda offset: board.read(offset),
                    write=lambda offset, value: board.write(offset, value),
                ),
            )

    class Devices:
        _devices = None

        @property
        def active_device(self):
            answer = next(board.answers)
            if isinstance(answer, Exception):
                self._devices = []
                raise answer
            assert self._devices is None  # else pynq would not look again
            return answer

    class Worker:
        def __init__(self, name):
            board.calls.append(name)

        def call(self, function, seconds):
            board.calls.append(seconds)
            return function()

    class Clocks:
        clk_freq_param_name = None

    fakes = {
        "pynq": {
            "DefaultIP": type("DefaultIP", (), {"__init__": lambda self, description: None}),
            "Overlay": Overlay,
            "Device": Devices(),
            "allocate": board.allocate,
        },
        "pynq.pl_server": {},
        "pynq.pl_server.global_state": {"clear_global_state": lambda: board.log.append("cleared")},
        "pynqmetadata": {},
        "pynqmetadata.models": {},
        "pynqmetadata.models.zynq_proc_sys_core": {"ZynqProcSysCore": Clocks},
    }
    for name, content in fakes.items():
        fake = types.ModuleType(name)
        vars(fake).update(content)
        monkeypatch.setitem(sys.modules, name, fake)
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    found = importlib.import_module(NAME)
    monkeypatch.setitem(sys.modules, NAME, found)  # taken away behind the test
    manifest = types.SimpleNamespace(config="tiny", config_digest=TINY.digest)
    monkeypatch.setattr(found, "read_manifest", lambda path: manifest)
    monkeypatch.setattr(found, "Worker", Worker)
    found.clocks, found.manifest = Clocks, manifest
    return found


@pytest.fixture
def device(module, board):
    opened = module.PynqDevice(TINY, bitfile="a.bit")
    board.log.clear()
    board.calls.clear()
    return opened


# --- opening
def test_the_overlay_is_loaded_on_a_board_that_answers_late(module, board, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    device = module.PynqDevice(TINY, bitfile="a.bit")
    assert (device.name, device.config) == ("pynq", TINY)
    assert board.log == ["cleared", ("overlay", str(tmp_path / "a.bit"), {})]
    assert board.calls == ["board", 30.0, 30.0]
    assert device.overlay.accelerator is device.overlay.acc
    assert module.clocks.clk_freq_param_name(None, 3) == "PCW_ACT_FPGA3_PERIPHERAL_FREQMHZ"
    del module.clocks.clk_freq_param_name  # a later release has no such thing
    module._name_clocks()
    assert not hasattr(module.clocks, "clk_freq_param_name")


def test_a_board_that_never_answers_is_looked_for_twice(module, board):
    board.answers = iter([RuntimeError("busy"), RuntimeError("gone"), "too late"])
    with pytest.raises(DeviceError, match=r"^pynq: connection: gone$"):
        module.PynqDevice(TINY, bitfile="a.bit")
    assert next(board.answers) == "too late"


@pytest.mark.parametrize(
    ("ips", "told"),
    [
        ({}, "has 0 accelerators .*there is nothing$"),
        ({"b": "y", "a": "x"}, "has 0 accelerators .*there is x, y$"),
        ({"a": VLNV, "b": VLNV}, "has 2 accelerators .* must have one;"),
    ],
)
def test_an_overlay_has_one_accelerator(module, board, ips, told):
    board.ips = {name: {"type": kind} for name, kind in ips.items()}
    with pytest.raises(DeviceError, match=rf"^overlay a\.bit {told}"):
        module.PynqDevice(TINY, bitfile="there/a.bit")


def test_an_overlay_of_another_configuration_is_not_loaded(module, board):
    module.manifest.config, module.manifest.config_digest = "other", 0x12
    told = rf"^overlay a\.bit is for other \(00000012\), the .* for tiny \({TINY.digest:08x}\)$"
    with pytest.raises(DeviceError, match=told):
        module.PynqDevice(TINY, bitfile="there/a.bit")
    assert board.log == []


# --- registers and memory
def test_registers_are_plain_integers(device, board):
    board.registers[0x40] = 9
    found = device.read(0x40)
    device.write(0x44, np.int64(5))
    assert (found, type(found)) == (9, int)
    assert board.log == [("write", 0x44, 5)]
    assert board.calls == [30.0, 30.0]


def test_buffers_are_whole_pages(device, board):
    buffers = [device.allocate(nbytes) for nbytes in (1, 4096, 4097)]
    assert board.sizes == [((size,), "u1") for size in (4096, 4096, 8192)]
    assert [buffer.nbytes for buffer in buffers] == [1, 4096, 4097]
    addresses = [buffer.address for buffer in buffers]
    assert addresses == [4096, 4096 + (1 << 16), 4096 + (2 << 16)]
    assert board.log == [("flush", address, 0) for address in addresses]
    board.log.clear()
    buffers[1].array[0] = 3
    device.flush(buffers[1])
    device.invalidate(buffers[0])
    device.release(buffers[1])
    device.release_all()
    freed = [("free", addresses[at]) for at in (1, 2, 0)]
    assert board.log == [("flush", addresses[1], 3), ("invalidate", addresses[0]), *freed]
    device.release_all()
    assert len(board.log) == 5


def test_what_is_large_may_take_longer(device, board):
    """A second for each megabyte."""
    buffer = device.allocate(3 << 20)
    board.calls.clear()
    device.flush(buffer)
    device.invalidate(buffer)
    assert board.calls == [33.0, 33.0]


@pytest.mark.parametrize(
    ("address", "nbytes", "reached"),
    [
        (0, 1, False),
        (4097, 1, False),
        ((1 << 32) - 4096, 4096, True),
        ((1 << 32) - 4096, 4097, False),
        (1 << 32, 1, False),
    ],
)
def test_buffers_are_where_the_accelerator_reaches(device, board, address, nbytes, reached):
    board.addresses = iter([address])
    if reached:
        assert device.allocate(nbytes).address == address
        return
    told = rf"^buffer of {nbytes} bytes lies at {address:#x}, must .* page below 0x100000000$"
    with pytest.raises(OutOfMemoryError, match=told):
        device.allocate(nbytes)


def test_memory_that_is_too_small_is_told(device, board):
    board.addresses = iter([])
    with pytest.raises(OutOfMemoryError, match=r"^buffer of 5 bytes: pynq: allocation: "):
        device.allocate(5)


# --- what goes wrong
def test_errors_of_pynq_are_one_line(device, board):
    with pytest.raises(DeviceError, match=r"^pynq: read of register 0xff0: 4080$"):
        device.read(0xFF0)

    def refused(offset, value):
        error = RuntimeError("a page of it")
        error.details = lambda: "no such thing"
        raise error

    board.write = refused
    with pytest.raises(DeviceError, match=r"^pynq: write of register 0x004: no such thing$"):
        device.write(4, 1)


def test_a_board_that_is_lost_is_not_asked_again(module, device, board):
    buffers = [device.allocate(10) for _ in range(2)]

    def silent(offset):
        raise UnansweredError

    board.read = silent
    board.log.clear()
    lost = "the board has not answered for 30 s$"
    with pytest.raises(DeviceLostError, match=f"^pynq: read of register 0x000: {lost}"):
        device.read(0)
    board.calls.clear()
    with pytest.raises(DeviceLostError, match=f"^pynq: allocation: {lost}"):
        device.allocate(10)
    device.release(buffers[0])
    with device:
        pass
    assert (board.calls, board.log, device._buffers) == ([], [], {})


# --- the end
def test_an_idle_accelerator_is_left_alone(device, board):
    buffer = device.allocate(10)
    board.log.clear()
    with device as entered:
        assert entered is device
    assert board.log == [("free", buffer.address)]


def test_a_busy_accelerator_is_reset_at_the_end(module, device, board):
    looks = iter([0, 0, 0, IDLE])
    board.read = lambda offset: next(looks)
    with device:
        pass
    assert board.log == [("write", CONTROL, registers.encode("CONTROL", soft_reset=1))]
    assert not list(looks)
    assert module.RESET_POLLS == 1000
    module.RESET_POLLS, looks = 3, iter([0] * 10)
    with pytest.raises(DeviceLostError, match=r"^pynq: soft reset does not end, the bus does not"):
        device._end_bursts()
    assert len(list(looks)) == 10 - 4


# --- waiting
@pytest.fixture
def clocked(module, board, monkeypatch):
    """Time that passes with naps alone, and cycles by number of the look."""
    naps, looks = [], iter(range(100))
    clock = types.SimpleNamespace(sleep=naps.append, monotonic=lambda: sum(naps))
    monkeypatch.setattr(module, "time", clock)

    def cycles(at):
        def read(offset):
            if offset != OFFSET("CYCLES_LO"):
                return board.registers[offset]
            return at(next(looks))

        board.read = read
        return naps

    return cycles


def test_waiting_ends_with_the_interrupt_or_the_cycles(device, board, clocked):
    naps = clocked(lambda look: 5 + 10 * look)
    assert device.wait(90) is False  # the tenth look is at 95
    assert naps == [20e-6, 40e-6, 80e-6, 160e-6, 320e-6, 640e-6, 1.28e-3, 2e-3]
    board.registers[IRQ] = 1
    assert device.wait(90) is True
    assert len(naps) == 8


def test_a_clock_that_stands_still_ends_the_waiting(module, device, clocked):
    """Twenty seconds behind its last move."""
    assert module.PATIENCE == 20.0
    module.LONGEST_NAP = 10.0
    module.FIRST_NAP = 10.0
    naps = clocked(lambda look: min(look, 4))
    assert device.wait(90) is False
    assert naps == [10.0] * 6


def test_cycles_beyond_one_register_count(device, board):
    board.registers |= {OFFSET("CYCLES_HI"): 3, OFFSET("CYCLES_LO"): 5}
    assert device._cycles() == (3 << 32) + 5
