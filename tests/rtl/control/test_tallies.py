"""Counters of clipped elements against a dictionary."""

import random

import pytest
from amaranth import ResetInserter, Signal
from amaranth.sim import Simulator

from transept.golden.config import TINY
from transept.golden.isa import TALLIES
from transept.rtl.control.tallies import Tallies

PERIOD = 1e-8
CLIENTS = 2


def drive(dut, rng, runs, cycles):
    """Random items in every run; the counters that each run ended with, and what they should be."""
    found, expected = [], []

    async def read(ctx):
        values = []
        for index in range(TALLIES):
            ctx.set(dut.index, index)
            values.append(ctx.get(dut.count))
        return values

    async def bench(ctx):
        while ctx.get(dut.clearing):
            await ctx.tick()
        found.append(await read(ctx))
        expected.append([0] * TALLIES)
        for _ in range(runs):
            totals, pause = [0] * TALLIES, [0] * CLIENTS
            ctx.set(dut.clear, 1)
            await ctx.tick()
            ctx.set(dut.clear, 0)
            for _ in range(cycles):
                for number in range(CLIENTS):
                    item = dut.clipped[number]
                    valid = pause[number] == 0 and rng.random() < 0.6
                    pause[number] = CLIENTS - 1 if valid else max(0, pause[number] - 1)
                    tally, count = rng.choice([0, 5, rng.randrange(TALLIES)]), rng.randrange(2000)
                    ctx.set(item.payload, {"tally": tally, "count": count})
                    ctx.set(item.valid, valid)
                    totals[tally] += count * valid
                await ctx.tick()
            for number in range(CLIENTS):
                ctx.set(dut.clipped[number].valid, 0)
            await ctx.tick().repeat(CLIENTS)
            found.append(await read(ctx))
            expected.append(totals)
            while ctx.get(dut.clearing):
                await ctx.tick()
            assert await read(ctx) == totals

    sim = Simulator(dut)
    sim.add_clock(PERIOD)
    sim.add_testbench(bench)
    sim.run()
    return found, expected


@pytest.mark.parametrize("cycles", [3, 40, 400])
def test_counts_what_is_clipped_in_each_run(cycles):
    """Also while counters of the run before are being cleared."""
    found, expected = drive(Tallies(TINY, clients=CLIENTS), random.Random(cycles), 5, cycles)
    assert found == expected


def test_a_reset_forgets_all_counts():
    """Whichever run they are of; and a counter has all its 32 bits."""
    tallies, reset = Tallies(TINY, clients=CLIENTS), Signal()
    dut, most = ResetInserter(reset)(tallies), 2048

    async def add(ctx, tally, times):
        item = tallies.clipped[0]
        ctx.set(item.payload, {"tally": tally, "count": most})
        ctx.set(item.valid, 1)
        await ctx.tick().repeat(times)
        ctx.set(item.valid, 0)
        await ctx.tick().repeat(CLIENTS)

    async def counts(ctx):
        found = {}
        for index in range(TALLIES):
            ctx.set(tallies.index, index)
            if count := ctx.get(tallies.count):
                found[index] = count
        return found

    async def bench(ctx):
        for run in range(3):
            while ctx.get(tallies.clearing):
                await ctx.tick()
            assert await counts(ctx) == {}
            for _ in range(run):
                ctx.set(tallies.clear, 1)
                await ctx.tick()
                ctx.set(tallies.clear, 0)
                while ctx.get(tallies.clearing):
                    await ctx.tick()
            for tally in (0, 1, TALLIES - 1):
                await add(ctx, tally, 1 + tally)
            assert await counts(ctx) == {t: most * (1 + t) for t in (0, 1, TALLIES - 1)}
            ctx.set(reset, 1)
            await ctx.tick()
            ctx.set(reset, 0)

    sim = Simulator(dut)
    sim.add_clock(PERIOD)
    sim.add_testbench(bench)
    sim.run()
    assert len(tallies.count) == 32


def test_clearing_takes_a_cycle_for_each_counter():
    dut, seen = Tallies(TINY, clients=CLIENTS), []

    async def bench(ctx):
        await ctx.tick().repeat(TALLIES)
        assert not ctx.get(dut.clearing)
        ctx.set(dut.clear, 1)
        await ctx.tick()
        ctx.set(dut.clear, 0)
        for _ in range(TALLIES + 3):
            seen.append(ctx.get(dut.clearing))
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(PERIOD)
    sim.add_testbench(bench)
    sim.run()
    assert seen == [1] * TALLIES + [0] * 3
