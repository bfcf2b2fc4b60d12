"""Block RAM behind the accelerator's own bus masters and the words of the link, all at once."""

import random

import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, connect, flipped
from memory_model import put, simulate
from unused import unused

from transept.golden.config import PYNQ_Z2, TINY, ULX3S
from transept.rtl.link.axi_slice import AxiSlice
from transept.rtl.link.block_memory import BlockMemory
from transept.rtl.link.bridge import word_port
from transept.rtl.link.uart import divisor
from transept.rtl.memory.reader import ReadMaster
from transept.rtl.memory.writer import WriteMaster

SIZE = 1 << 12
HALF = SIZE // 2


class System(wiring.Component):
    """Both masters on one memory, directly or behind registers."""

    def __init__(self, cfg, sliced=False):
        self.reader, self.writer = ReadMaster(cfg), WriteMaster(cfg)
        self.memory = BlockMemory(cfg, SIZE)
        self.slice = AxiSlice(cfg) if sliced else None
        super().__init__({"words": In(word_port())})

    def elaborate(self, platform):
        m = Module()
        m.submodules += [self.reader, self.writer, self.memory]
        bus = self.memory.axi
        if self.slice is not None:
            m.submodules.slice = self.slice
            connect(m, self.slice.o, bus)
            bus = self.slice.i
        for master in (self.reader, self.writer):
            for name, member in master.axi.signature.members.items():
                inner, outer = getattr(master.axi, name), getattr(bus, name)
                m.d.comb += outer.eq(inner) if member.flow is wiring.Out else inner.eq(outer)
        connect(m, flipped(self.words), self.memory.words)
        return m


async def ask(ctx, port, address, word=None):
    """One access of the link: (word read, error)."""
    ctx.set(port.addr, address // 4)
    ctx.set(port.write, word is not None)
    ctx.set(port.data, word or 0)
    ctx.set(port.valid, 1)
    ready = 0
    while not ready:
        _, _, ready = await ctx.tick().sample(port.ready)
    ctx.set(port.valid, 0)
    answer = 0
    while not answer:
        _, _, answer, value, error = await ctx.tick().sample(port.answer, port.value, port.error)
    return value, error


async def write(ctx, writer, address, data, beat):
    await put(ctx, writer.request, {"address": address, "bytes": len(data), "last": 1})
    for at in range(0, len(data), beat):
        await put(ctx, writer.data, int.from_bytes(data[at : at + beat], "little"))
    while not ctx.get(writer.idle):
        await ctx.tick()


async def read(ctx, reader, address, nbytes, beat, rng):
    await put(ctx, reader.load_request, {"address": address, "bytes": nbytes})
    got = b""
    port = reader.load_data
    while len(got) < nbytes:
        ctx.set(port.ready, rng.random() < 0.7)
        _, _, valid, ready, payload = await ctx.tick().sample(port.valid, port.ready, port.payload)
        if valid and ready:
            got += payload["data"].to_bytes(beat, "little")
    ctx.set(port.ready, 0)
    return got


@pytest.mark.parametrize("sliced", [False, True])
@pytest.mark.parametrize("cfg", [TINY, ULX3S, PYNQ_Z2], ids=lambda cfg: cfg.name)
def test_bursts_and_words_keep_out_of_each_others_way(cfg, sliced):
    dut, beat = System(cfg, sliced), cfg.axi_bytes

    async def bursts(ctx):
        rng, held = random.Random(1), bytearray(HALF)
        await write(ctx, dut.writer, 0, bytes(HALF), beat)
        for _ in range(12):
            beats = rng.choice([1, 2, 16, 40])
            address = rng.randrange(HALF // beat - beats) * beat
            held[address : address + beats * beat] = data = rng.randbytes(beats * beat)
            await write(ctx, dut.writer, address, data, beat)
            beats = rng.choice([1, 2, 16, 40])
            address = rng.randrange(HALF // beat - beats) * beat
            got = await read(ctx, dut.reader, address, beats * beat, beat, rng)
            assert got == held[address : address + beats * beat]
        assert not ctx.get(dut.reader.error | dut.writer.error)

    async def words(ctx):
        rng, held = random.Random(2), {}
        for _ in range(150):
            address = HALF + 4 * rng.randrange(16)
            if rng.random() < 0.5 or address not in held:
                held[address] = rng.getrandbits(32)
                assert (await ask(ctx, dut.words, address, held[address]))[1] == 0
            else:
                assert await ask(ctx, dut.words, address) == (held[address], 0)

    simulate(dut, bursts, words, cycles=20_000)


def test_the_link_sees_what_bursts_wrote_and_the_other_way_round():
    dut, beat = System(TINY), TINY.axi_bytes

    async def bench(ctx):
        await write(ctx, dut.writer, 8, bytes(range(16)), beat)
        assert (await ask(ctx, dut.words, 12))[0] == 0x07060504
        await ask(ctx, dut.words, 12, 0xAABBCCDD)
        got = await read(ctx, dut.reader, 8, 16, beat, random.Random(1))
        assert got.hex() == "00010203ddccbbaa08090a0b0c0d0e0f"

    simulate(dut, bench, cycles=1000)


def test_what_lies_beyond_the_end_is_an_error_and_stays_untouched():
    dut, beat = System(TINY), TINY.axi_bytes

    async def bench(ctx):
        await ask(ctx, dut.words, 0, 7)
        assert (await ask(ctx, dut.words, SIZE, 9))[1] == 1
        assert (await ask(ctx, dut.words, SIZE))[1] == 1
        await write(ctx, dut.writer, SIZE, bytes(8), beat)
        assert ctx.get(dut.writer.error)
        assert await ask(ctx, dut.words, 0) == (7, 0)
        assert not ctx.get(dut.reader.error)
        await read(ctx, dut.reader, SIZE, 8, beat, random.Random(1))
        assert ctx.get(dut.reader.error)

    simulate(dut, bench, cycles=1000)


async def burst(ctx, axi, letter, address, beats, number):
    """An address of ``beats`` beats with an ID; it must be taken at once."""
    for name, value in {"addr": address, "len": beats - 1, "id": number, "valid": 1}.items():
        ctx.set(getattr(axi, letter + name), value)
    assert ctx.get(getattr(axi, f"{letter}ready"))
    await ctx.tick()
    ctx.set(getattr(axi, f"{letter}valid"), 0)


@pytest.mark.parametrize(("address", "response"), [(4096, 0), (1 << 13, 3), (1 << 31, 3)])
def test_the_longest_bursts_with_pauses(address, response):
    """Beats and responses stay until they are taken, with the ID of their burst."""
    dut, rng = BlockMemory(PYNQ_Z2, 1 << 13), random.Random(4)
    axi, beats = dut.axi, 256
    sent = [rng.getrandbits(128) for _ in range(beats)]

    async def write(ctx, number):
        await burst(ctx, axi, "aw", address, beats, number)
        assert not ctx.get(axi.awready)
        for place, value in enumerate(sent):
            while rng.random() < 0.3:
                await ctx.tick()
            ctx.set(axi.wdata, value)
            ctx.set(axi.wstrb, 0xFFFF)
            ctx.set(axi.wlast, place == beats - 1)
            ctx.set(axi.wvalid, 1)
            assert ctx.get(axi.wready)
            assert not ctx.get(axi.bvalid)
            await ctx.tick()
            ctx.set(axi.wvalid, 0)
        for taken in (0, 0, 1):
            assert not ctx.get(axi.awready)
            assert not ctx.get(axi.wready)
            facts = ctx.get(axi.bvalid), ctx.get(axi.bresp), ctx.get(axi.bid)
            assert facts == (1, response, number)
            ctx.set(axi.bready, taken)
            await ctx.tick()
        ctx.set(axi.bready, 0)
        assert not ctx.get(axi.bvalid)

    async def read(ctx, number):
        await burst(ctx, axi, "ar", address, beats, number)
        got = []
        while len(got) < beats:
            assert not ctx.get(axi.arready)
            ctx.set(axi.rready, rng.random() < 0.6)
            if ctx.get(axi.rvalid) and ctx.get(axi.rready):
                got.append(ctx.get(axi.rdata))
                assert (ctx.get(axi.rresp), ctx.get(axi.rid)) == (response, number)
                assert ctx.get(axi.rlast) == (len(got) == beats)
            await ctx.tick()
        ctx.set(axi.rready, 0)
        assert not ctx.get(axi.rvalid)
        return got

    async def bench(ctx):
        for number in (1, 0):
            await write(ctx, number)
            got = await read(ctx, number)
            assert (got == sent) == (not response)

    simulate(dut, bench, cycles=4000)


@pytest.mark.parametrize("nbytes", [0, 6, 12, 4])
def test_sizes_that_no_memory_has(nbytes):
    with (
        unused(),
        pytest.raises(ValueError, match=f"block memory of {nbytes} bytes must be a power"),
    ):
        BlockMemory(TINY, nbytes)


@pytest.mark.parametrize(
    ("clock", "baud", "cycles"), [(25_000_000, 1_000_000, 25), (50_000_000, 3_000_000, 17)]
)
def test_cycles_of_a_bit(clock, baud, cycles):
    assert divisor(clock, baud) == cycles


@pytest.mark.parametrize(("clock", "baud"), [(10_000_000, 3_000_000), (25_000_000, 7_000_000)])
def test_rates_that_drift_are_refused(clock, baud):
    with pytest.raises(ValueError, match=f"{baud} baud cannot be made from {clock} Hz"):
        divisor(clock, baud)
