"""The serial line, cycle by cycle: when bits are sampled, and how long those are that are sent."""

from __future__ import annotations

import random

import pytest
from memory_model import simulate

from transept.rtl.link.uart import UartReceiver, UartTransmitter

CYCLES = 25


def levels(byte, stop=1):
    """Of a byte on the line."""
    return [0, *(byte >> bit & 1 for bit in range(8)), stop]


@pytest.mark.parametrize("length", [23.8, 25, 26.3])
def test_bytes_of_a_clock_that_drifts_by_five_percent(length):
    """Ten bits drift by half of one: each is sampled in its middle."""
    dut, rng = UartReceiver(CYCLES), random.Random(1)
    sent, line, found = [0x00, 0xFF, 0x55, 0xAA, *rng.randbytes(8)], [], []
    for byte in sent:
        start = len(line)
        for place, level in enumerate(levels(byte), start=1):
            line += [level] * (start + round(place * length) - len(line))
        line += [1] * rng.choice([0, 1, 40])

    async def bench(ctx):
        ctx.set(dut.rx, 1)
        await ctx.tick().repeat(5)
        for level in [*line, *[1] * 30]:
            ctx.set(dut.rx, level)
            assert not ctx.get(dut.error)
            if ctx.get(dut.valid):
                found.append(ctx.get(dut.byte))
            await ctx.tick()

    simulate(dut, bench, cycles=len(line) + 100)
    assert found == sent


def test_a_byte_without_its_stop_bit_is_an_error():
    dut, seen = UartReceiver(CYCLES), []

    async def bench(ctx):
        ctx.set(dut.rx, 1)
        await ctx.tick().repeat(5)
        for level in levels(0x3C, stop=0):
            ctx.set(dut.rx, level)
            for _ in range(CYCLES):
                seen.append((ctx.get(dut.valid), ctx.get(dut.error)))
                await ctx.tick()

    simulate(dut, bench, cycles=400)
    assert seen.count((0, 1)) == 1
    assert set(seen) == {(0, 0), (0, 1)}


@pytest.mark.parametrize("cycles", [4, 5, 17])
def test_bytes_that_are_sent_take_ten_bits_and_a_cycle(cycles):
    dut, sent, seen = UartTransmitter(cycles), [0x5A, 0x00, 0xFF, 0x81], []

    async def bench(ctx):
        for _ in range(3):
            assert ctx.get(dut.tx)
            await ctx.tick()
        for byte in sent:
            ctx.set(dut.i.payload, byte)
            ctx.set(dut.i.valid, 1)
            assert ctx.get(dut.i.ready)
            await ctx.tick()
            ctx.set(dut.i.payload, 0x3C)  # of a byte that is taken back
            for level in levels(byte):
                for _ in range(cycles):
                    seen.append(ctx.get(dut.tx) == level)
                    ctx.set(dut.i.valid, int(len(seen) % (10 * cycles) != 0))
                    assert ctx.get(dut.i.ready) == 0
                    await ctx.tick()
            assert ctx.get(dut.tx)
        ctx.set(dut.i.valid, 0)
        for _ in range(3 * cycles):
            assert ctx.get(dut.tx)
            assert ctx.get(dut.i.ready)
            await ctx.tick()

    simulate(dut, bench, cycles=1000)
    assert all(seen)
