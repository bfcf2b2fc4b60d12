"""AXI masters: bytes, order, bursts, rate, abort and error responses."""

from __future__ import annotations

import random

import pytest
from memory_model import AxiMemory, put, simulate

from transept.golden.config import PYNQ_Z2, TINY
from transept.rtl.memory.reader import ReadMaster
from transept.rtl.memory.writer import WriteMaster

SIZE = 1 << 15


def _ranges(rng, count, beat_bytes, longest=60):
    """Random ranges that do not overlap in a way that matters for reads."""
    for _ in range(count):
        beats = rng.choice([1, 1, 2, 16, rng.randint(1, longest)])
        start = rng.randrange(SIZE // beat_bytes - beats) * beat_bytes
        yield start, beats * beat_bytes


async def _take(ctx, port, count, rng, stall):
    got = []
    while len(got) < count:
        ctx.set(port.ready, rng.random() >= stall)
        _, _, valid, ready, payload = await ctx.tick().sample(port.valid, port.ready, port.payload)
        if valid and ready:
            got.append(payload)
    ctx.set(port.ready, 0)
    return got


@pytest.mark.parametrize("cfg", [TINY, PYNQ_Z2], ids=lambda cfg: cfg.name)
@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_reads_give_each_client_its_bytes(cfg, stall):
    rng = random.Random(f"{cfg.name}/{stall}")
    memory = AxiMemory(SIZE, cfg.axi_bytes, stall=stall, seed=1)
    dut = ReadMaster(cfg)
    wanted = {name: list(_ranges(rng, 25, cfg.axi_bytes)) for name in ("fetch", "load")}

    def client(name):
        async def ask(ctx):
            for address, size in wanted[name]:
                await put(ctx, dut_port(name, "request"), {"address": address, "bytes": size})

        async def take(ctx):
            for address, size in wanted[name]:
                beats = await _take(ctx, dut_port(name, "data"), size // cfg.axi_bytes, rng, stall)
                got = b"".join(b["data"].to_bytes(cfg.axi_bytes, "little") for b in beats)
                assert got == memory.bytes[address : address + size]
                assert [b["last"] for b in beats] == [0] * (len(beats) - 1) + [1]

        ask.__name__, take.__name__ = f"ask_{name}", f"take_{name}"
        return ask, take

    def dut_port(name, kind):
        return getattr(dut, f"{name}_{kind}")

    simulate(
        dut,
        *client("fetch"),
        *client("load"),
        background=[memory.reads(dut.axi)],
        cycles=20000,
    )
    assert memory.most_outstanding <= 8


def test_reads_run_at_one_beat_a_cycle():
    cfg, beats = PYNQ_Z2, 256
    memory = AxiMemory(SIZE, cfg.axi_bytes, latency=30)
    dut = ReadMaster(cfg)
    cycles = []

    async def ask(ctx):
        await put(ctx, dut.load_request, {"address": 48, "bytes": beats * cfg.axi_bytes})

    async def take(ctx):
        ctx.set(dut.load_data.ready, 1)
        got = 0
        while got < beats:
            _, _, valid = await ctx.tick().sample(dut.load_data.valid)
            got += valid
            cycles.append(valid)
        assert ctx.get(dut.bytes_read) == beats * cfg.axi_bytes

    simulate(dut, ask, take, background=[memory.reads(dut.axi)], cycles=1000)
    assert len(cycles) <= beats + memory.latency + 8
    assert memory.most_outstanding == 8


@pytest.mark.parametrize("seed", range(4))
def test_aborted_reads_drain_and_the_master_survives(seed):
    cfg, rng = TINY, random.Random(seed)
    memory = AxiMemory(SIZE, cfg.axi_bytes, stall=0.3, seed=seed)
    dut = ReadMaster(cfg)

    async def bench(ctx):
        await put(ctx, dut.load_request, {"address": 0, "bytes": 4096})
        await put(ctx, dut.fetch_request, {"address": 64, "bytes": 1024})
        await ctx.tick().repeat(rng.randint(1, 60))
        ctx.set(dut.abort, 1)
        await ctx.tick()
        while not ctx.get(dut.idle):
            await ctx.tick()
        await ctx.tick().repeat(5)
        assert ctx.get(dut.idle)
        ctx.set(dut.abort, 0)
        await put(ctx, dut.load_request, {"address": 512, "bytes": 32})
        beats = await _take(ctx, dut.load_data, 8, rng, 0.2)
        got = b"".join(b["data"].to_bytes(4, "little") for b in beats)
        assert got == memory.bytes[512:544]
        assert not ctx.get(dut.fetch_data.valid)

    simulate(dut, bench, background=[memory.reads(dut.axi)], cycles=5000)


def test_a_read_error_is_sticky_until_cleared():
    memory = AxiMemory(SIZE, TINY.axi_bytes)
    dut = ReadMaster(TINY)

    async def bench(ctx):
        for response, expected in ((0, 0), (2, 1), (0, 1)):
            memory.responses["r"] = response
            await put(ctx, dut.load_request, {"address": 0, "bytes": 16})
            await _take(ctx, dut.load_data, 4, random.Random(0), 0)
            assert ctx.get(dut.error) == expected
        ctx.set(dut.clear, 1)
        await ctx.tick()
        assert ctx.get(dut.error) == 0
        assert ctx.get(dut.bytes_read) == 0

    simulate(dut, bench, background=[memory.reads(dut.axi)], cycles=1000)


@pytest.mark.parametrize("cfg", [TINY, PYNQ_Z2], ids=lambda cfg: cfg.name)
@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_writes_arrive_and_are_done_in_order(cfg, stall):
    rng = random.Random(f"{cfg.name}/{stall}")
    memory = AxiMemory(SIZE, cfg.axi_bytes, stall=stall, seed=2)
    dut = WriteMaster(cfg)
    expected = bytearray(memory.bytes)
    wanted = [
        (at, rng.randbytes(size), rng.random() < 0.5)
        for at, size in _ranges(rng, 30, cfg.axi_bytes)
    ]
    wanted.append((0, rng.randbytes(cfg.axi_bytes), True))
    for at, chunk, _ in wanted:
        expected[at : at + len(chunk)] = chunk

    async def ask(ctx):
        for at, chunk, last in wanted:
            await put(ctx, dut.request, {"address": at, "bytes": len(chunk), "last": last})

    async def fill(ctx):
        for _, chunk, _ in wanted:
            for start in range(0, len(chunk), cfg.axi_bytes):
                while rng.random() < stall:
                    await ctx.tick()
                beat = chunk[start : start + cfg.axi_bytes]
                await put(ctx, dut.data, int.from_bytes(beat, "little"))

    async def count(ctx):
        done = 0
        while done < sum(last for _, _, last in wanted):
            _, _, pulse = await ctx.tick().sample(dut.done)
            done += pulse
        assert ctx.get(dut.idle)
        assert memory.bytes == expected
        assert ctx.get(dut.bytes_written) == sum(len(chunk) for _, chunk, _ in wanted)

    simulate(dut, ask, fill, count, background=[memory.writes(dut.axi)], cycles=20000)


def test_writes_run_at_one_beat_a_cycle_even_in_short_bursts():
    cfg, requests = PYNQ_Z2, 100
    memory = AxiMemory(SIZE, cfg.axi_bytes, latency=4)
    dut = WriteMaster(cfg)
    cycles = []

    async def ask(ctx):
        for i in range(requests):
            await put(ctx, dut.request, {"address": 64 * i, "bytes": 16, "last": i == requests - 1})

    async def watch(ctx):
        ctx.set(dut.data.valid, 1)
        done = 0
        while not done:
            _, _, done = await ctx.tick().sample(dut.done)
            cycles.append(done)

    simulate(dut, ask, watch, background=[memory.writes(dut.axi)], cycles=1000)
    assert len(cycles) <= requests + memory.latency + 10


@pytest.mark.parametrize("seed", range(4))
def test_aborted_writes_complete_without_touching_memory(seed):
    cfg, rng = TINY, random.Random(seed)
    memory = AxiMemory(SIZE, cfg.axi_bytes, stall=0.3, seed=seed)
    before = bytes(memory.bytes)
    dut = WriteMaster(cfg)
    sent = rng.randint(0, 40)

    async def bench(ctx):
        await put(ctx, dut.request, {"address": 0, "bytes": 4096, "last": 1})
        for _ in range(sent):
            await put(ctx, dut.data, 0)
        await ctx.tick().repeat(rng.randint(1, 30))
        ctx.set(dut.abort, 1)
        await ctx.tick()
        while not ctx.get(dut.idle):
            await ctx.tick()
        ctx.set(dut.abort, 0)
        assert memory.bytes[4 * sent :] == before[4 * sent :]
        await put(ctx, dut.request, {"address": 512, "bytes": 4, "last": 1})
        await put(ctx, dut.data, 0x04030201)
        while not ctx.get(dut.done):
            await ctx.tick()
        assert memory.bytes[512:516] == bytes([1, 2, 3, 4])

    simulate(dut, bench, background=[memory.writes(dut.axi)], cycles=5000)


def test_a_write_error_is_sticky_until_cleared():
    memory = AxiMemory(SIZE, TINY.axi_bytes)
    dut = WriteMaster(TINY)

    async def bench(ctx):
        for response, expected in ((0, 0), (2, 1), (0, 1)):
            memory.responses["b"] = response
            await put(ctx, dut.request, {"address": 0, "bytes": 4, "last": 1})
            await put(ctx, dut.data, 1)
            while not ctx.get(dut.done):
                await ctx.tick()
            assert ctx.get(dut.error) == expected
        assert ctx.get(dut.bytes_written) == 3 * TINY.axi_bytes
        ctx.set(dut.clear, 1)
        await ctx.tick()
        assert ctx.get(dut.error) == 0
        assert ctx.get(dut.bytes_written) == 0

    simulate(dut, bench, background=[memory.writes(dut.axi)], cycles=1000)


def test_eight_writes_wait_for_their_responses():
    """Their data are sent; the ninth burst waits."""
    memory = AxiMemory(SIZE, TINY.axi_bytes, latency=300)
    dut = WriteMaster(TINY)

    async def ask(ctx):
        await put(ctx, dut.request, {"address": 0, "bytes": 20 * 16 * TINY.axi_bytes, "last": 1})
        ctx.set(dut.data.valid, 1)
        await ctx.tick().repeat(250)
        assert len(memory.bursts) == 8
        assert ctx.get(dut.bytes_written) == 8 * 16 * TINY.axi_bytes
        assert not ctx.get(dut.data.ready)

    simulate(dut, ask, background=[memory.writes(dut.axi)], cycles=300)
