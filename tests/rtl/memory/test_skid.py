"""Registers in streams: nothing is lost, and no path runs through them."""

from __future__ import annotations

import random

import pytest
from memory_model import simulate

from transept.rtl.memory.skid import Skid, Slot

BOTH = pytest.mark.parametrize("component", [Skid, Slot])
COUNT = 300


async def feed(ctx, dut, rng, rate):
    """Offer numbers in order; an offer stays until it is accepted, what is not one is noise."""
    number, offered = 0, False
    while number < COUNT:
        offered = offered or rng.random() < rate
        ctx.set(dut.i.valid, int(offered))
        ctx.set(dut.i.payload, number if offered else rng.randrange(1 << 16))
        if offered and ctx.get(dut.i.ready):
            number, offered = number + 1, False
        await ctx.tick()
    ctx.set(dut.i.valid, 0)


async def drain(ctx, dut, rng, rate):
    """Take numbers until all are there; results: numbers, cycles."""
    taken, cycles = [], 0
    while len(taken) < COUNT:
        ctx.set(dut.o.ready, int(rng.random() < rate))
        if ctx.get(dut.o.valid) and ctx.get(dut.o.ready):
            taken.append(ctx.get(dut.o.payload))
        cycles += 1
        await ctx.tick()
    return taken, cycles


def run(component, seed, offers=1.0, takes=1.0):
    dut, rng, found = component(16), random.Random(seed), []

    async def source(ctx):
        await feed(ctx, dut, rng, offers)

    async def sink(ctx):
        found.extend(await drain(ctx, dut, rng, takes))
        await ctx.tick().repeat(3)
        assert not ctx.get(dut.o.valid)

    simulate(dut, source, sink, cycles=8000)
    assert found[0] == list(range(COUNT))
    return found[1]


@BOTH
@pytest.mark.parametrize("seed", range(4))
def test_random_pauses_lose_nothing(component, seed):
    rng = random.Random(seed)
    run(component, seed, offers=rng.choice([0.3, 0.6, 1]), takes=rng.choice([0.3, 0.6, 1]))


def test_skid_takes_one_a_cycle():
    assert run(Skid, 0) <= COUNT + 2


def test_slot_takes_one_every_other_cycle():
    assert run(Slot, 0) <= 2 * COUNT + 2


@BOTH
def test_outputs_are_registers(component):
    """Neither side sees in a cycle what the other one does in it."""
    dut = component(16)

    async def bench(ctx):
        for _ in range(3):  # empty, then as full as it gets
            before = ctx.get(dut.i.ready), ctx.get(dut.o.valid), ctx.get(dut.o.payload)
            for valid, ready in ((1, 1), (0, 1), (1, 0), (0, 0)):
                ctx.set(dut.i.valid, valid)
                ctx.set(dut.i.payload, 77 + valid)
                ctx.set(dut.o.ready, ready)
                after = ctx.get(dut.i.ready), ctx.get(dut.o.valid), ctx.get(dut.o.payload)
                assert after == before
            ctx.set(dut.i.valid, 1)
            await ctx.tick()
        assert not ctx.get(dut.i.ready)
        assert ctx.get(dut.o.valid)

    simulate(dut, bench, cycles=100)
