"""Readers ahead of engines that pause: order, tags, and how many words wait."""

from __future__ import annotations

import random

import pytest
from amaranth.lib import data
from memory_model import put, simulate

from transept.golden.config import TINY
from transept.rtl.interfaces import ACT_READ_LATENCY
from transept.rtl.memory.pair_reader import PairReader
from transept.rtl.memory.word_reader import WORDS_AHEAD, WordReader

COUNT = 150
TAG = 6


def word(addr):
    """What lies at an address."""
    return [(addr * 7 + lane * 1000) % (1 << 16) - (1 << 15) for lane in range(TINY.tile)]


class Memory:
    """Answers ACT_READ_LATENCY cycles after it has accepted; noise in all others."""

    def __init__(self, port, rng, refuse):
        self.port, self.rng, self.refuse, self.accepted = port, rng, refuse, 0

    async def serve(self, ctx):
        due = [None] * (ACT_READ_LATENCY - 1)
        while True:
            ready = int(self.rng.random() >= self.refuse)
            ctx.set(self.port.ready, ready)
            _, _, en, addr = await ctx.tick().sample(self.port.en, self.port.addr)
            due.append(addr if en and ready else None)
            self.accepted += en & ready
            now = due.pop(0)
            noise = self.rng.randrange(TINY.act_words)
            ctx.set(self.port.data, word(noise if now is None else now))


def run(dut, requests, expected, seen, *, refuse, takes, patience=0):
    """Ask for all, take nothing for ``patience`` cycles; words that were read until then."""
    rng, waiting = random.Random(1), []
    memory = Memory(dut.port, rng, refuse)

    async def ask(ctx):
        for request in requests:
            while rng.random() < 0.1:
                await ctx.tick()
            await put(ctx, dut.i, request)

    async def take(ctx):
        got = []
        await ctx.tick().repeat(1 + patience)
        waiting.append(memory.accepted)
        while len(got) < len(requests):
            ctx.set(dut.o.ready, int(rng.random() < takes))
            if ctx.get(dut.o.valid) and ctx.get(dut.o.ready):
                got.append(seen(ctx.get(dut.o.payload)))
            await ctx.tick()
        assert got == expected
        await ctx.tick().repeat(5)
        assert not ctx.get(dut.o.valid)

    simulate(dut, ask, take, background=[memory.serve], cycles=3000)
    return waiting[0]


PACES = pytest.mark.parametrize(
    "pace",
    [
        {"refuse": 0.0, "takes": 1.0},
        {"refuse": 0.4, "takes": 0.5},
        {"refuse": 0.1, "takes": 0.2, "patience": 150},
    ],
    ids=["fast", "refused", "waits"],
)


@PACES
def test_words_come_with_their_tags(pace):
    rng = random.Random(2)
    requests = [
        {"addr": rng.randrange(TINY.act_words), "tag": rng.randrange(1 << TAG)}
        for _ in range(COUNT)
    ]
    requests[0]["addr"] = TINY.act_words - 1
    expected = [(word(request["addr"]), request["tag"]) for request in requests]
    read = run(WordReader(TINY, TAG), requests, expected, lambda o: (list(o.word), o.tag), **pace)
    assert "patience" not in pace or read == WORDS_AHEAD


@PACES
def test_pairs_come_with_their_tags(pace):
    rng = random.Random(3)
    requests = [
        {
            **{name: rng.randrange(TINY.act_words) for name in ("y_addr", "x_addr")},
            "paired": int(rng.random() < 0.6),
            "tag": {"tag": rng.randrange(1 << TAG)},
        }
        for _ in range(COUNT)
    ]
    expected = [
        (word(r["y_addr"]), word(r["x_addr"]) if r["paired"] else None, r["tag"]["tag"])
        for r in requests
    ]

    def seen(o):
        return list(o.y), list(o.x) if o.paired else None, o.tag.tag

    dut = PairReader(TINY, data.StructLayout({"tag": TAG}))
    read = run(dut, requests, expected, seen, **pace)
    ahead = requests[:WORDS_AHEAD]
    assert "patience" not in pace or read == len(ahead) + sum(r["paired"] for r in ahead)
