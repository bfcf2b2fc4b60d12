"""cocotb tests of the serial link, through its pins, against its golden model."""

import cocotb
import settings
from cocotb.clock import Clock
from link_system import CYCLES, MEMORY_BYTES, PAUSE_BITS
from serial_line import SerialLine

from transept.golden import registers
from transept.golden.link import (
    REQUEST_SYNC,
    Kind,
    LinkModel,
    Request,
    Status,
    crc16,
    encode_request,
)
from transept.sim.streams import reset

CFG = settings.config()
WRITABLE = [registers.offset(f"WINDOW_BASE_{name}") for name in ("PROGRAM", "IO")]
BYTE = 10 * CYCLES
PAUSE = PAUSE_BITS * CYCLES
#: More than the device needs from the end of a request to the first byte of its response.
REST = PAUSE + 4 * BYTE
REQUESTS = 40


class Target:
    """Registers that are constant or windows, and memory."""

    def __init__(self):
        table = registers.table(CFG)
        self._registers = {r.offset: r.constant for r in table if r.constant is not None}
        self._registers |= dict.fromkeys(WRITABLE, 0)
        self._memory = {}

    def read(self, kind, address):
        if kind is Kind.READ_REGISTERS:
            return self._registers.get(address)
        return self._memory.get(address, 0) if address < MEMORY_BYTES else None

    def write(self, kind, address, word):
        if kind is Kind.WRITE_REGISTERS:
            if address in WRITABLE:
                self._registers[address] = word
            return address in WRITABLE
        if address < MEMORY_BYTES:
            self._memory[address] = word
        return address < MEMORY_BYTES


def words(rng, count):
    return tuple(rng.choice([0, 0xFFFFFFFF, 0xA5A5A5A5, rng.getrandbits(32)]) for _ in range(count))


def random_request(rng, sequence):
    kind = rng.choice(list(Kind))
    count = rng.choice([1, 1, 2, 3, rng.randrange(1, 9)])
    if kind is Kind.READ_REGISTERS:
        address, count = rng.choice([(0, 3), (WRITABLE[0], 1), (0xFFC, 1), (0x1000, 1)])
    elif kind is Kind.WRITE_REGISTERS:
        address, count = rng.choice([*WRITABLE, 0, 0x2000 + WRITABLE[0]]), 1
    else:
        address = 4 * rng.randrange(MEMORY_BYTES // 4 + 4)
    return Request(kind, sequence, address, count, words(rng, count) if kind & 1 else ())


class Pair:
    """The device at its pins, and the model that hears the same."""

    def __init__(self, dut, rng):
        self.line, self.model, self.rng = SerialLine(dut, CYCLES), LinkModel(Target()), rng
        self.expected = b""

    async def start(self, dut):
        Clock(dut.clk, 10, unit="ns").start()
        await reset(dut)
        cocotb.start_soon(self.line.listen())
        for address in range(0, MEMORY_BYTES, 256):  # block RAM begins with anything
            await self.ask(Request(Kind.WRITE_MEMORY, 0, address, 64, (0,) * 64))

    async def send(self, data, broken=None):
        """Bytes with gaps that a frame may have; ``broken`` is the index of one without stop."""
        for index, byte in enumerate(data):
            good = index != broken
            gap = self.rng.choice([0, 0, 0, self.rng.randrange(PAUSE // 2)])
            await self.line.send(byte, gap, int(good))
            if good:
                self.expected += self.model.feed(bytes([byte]))
            else:
                self.model.silence()

    async def settle(self):
        """Wait for all that comes, and compare it."""
        await self.line.rest(REST)
        self.model.silence()
        assert bytes(self.line.received) == self.expected, (
            f"{bytes(self.line.received).hex()} is not {self.expected.hex()}"
        )
        got, self.expected = self.expected, b""
        self.line.received.clear()
        return got

    async def ask(self, request):
        await self.send(encode_request(request))
        got = await self.settle()
        assert got, "a whole request is answered"
        return got


@cocotb.test()
async def answers_as_the_model_does(dut):
    pair = Pair(dut, settings.python_random(0))
    await pair.start(dut)
    for number in range(REQUESTS):
        await pair.ask(random_request(pair.rng, 1 + number % 255))


@cocotb.test()
async def damaged_requests_are_not_answered(dut):
    pair = Pair(dut, settings.python_random(1))
    rng, silent = pair.rng, 0
    await pair.start(dut)
    for number in range(REQUESTS):
        request = random_request(rng, 1 + number % 255)
        frame = bytearray(encode_request(request))
        at = rng.randrange(len(frame))
        damage = rng.choice(["byte", "lost", "garbage", "stop", "end"])
        if damage == "byte":
            frame[at] ^= 1 << rng.randrange(8)
        elif damage == "lost":
            del frame[at]
        elif damage == "garbage":
            frame = bytearray(rng.randbytes(rng.randrange(1, 9))) + frame
        elif damage == "end":
            del frame[at:]
        await pair.send(frame, broken=at if damage == "stop" else None)
        silent += not await pair.settle()
        await pair.ask(request)  # the same once more, whole
    assert silent > REQUESTS // 2


@cocotb.test()
async def a_frame_that_breaks_off_anywhere_is_forgotten(dut):
    """After the pause the next request is answered the first time."""
    pair = Pair(dut, settings.python_random(5))
    await pair.start(dut)
    request = Request(Kind.WRITE_REGISTERS, 1, WRITABLE[0], 1, (0x5000,))
    frame = encode_request(request)
    for end in range(1, len(frame)):
        await pair.send(frame[:end])
        assert not await pair.settle()
        await pair.ask(request)


@cocotb.test()
async def a_write_is_carried_out_once(dut):
    pair = Pair(dut, settings.python_random(2))
    await pair.start(dut)
    read = Request(Kind.READ_REGISTERS, 9, WRITABLE[0], 1)
    for sequences in ((7, 7), (7, 8), (0, 0), (7,), (7,)):  # a read, and 0, forget the last one
        for sequence in sequences:
            word = (pair.rng.getrandbits(16),)
            await pair.ask(Request(Kind.WRITE_REGISTERS, sequence, WRITABLE[0], 1, word))
        await pair.ask(read)


@cocotb.test()
async def nothing_is_written_beyond_the_registers(dut):
    """Not even where the lower bits of the address name one."""
    pair = Pair(dut, settings.python_random(4))
    await pair.start(dut)
    for address in (0x1000, 0x2000, 0x8000_0000):
        beyond = Request(Kind.WRITE_REGISTERS, 1, address + WRITABLE[0], 2, (0x5000, 0x6000))
        assert (await pair.ask(beyond))[1] == Status.BUS_ERROR
        await pair.ask(Request(Kind.READ_REGISTERS, 2, WRITABLE[0], 1))


@cocotb.test()
async def bad_requests_are_told(dut):
    pair = Pair(dut, settings.python_random(3))
    await pair.start(dut)
    for kind, count in ((4, 1), (200, 1), (0, 0), (2, 65), (3, 255), (1, 0)):
        body = bytes([kind, 1, count, 0, 0, 0, 0])
        await pair.send(bytes([REQUEST_SYNC]) + body + crc16(body).to_bytes(2, "little"))
        assert (await pair.settle())[1] == Status.BAD_REQUEST
    await pair.ask(Request(Kind.READ_REGISTERS, 1, 0, 1))
