"""Scratchpads and row statistics under random traffic, against arrays."""

from __future__ import annotations

import random

import pytest
from memory_model import simulate

from transept.golden.config import PYNQ_Z2, TINY
from transept.rtl.interfaces import (
    ACT_GEMM_READ_LATENCY,
    ACT_READ_LATENCY,
    ACT_WRITE_LATENCY,
    ROWSTAT_READ_LATENCY,
    STAT_READ_LATENCY,
)
from transept.rtl.memory.activation import ActivationScratchpad
from transept.rtl.memory.blocks import beside_distance
from transept.rtl.memory.rowstat import RowStatistics
from transept.rtl.memory.stationary import StationaryScratchpad

BY_NAME = pytest.mark.parametrize("cfg", [TINY, PYNQ_Z2], ids=lambda cfg: cfg.name)


class Traffic:
    """Every port asks at random; reads must return what the array held when they were accepted,
    with what was written ``write_latency`` cycles before the last one. Those of ``late`` are made a
    cycle after they are accepted."""

    def __init__(self, dut, readers, writers, latency, value, addresses, write_latency=0, late=()):
        self.dut, self.latency, self.value, self.addresses = dut, latency, value, addresses
        self.late = late
        self.readers = {name: getattr(dut, name) for name in readers}
        self.writers = {name: getattr(dut, name) for name in writers}
        self.array, self.written = {}, [[] for _ in range(write_latency)]
        self.accepted = dict.fromkeys([*readers, *writers], 0)

    async def fill(self, ctx):
        port = next(iter(self.writers.values()))
        ctx.set(port.en, 1)
        for addr in self.addresses:
            self.array[addr] = self.value()
            ctx.set(port.addr, addr)
            ctx.set(port.data, self.array[addr])
            await ctx.tick()
        ctx.set(port.en, 0)
        await ctx.tick().repeat(1 + len(self.written))

    def _offer(self, ctx, port, rng, write):
        ctx.set(port.en, 1)
        ctx.set(port.addr, rng.choice(self.addresses))
        if write:
            ctx.set(port.data, self.value())

    def _words(self, ctx, name, port):
        """What is written when a request is accepted."""
        return [(ctx.get(port.addr), ctx.get(port.data))]

    async def run(self, ctx, cycles, rng, rate=0.7):
        """A refused request stays until it is accepted."""
        ports = self.readers | self.writers
        due = {name: [] for name in self.readers}
        asked = dict.fromkeys(self.late)
        free = dict.fromkeys(ports, True)
        for _ in range(cycles):
            for name, port in ports.items():
                if free[name]:
                    ctx.set(port.en, 0)
                    if rng.random() < rate:
                        self._offer(ctx, port, rng, name in self.writers)
            self.written.append([])
            for name, port in self.readers.items():
                addr = None
                if not free[name] or ctx.get(port.en):
                    free[name] = not hasattr(port, "ready") or bool(ctx.get(port.ready))
                    if free[name]:
                        addr = ctx.get(port.addr)
                        self.accepted[name] += 1
                if name in self.late:
                    asked[name], addr = addr, asked[name]
                due[name].insert(0, None if addr is None else self.array[addr])
            for name, port in self.writers.items():
                if ctx.get(port.en):
                    free[name] = bool(ctx.get(port.ready))
                    if free[name]:
                        self.written[-1] += self._words(ctx, name, port)
                        self.accepted[name] += 1
            self.array.update(self.written.pop(0))
            await ctx.tick()
            for name, port in self.readers.items():
                if len(due[name]) >= self.latency:
                    expected = due[name].pop()
                    if expected is not None:
                        assert list_of(ctx.get(port.data)) == list_of(expected), name


def list_of(word):
    return word if isinstance(word, int) else list(word)


def _words(cfg, rng, bits):
    half = 1 << (bits - 1)
    return lambda: [rng.randrange(-half, half) for _ in range(cfg.tile)]


@BY_NAME
def test_activation_serves_all_ports(cfg):
    rng = random.Random(cfg.name)
    edges = [sum(cfg.memories.act_banks[:bank]) for bank in range(len(cfg.memories.act_banks))]
    addresses = sorted({a + d for a in edges for d in range(12)} | {a - 1 for a in edges[1:]})
    addresses += [cfg.act_words - 1, edges[1] // 3 * 2, edges[1] // 3 * 2 - 1]
    dut = ActivationScratchpad(cfg)
    traffic = Traffic(
        dut,
        ["gemm_read", "softmax_read", "vector_read", "store_read"],
        ["gemm_write", "softmax_write", "vector_write", "load_write"],
        ACT_READ_LATENCY,
        _words(cfg, rng, 16),
        addresses,
        ACT_WRITE_LATENCY,
        late=["gemm_read"],
    )
    assert ACT_GEMM_READ_LATENCY == ACT_READ_LATENCY + 1

    async def bench(ctx):
        await traffic.fill(ctx)
        await traffic.run(ctx, 400, rng)

    simulate(dut, bench, cycles=2000)
    side = [traffic.accepted[f"{name}_read"] for name in ("softmax", "vector", "store")]
    assert min(side) > max(side) // 2, "turns are not fair"
    assert sum(side) > 300, "different banks are served together"
    others = [traffic.accepted[f"{name}_write"] for name in ("softmax", "vector", "load")]
    assert min(others) > max(others) // 2


def test_gemm_is_never_refused_and_holds_only_its_bank():
    dut = ActivationScratchpad(TINY)

    async def bench(ctx):
        ctx.set(dut.gemm_read.en, 1)
        ctx.set(dut.gemm_read.addr, 5)
        ctx.set(dut.store_read.en, 1)
        assert not ctx.get(dut.store_read.ready), "its turn is from the next cycle on"
        await ctx.tick()
        ctx.set(dut.gemm_read.en, 0)
        await ctx.tick()
        ctx.set(dut.gemm_read.en, 1)
        assert ctx.get(dut.store_read.ready), "GEMM's read is made in the next cycle"
        await ctx.tick()
        for addr, ready in (
            (6, 0),
            (TINY.memories.act_banks[0], 1),
            (TINY.memories.act_banks[0] - 1, 0),
        ):
            ctx.set(dut.store_read.addr, addr)
            assert ctx.get(dut.store_read.ready) == ready
            assert ctx.get(dut.gemm_read.ready)
            await ctx.tick()
        ctx.set(dut.gemm_write.en, 1)
        ctx.set(dut.load_write.en, 1)
        assert ctx.get(dut.gemm_write.ready)
        assert not ctx.get(dut.load_write.ready)

    simulate(dut, bench, cycles=100)


class Pairs(Traffic):
    """Some words of ``load_write`` have another one ``distance`` behind or before them."""

    pairs = distance = 0

    def _offer(self, ctx, port, rng, write):
        super()._offer(ctx, port, rng, write)
        if port is self.dut.load_write:
            beside = self.dut.load_beside
            ctx.set(beside.en, rng.randrange(2))
            ctx.set(beside.addr, ctx.get(port.addr) ^ self.distance)
            ctx.set(beside.data, self.value())

    def _words(self, ctx, name, port):
        words = super()._words(ctx, name, port)
        if name == "load_write" and ctx.get(self.dut.load_beside.en):
            words += super()._words(ctx, "load_beside", self.dut.load_beside)
            self.pairs += 1
        return words


def _stationary(cfg):
    """Traffic of one stationary scratchpad."""
    rng, words = random.Random(cfg.name), cfg.memories.stat_words
    some = [0, 1, 2, words // 2, words * 2 // 3, words - 1]
    addresses = sorted({*some, *(addr ^ beside_distance(cfg) for addr in some)})
    readers, writers = ["gemm_read", "param_read", "store_read"], ["gemm_write", "load_write"]
    kind, dut = Pairs if cfg.blocks.packed else Traffic, StationaryScratchpad(cfg)
    value = _words(cfg, rng, 8)
    traffic = kind(dut, readers, writers, STAT_READ_LATENCY, value, addresses)
    traffic.distance = beside_distance(cfg)

    async def bench(ctx):
        await traffic.fill(ctx)
        await traffic.run(ctx, 400, rng)

    simulate(dut, bench, cycles=1000)
    assert traffic.accepted["load_write"] > 50
    return traffic


@BY_NAME
def test_stationary_in_two_halves(cfg):
    """Two words are written together; GEMM's tiles go before parameters of the same half."""
    traffic = _stationary(cfg)
    assert traffic.pairs > 20
    served = traffic.accepted
    assert 50 < served["store_read"] < served["param_read"] < served["gemm_read"]


def test_stationary_of_one_bank():
    """Parameters go before GEMM's tiles."""
    served = _stationary(TINY.replace(name="whole", packed=False)).accepted
    assert 0 < served["store_read"] < served["gemm_read"] < served["param_read"]


def test_parameters_wait_only_for_tiles_of_their_half():
    dut, far = StationaryScratchpad(TINY), beside_distance(TINY)

    async def bench(ctx):
        for reader in (dut.gemm_read, dut.store_read):
            ctx.set(dut.param_read.en, 1)
            ctx.set(reader.en, 1)
            for addr in (0, far, 3 * far, 4 * far):
                ctx.set(reader.addr, addr)
                for mine in (5 * far, 6 * far):
                    ctx.set(dut.param_read.addr, mine)
                    assert ctx.get(dut.param_read.ready) == ((addr ^ mine) & far != 0)
            ctx.set(reader.en, 0)
            assert ctx.get(dut.param_read.ready)

    simulate(dut, bench, cycles=100)


def test_words_that_are_written_can_be_observed():
    """By whoever writes them, in the cycle in which they are accepted."""
    dut, rng, expected, seen = StationaryScratchpad(TINY), random.Random(4), [], []

    async def bench(ctx):
        for _ in range(200):
            facts = {}
            for name in ("gemm", "load"):
                port = getattr(dut, f"{name}_write")
                facts[name] = {
                    "observe": rng.randrange(2),
                    "summary": rng.randrange(TINY.key_summaries),
                    "first": rng.randrange(2),
                    "data": [rng.randrange(-128, 128) for _ in range(TINY.tile)],
                }
                ctx.set(port.en, rng.random() < 0.6)
                for field, value in facts[name].items():
                    ctx.set(getattr(port, field), value)
            writers = [n for n in ("gemm", "load") if ctx.get(getattr(dut, f"{n}_write").en)]
            if writers and facts[writers[0]]["observe"]:
                fact = facts[writers[0]]
                expected.append((fact["summary"], fact["first"], fact["data"]))
            if ctx.get(dut.observed.valid):
                item = ctx.get(dut.observed.payload)
                seen.append((item.summary, item.first, list(item.word)))
            await ctx.tick()

    simulate(dut, bench, cycles=1000)
    assert seen == expected
    assert len(seen) > 50


@BY_NAME
def test_row_statistics(cfg):
    rng = random.Random(cfg.name)
    dut = RowStatistics(cfg)
    traffic = Traffic(
        dut,
        ["gemm_read", "epilogue_read", "softmax_read"],
        ["epilogue_write", "softmax_write", "vector_write", "load_write"],
        ROWSTAT_READ_LATENCY,
        lambda: rng.randrange(1 << 24),
        [0, 1, 2, 7, cfg.memories.rowstat_entries - 1],
    )

    async def bench(ctx):
        await traffic.fill(ctx)
        await traffic.run(ctx, 300, rng, rate=0.5)

    simulate(dut, bench, cycles=1000)
    assert min(traffic.accepted.values()) > 30


def test_no_writer_waits_for_what_others_ask_but_gemm():
    """Whose turn it is has been decided before; a turn is kept while nobody else asks."""
    dut = ActivationScratchpad(TINY)
    side = (dut.softmax_write, dut.vector_write, dut.load_write)

    async def bench(ctx):
        for mine in side:
            ctx.set(mine.en, 1)
            await ctx.tick().repeat(2)
            for asks in range(8):
                for bit, port in enumerate(side):
                    ctx.set(port.en, asks >> bit & 1)
                assert [ctx.get(port.ready) for port in side] == [port is mine for port in side]
            ctx.set(dut.gemm_write.en, 1)
            assert not any(ctx.get(port.ready) for port in side)
            ctx.set(dut.gemm_write.en, 0)
            for port in side:
                ctx.set(port.en, 0)

    simulate(dut, bench, cycles=100)


def test_a_turn_is_not_lost_to_gemm():
    """GEMM writes every other cycle, two others always: both write."""
    dut = ActivationScratchpad(TINY)
    others, accepted = (dut.softmax_write, dut.load_write), [0, 0]

    async def bench(ctx):
        for port in others:
            ctx.set(port.en, 1)
        for cycle in range(40):
            ctx.set(dut.gemm_write.en, cycle % 2)
            for number, port in enumerate(others):
                accepted[number] += ctx.get(port.ready)
            await ctx.tick()

    simulate(dut, bench, cycles=100)
    assert min(accepted) >= 9
    assert sum(accepted) == 20
