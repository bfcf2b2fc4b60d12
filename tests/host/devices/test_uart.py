"""The driver of a serial line: on the model of a device behind a bad line, and on a terminal."""

import os
import random
import termios
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest

from transept.golden import registers
from transept.golden.config import TINY
from transept.golden.link import Kind, LinkModel, Request, encode_request
from transept.host.devices import uart as module
from transept.host.devices.base import DeviceError, DeviceLostError, OutOfMemoryError
from transept.host.devices.uart import LinkClient, SerialPort, UartDevice

MEMORY = 1 << 14


class Target:
    """Registers that keep what is written, counters that run, and memory."""

    def __init__(self):
        self.registers = {r.offset: r.constant or 0 for r in registers.table(TINY)}
        self.memory, self.writes, self.running = {}, [], True

    def read(self, kind, address):
        if kind is Kind.READ_MEMORY:
            return self.memory.get(address, 0) if address < MEMORY else None
        if address == registers.offset("CYCLES_LO") and self.running:
            self.registers[address] += 1000
        return self.registers.get(address)

    def write(self, kind, address, word):
        self.writes.append((kind, address, word))
        (self.memory if kind is Kind.WRITE_MEMORY else self.registers)[address] = word
        return address < MEMORY


class ModelLine:
    """The model of a device at the other end; ``loss`` of all bytes are lost, as many damaged."""

    name = "model"

    def __init__(self, target, loss=0.0):
        self._model, self._loss, self._rng = LinkModel(target), loss, random.Random(1)
        self._back = b""
        self.deaf, self.closed, self.sent = False, False, 0

    def _way(self, data):
        for byte in data:
            at = self._rng.random()
            if at >= self._loss:
                yield byte ^ (1 << self._rng.randrange(8) if at < 2 * self._loss else 0)

    def write(self, data):
        self.sent += 1
        self._model.silence()
        if not self.deaf:
            self._back += bytes(self._way(self._model.feed(bytes(self._way(data)))))

    def read(self, seconds):
        found, self._back = self._back, b""
        if not found:
            threading.Event().wait(min(seconds, 1e-3))
        return found

    def close(self):
        self.closed = True


@pytest.fixture
def target():
    return Target()


def open_device(target, loss=0.0, answer_s=0.5):
    line = ModelLine(target, loss)
    return UartDevice(TINY, line=line, memory_bytes=MEMORY, answer_s=answer_s), line


def test_registers_are_read_and_written(target):
    device, line = open_device(target)
    assert device.read(registers.offset("ID")) == registers.MAGIC
    device.write(registers.offset("WATCHDOG_LIMIT"), np.uint32(7))
    assert device.read(registers.offset("WATCHDOG_LIMIT")) == 7
    with device:
        assert not line.closed
    assert line.closed


def test_buffers_move_there_and_back(target):
    device, _ = open_device(target)
    device.allocate(8)
    buffer = device.allocate(1001)
    assert buffer.address == 4096
    data = np.random.default_rng(1).integers(0, 256, 1001).astype(np.uint8)
    buffer.array[:] = data
    device.flush(buffer)
    assert target.memory[4096] == int.from_bytes(data[:4].tobytes(), "little")
    buffer.array[:] = 0
    device.invalidate(buffer)
    assert np.array_equal(buffer.array, data)


def test_a_buffer_begins_zeroed_on_the_device(target):
    target.memory[0] = 5
    open_device(target)[0].allocate(4)
    assert target.memory[0] == 0


def test_memory_that_is_too_small_is_told(target):
    with pytest.raises(OutOfMemoryError, match=f"buffer of {MEMORY + 1} bytes"):
        open_device(target)[0].allocate(MEMORY + 1)


def test_a_bad_line_costs_time_and_nothing_else(target):
    device, line = open_device(target, loss=0.0004, answer_s=0.01)
    buffer = device.allocate(2000)
    target.writes.clear()
    buffer.array[:] = np.arange(2000, dtype=np.uint8)
    sent = line.sent
    device.flush(buffer)
    assert line.sent > sent + 8  # some of the 8 frames twice
    words = [write for write in target.writes if write[0] is Kind.WRITE_MEMORY]
    assert len(words) == 500
    device.invalidate(buffer)
    assert np.array_equal(buffer.array, np.arange(2000, dtype=np.uint8))


def test_a_lost_answer_repeats_no_write(target):
    """Of every request the first answer is lost, for longer than there are sequence numbers."""
    device, line = open_device(target, answer_s=0.002)
    feed, target.writes = line._model.feed, []
    seen = set()

    def once(data):
        answer = feed(data)
        if data in seen:
            return answer
        seen.clear()
        seen.add(data)
        return b""

    line._model.feed = once
    for value in range(300):
        device.write(registers.offset("WATCHDOG_LIMIT"), value)
    assert [word for _, _, word in target.writes] == list(range(300))


@pytest.mark.parametrize("reads", [1, 253, 254, 255])
def test_reads_between_two_writes_lose_none(target, reads):
    """However the numbers of requests repeat."""
    device, _ = open_device(target)
    limit = registers.offset("WATCHDOG_LIMIT")
    device.write(limit, 1)
    for _ in range(reads):
        device.read(registers.offset("ID"))
    device.write(limit, 2)
    assert device.read(limit) == 2


def test_the_last_write_of_another_host_is_forgotten(target):
    """Its sequence is that of the first write of this one."""
    line = ModelLine(target)
    limit = registers.offset("WATCHDOG_LIMIT")
    LinkClient(line).ask(Kind.READ_REGISTERS, 0, 1)
    line._model.feed(encode_request(Request(Kind.WRITE_REGISTERS, 0, limit, 1, (1,))))
    line._model.feed(encode_request(Request(Kind.WRITE_REGISTERS, 1, limit, 1, (1,))))
    LinkClient(line).ask(Kind.WRITE_REGISTERS, limit, 1, (7,))
    assert target.registers[limit] == 7


def test_a_refused_access_is_named(target):
    device, _ = open_device(target)
    with pytest.raises(DeviceError, match="model: read registers at 0xffc: bus error"):
        device.read(0xFFC)


def test_a_device_that_stops_answering_is_named(target):
    device, line = open_device(target, answer_s=0.01)
    line.deaf, line.sent = True, 0
    message = r"model: write registers at 0x80: no answer within 0.01 s, asked 4 times"
    with pytest.raises(DeviceLostError, match=message):
        device.write(registers.offset("CONTROL"), 1)
    assert line.sent == 4


def test_what_answers_another_request_is_no_answer(target):
    line = ModelLine(target)
    client = LinkClient(line, 0.01)
    client.ask(Kind.READ_REGISTERS, 0, 1)
    line.write = lambda data: setattr(line, "_back", line._model.feed(stale))
    stale = encode_request(Request(Kind.READ_REGISTERS, 99, 0, 1))
    with pytest.raises(DeviceLostError):
        client.ask(Kind.READ_REGISTERS, 0, 1)


def test_a_response_of_another_length_is_no_answer(target):
    line = ModelLine(target)
    client = LinkClient(line, 0.01)
    line.write = lambda data: setattr(line, "_back", line._model.feed(longer))
    longer = encode_request(Request(Kind.READ_REGISTERS, 0, 0, 2))
    with pytest.raises(DeviceLostError):
        client.ask(Kind.READ_REGISTERS, 0, 1)


class Slow(ModelLine):
    """A line that gives a few bytes at a time; or any bytes, for ever."""

    def __init__(self, target, seconds, chatter=b""):
        super().__init__(target)
        self._seconds, self._chatter = seconds, chatter

    def read(self, seconds):
        time.sleep(self._seconds)
        found, self._back = self._back[:3], self._back[3:]
        return found or self._chatter


def test_what_has_begun_may_take_as_long_again(target):
    line = Slow(target, 0.06)
    assert LinkClient(line, 0.4).ask(Kind.READ_REGISTERS, 0, 5)[0] == registers.MAGIC
    assert line.sent == 1


def test_a_line_that_never_stops_speaking_is_given_up(target):
    line = Slow(target, 0.001, b"\0")
    line.deaf = True
    with pytest.raises(DeviceLostError, match=r"no answer within 0\.01 s, asked 4 times"):
        LinkClient(line, 0.01).ask(Kind.READ_REGISTERS, 0, 1)


@pytest.mark.parametrize(("data", "reads"), [(b"", [0.5]), (b"\0", [0.5, 0.75, 0.5, 0.25])])
def test_a_line_that_speaks_has_twice_the_time(target, monkeypatch, data, reads):
    """The clock moves while the line is read: by all that it may, or a quarter of a second."""
    assert (module.BAUD, module.ANSWER_S, module.ATTEMPTS) == (1_000_000, 0.5, 4)
    assert (module.TAKEN_S, module.PATIENCE_S) == (5.0, 5.0)
    now, asked, line = [100.0], [], ModelLine(target)
    line.deaf = True

    def read(seconds):
        asked.append(seconds)
        now[0] += 0.25 if data else seconds
        return data

    line.read = read
    monkeypatch.setattr(module, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    with pytest.raises(DeviceLostError, match=r"no answer within 0\.5 s, asked 4 times"):
        LinkClient(line).ask(Kind.READ_REGISTERS, 0, 1)
    assert asked == reads * 4


def test_a_line_is_given_back_if_nothing_answers(target):
    line = ModelLine(target)
    line.deaf = True
    with pytest.raises(DeviceLostError):
        UartDevice(TINY, line=line, memory_bytes=MEMORY, answer_s=0.01)
    assert line.closed


def test_cycles_beyond_one_register_count(target):
    target.registers[registers.offset("CYCLES_HI")] = 3
    assert open_device(target)[0]._cycles() == 3 << 32 | 1000


def test_waiting_ends_with_the_interrupt_or_the_cycles(target):
    device, _ = open_device(target)
    assert device.wait(10_000) is False
    assert target.registers[registers.offset("CYCLES_LO")] == 11_000  # it began at 1,000
    target.registers[registers.offset("IRQ")] = 1
    assert device.wait(10_000) is True


def test_a_clock_that_stands_still_ends_the_waiting(target, monkeypatch):
    monkeypatch.setattr("transept.host.devices.uart.PATIENCE_S", 0.05)
    target.running = False
    assert open_device(target)[0].wait(10_000) is False


def test_a_terminal_passes_every_byte(target):
    master, slave = os.openpty()
    port = SerialPort(os.ttyname(slave), 115_200)
    every = bytes(range(256))
    port.write(every)
    assert os.read(master, 300) == every
    os.write(master, every)
    assert port.read(1) == every
    assert port.read(0.01) == b""
    port.close()
    with pytest.raises(OSError, match="Bad file"):
        port.write(b"x")


def test_a_terminal_is_set_whatever_was_left(target):
    """Of another user: two stop bits, flow control, and lines of a modem."""
    _, slave = os.openpty()
    settings = termios.tcgetattr(slave)
    settings[2] = (settings[2] | termios.CRTSCTS | termios.CSTOPB) & ~termios.CLOCAL
    termios.tcsetattr(slave, termios.TCSANOW, settings)
    SerialPort(os.ttyname(slave), 115_200).close()
    _, _, control, _, *rates, _ = termios.tcgetattr(slave)
    assert rates == [termios.B115200] * 2
    assert not control & (termios.CRTSCTS | termios.CSTOPB)
    assert control & termios.CLOCAL
    assert control & termios.CREAD


def test_a_port_that_takes_no_bytes_is_lost(target, monkeypatch):
    """Nobody reads at the other end."""
    monkeypatch.setattr("transept.host.devices.uart.TAKEN_S", 0.05)
    _, slave = os.openpty()
    port = SerialPort(os.ttyname(slave), 115_200)
    with pytest.raises(TimeoutError, match=r"the port has taken no byte for 0\.05 s"):
        port.write(bytes(1 << 20))
    with pytest.raises(DeviceLostError, match=r"the port has taken no byte for 0\.05 s"):
        LinkClient(port, 0.01).ask(Kind.READ_REGISTERS, 0, 1)


def opened():
    """Files that this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_terminals_that_cannot_be_opened_are_named(tmp_path):
    files = opened()
    with pytest.raises(DeviceError, match=r"nowhere: \[Errno 2\]"):
        SerialPort(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(DeviceError, match=r"file: .*Inappropriate ioctl"):
        SerialPort(tmp_path / "file")
    with pytest.raises(DeviceError, match="no rate of 12345 baud"):
        SerialPort(tmp_path / "file", 12345)
    assert opened() == files
