"""Requests of the link on buses that pause, of every length, against the golden model."""

from __future__ import annotations

import random

import pytest
from memory_model import simulate

from transept.golden.link import (
    MAX_WORDS,
    REQUEST_SYNC,
    Kind,
    LinkModel,
    Request,
    Response,
    Status,
    crc16,
    encode_request,
    encode_response,
)
from transept.rtl.link.bridge import LinkBridge

PAUSE = 32
#: More than any request takes.
LIMIT_CYCLES = 3000
REGISTERS = 1 << 12
#: The last word of memory; what is beyond answers with an error.
MEMORY_END = (1 << 32) - 4 * 80
ERRORS = (8, 0x40, REGISTERS - 4)


class Target:
    """Registers and memory, some of which answer with errors; it knows what was asked for."""

    def __init__(self):
        self.words, self.asked = {}, []

    def _fails(self, kind, address):
        if kind in (Kind.READ_REGISTERS, Kind.WRITE_REGISTERS):
            return address in ERRORS or address >= REGISTERS
        return address >= MEMORY_END

    def read(self, kind, address):
        if self._fails(kind, address):
            return None
        self.asked.append((kind, address))
        return self.words.get((kind | 1, address), (address * 0x9E3779B1 + kind) % (1 << 32))

    def write(self, kind, address, word):
        if self._fails(kind, address):
            return False
        self.asked.append((kind, address, word))
        self.words[kind, address] = word
        return True


class Bench:
    """The bridge between a line of bytes, a register bus and memory."""

    def __init__(self, seed, pace):
        self.dut, self.rng, self.pace = LinkBridge(PAUSE), random.Random(seed), pace
        self.device, self.golden, self.sent = Target(), Target(), []
        self.model = LinkModel(self.golden)

    def ready(self):
        return int(self.rng.random() < self.pace)

    async def pauses(self, ctx):
        while not self.ready():
            await ctx.tick()

    async def registers(self, ctx):
        bus = self.dut.axil
        while True:
            kind, taken = None, {}
            while "ar" not in taken and not {"aw", "w"} <= taken.keys():
                for name in ("aw", "w", "ar"):
                    ctx.set(getattr(bus, f"{name}ready"), self.ready() and name not in taken)
                for name, payload in (("aw", bus.awaddr), ("w", bus.wdata), ("ar", bus.araddr)):
                    if ctx.get(getattr(bus, f"{name}valid")):
                        assert name not in taken
                        if ctx.get(getattr(bus, f"{name}ready")):
                            taken[name] = ctx.get(payload)
                            assert ctx.get(bus.wstrb) == 0xF
                await ctx.tick()
            for name in ("aw", "w", "ar"):
                ctx.set(getattr(bus, f"{name}ready"), 0)
            await self.pauses(ctx)
            kind = Kind.READ_REGISTERS if "ar" in taken else Kind.WRITE_REGISTERS
            if kind is Kind.READ_REGISTERS:
                value = self.device.read(kind, taken["ar"])
                ctx.set(bus.rdata, self.rng.getrandbits(32) if value is None else value)
                ctx.set(bus.rresp, 2 * (value is None))
                ctx.set(bus.rvalid, 1)
                assert ctx.get(bus.rready)
            else:
                ctx.set(bus.bresp, 2 * (not self.device.write(kind, taken["aw"], taken["w"])))
                ctx.set(bus.bvalid, 1)
                assert ctx.get(bus.bready)
            await ctx.tick()
            ctx.set(bus.rvalid, 0)
            ctx.set(bus.bvalid, 0)

    async def memory(self, ctx):
        port = self.dut.memory
        while True:
            ctx.set(port.ready, self.ready())
            ctx.set(port.value, self.rng.getrandbits(32))
            ctx.set(port.answer, 0)
            if not (ctx.get(port.valid) and ctx.get(port.ready)):
                await ctx.tick()
                continue
            address, word = 4 * ctx.get(port.addr), ctx.get(port.data)
            if ctx.get(port.write):
                error = not self.device.write(Kind.WRITE_MEMORY, address, word)
            else:
                value = self.device.read(Kind.READ_MEMORY, address)
                error = value is None
            await ctx.tick()
            ctx.set(port.ready, 0)
            await self.pauses(ctx)
            ctx.set(port.error, error)
            if not ctx.get(port.write) and not error:
                ctx.set(port.value, value)
            ctx.set(port.answer, 1)
            await ctx.tick()

    async def line(self, ctx):
        out = self.dut.o
        while True:
            ctx.set(out.ready, self.ready())
            if ctx.get(out.valid) and ctx.get(out.ready):
                self.sent.append(ctx.get(out.payload))
            await ctx.tick()

    async def send(self, ctx, data, gaps=None):
        """Bytes with pauses between them; ``gaps``: after how many cycles each one comes."""
        expected = b""
        for place, byte in enumerate(data):
            gap = self.rng.choice([0, 0, 1, 5]) if gaps is None else gaps[place]
            for _ in range(gap):
                await ctx.tick()
            if place and gap > PAUSE:
                self.model.silence()
            expected += self.model.feed(bytes([byte]))
            ctx.set(self.dut.byte, byte)
            ctx.set(self.dut.valid, 1)
            await ctx.tick()
            ctx.set(self.dut.valid, 0)
            ctx.set(self.dut.byte, self.rng.randrange(256))
        return expected

    async def ask(self, ctx, data, gaps=None):
        """One frame and its whole response, during which noise arrives."""
        expected = await self.send(ctx, data, gaps)
        cycles = 0
        while len(self.sent) < len(expected) and cycles < LIMIT_CYCLES:
            if self.rng.random() < 0.1:
                ctx.set(self.dut.byte, self.rng.choice([0x00, 0xFF, 0x5A]))
                ctx.set(self.dut.valid, 1)
            await ctx.tick()
            ctx.set(self.dut.valid, 0)
            cycles += 1
        await ctx.tick().repeat(PAUSE + 4)
        self.model.silence()
        assert bytes(self.sent) == expected
        assert self.device.asked == self.golden.asked
        self.sent.clear()
        return expected

    def run(self, bench, cycles):
        background = [self.registers, self.memory, self.line]
        simulate(self.dut, bench, background=background, cycles=cycles)


def words(rng, count):
    return tuple(rng.choice([0, 0xFFFFFFFF, rng.getrandbits(32)]) for _ in range(count))


def requests(rng):
    """Every kind with few and with most words, at the borders of registers and memory."""
    for number in range(1, 4):
        for kind in rng.sample(list(Kind), 4):
            of_registers = kind in (Kind.READ_REGISTERS, Kind.WRITE_REGISTERS)
            end = REGISTERS if of_registers else MEMORY_END
            for count in {1: [1, 2], 2: [MAX_WORDS], 3: [3]}[number]:
                last = end - 4 * count
                address = {1: 0xC, 2: 0x80, 3: last + 4}[number]
                if not of_registers and number == 2:
                    address = last
                sequence = rng.choice([0, 1, 0x80, 0xFF])
                yield Request(kind, sequence, address, count, words(rng, count) if kind & 1 else ())


@pytest.mark.parametrize("pace", [1.0, 0.4])
def test_requests_are_carried_out_as_the_model_does(pace):
    bench = Bench(1, pace)

    async def host(ctx):
        for request in requests(bench.rng):
            assert await bench.ask(ctx, encode_request(request)), request

    bench.run(host, cycles=30_000)


def test_a_frame_may_pause_so_long_and_no_longer():
    bench = Bench(2, 0.7)
    request = Request(Kind.WRITE_REGISTERS, 5, 0x10, 1, (0x12345678,))
    frame = encode_request(request)

    async def host(ctx):
        assert await bench.ask(ctx, frame, gaps=[PAUSE] * len(frame))
        for place in range(1, len(frame)):
            gaps = [0] * len(frame)
            gaps[place] = PAUSE + 1
            assert not await bench.ask(ctx, frame, gaps)
        for place in range(1, len(frame)):
            await bench.send(ctx, frame[:place], [0] * place)
            ctx.set(bench.dut.error, 1)  # a damaged byte
            await ctx.tick()
            ctx.set(bench.dut.error, 0)
            bench.model.silence()
            expected = await bench.send(ctx, frame[place:], [0] * len(frame))
            assert not expected
            await ctx.tick().repeat(PAUSE + 10)
            bench.model.silence()
            assert not bench.sent
        assert await bench.ask(ctx, frame)

    bench.run(host, cycles=20_000)


def test_a_request_between_words_is_answered_too():
    """Whatever arrives whole is, also what ``encode_request`` refuses to make."""
    bench = Bench(3, 1.0)

    async def host(ctx):
        for address in (0x11, 0x12):
            body = bytes([Kind.WRITE_REGISTERS, 5, 1, address, 0, 0, 0, 1, 2, 3, 4])
            frame = bytes([REQUEST_SYNC]) + body + crc16(body).to_bytes(2, "little")
            assert await bench.ask(ctx, frame)

    bench.run(host, cycles=10_000)


@pytest.mark.parametrize("places", [(0,), (2,), (0, 2)])
def test_a_repeated_write_has_the_status_of_the_first(places):
    """An error in any word, be it not the last, is remembered."""
    bench = Bench(4, 1.0)
    failing = tuple(0x20 + 4 * place for place in places)

    def write(target):
        def carried_out(kind, address, word):
            target.asked.append((kind, address, word))
            return address not in failing

        return carried_out

    for target in (bench.device, bench.golden):
        target.write = write(target)
    frame = encode_request(Request(Kind.WRITE_REGISTERS, 5, 0x20, 3, (1, 2, 3)))

    async def host(ctx):
        first = await bench.ask(ctx, frame)
        assert await bench.ask(ctx, frame) == first
        assert first == encode_response(Response(Status.BUS_ERROR, 5))
        assert len(bench.device.asked) == 3

    bench.run(host, cycles=10_000)
