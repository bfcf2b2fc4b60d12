"""Turns at a memory port: who is accepted, and that the port has what belongs to it."""

from __future__ import annotations

import itertools
import random

import pytest
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from memory_model import simulate

from transept.rtl.memory.arbiter import PortArbiter
from transept.rtl.memory.bank import Span

PORT = wiring.Signature({"en": Out(1), "addr": Out(8), "ready": In(1), "data": In(8)})


class Turns:
    """Whose turn it is: the first one after the last one that asks."""

    def __init__(self, count, urgent):
        self.taking = list(range(int(urgent), count))
        self.last = self.taking[0]

    def following(self, asks):
        at = self.taking.index(self.last)
        order = self.taking[at + 1 :] + self.taking[: at + 1]
        return next((client for client in order if asks[client]), self.last)


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("urgent", [False, True])
@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_clients_take_turns(count, urgent, ahead):
    dut = PortArbiter(PORT, count, urgent=urgent, ahead=ahead)
    rng, turns, accepted = random.Random(count), Turns(count, urgent), [0] * count

    async def bench(ctx):
        for cycle in range(300):
            asks = [int(rng.random() < 0.4) for _ in range(count)]
            held = [int(rng.random() < 0.2) for _ in range(count)]
            free, word = int(rng.random() < 0.8), rng.randrange(256)
            for client, en in enumerate(asks):
                ctx.set(dut.clients[client].en, en)
                ctx.set(dut.clients[client].addr, (cycle + 50 * client) % 256)
            ctx.set(dut.held, sum(bit << client for client, bit in enumerate(held)))
            ctx.set(dut.port.ready, free)
            ctx.set(dut.port.data, word)
            following = turns.following(asks)
            first = urgent and asks[0]
            chosen = 0 if first else turns.last if ahead else following
            assert ctx.get(dut.port.en) == asks[chosen]
            if asks[chosen]:
                assert ctx.get(dut.port.addr) == (cycle + 50 * chosen) % 256
            for client, en in enumerate(asks):
                assert ctx.get(dut.clients[client].data) == word
                if en:
                    wanted = int(client == chosen and free and not held[client])
                    assert ctx.get(dut.clients[client].ready) == wanted
                    accepted[client] += wanted
            if not first:
                turns.last = following
            await ctx.tick()

    simulate(dut, bench, cycles=400)
    assert min(accepted) > 5


SPANS = [Span(first, words) for first in range(12) for words in range(1, 17 - first)]


def test_spans_hold_their_words_in_pages():
    """Of every first word and every size, and of their pages, whose sizes are powers of two."""
    addr, m = Signal(4), Module()
    parts = list(itertools.chain.from_iterable([span, *span.pages()] for span in SPANS))
    held = Signal(len(parts))
    m.d.comb += held.eq(Cat(part.holds(addr) for part in parts))
    found = []

    async def bench(ctx):
        for at in range(16):
            ctx.set(addr, at)
            found.append(ctx.get(held))
            await ctx.tick()

    m.d.sync += Signal().eq(1)
    simulate(m, bench, cycles=20)
    for number, part in enumerate(parts):
        words = [at for at, bits in enumerate(found) if bits >> number & 1]
        assert words == list(range(part.first, part.first + part.words)), part
    for span in SPANS:
        pages = span.pages()
        assert [page.words for page in pages] == sorted(
            (1 << bit for bit in range(5) if span.words >> bit & 1), reverse=True
        )
        assert [page.first for page in pages] == [
            span.first + sum(page.words for page in pages[:number]) for number in range(len(pages))
        ]
