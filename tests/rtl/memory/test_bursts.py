"""Requests as bursts: none crosses a block of its largest size, whatever stands at the port."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
from memory_model import simulate
from unused import unused

from transept.golden.config import TINY
from transept.rtl.memory.bursts import BURST_BEATS, BurstSplitter


def bursts_of(address, size, final):
    """(address, beats minus one, ends its request, ends all)."""
    block, end = BURST_BEATS * TINY.axi_bytes, address + size
    while address < end:
        stop = min(end, (address // block + 1) * block)
        yield address, (stop - address) // TINY.axi_bytes - 1, stop == end, stop == end and final
        address = stop


@pytest.mark.parametrize("seed", range(3))
def test_requests_become_bursts_within_their_blocks(seed):
    rng, dut, found = random.Random(seed), BurstSplitter(TINY), []
    unit, count = TINY.axi_bytes, 20
    requests = [
        (rng.randrange(1000) * unit, rng.choice([1, 2, 15, 16, 17, 40]) * unit, rng.random() < 0.5)
        for _ in range(count)
    ]

    async def both_sides(ctx):
        pending, offered = list(requests), False
        for _ in range(600):
            ctx.set(dut.o.ready, rng.random() < 0.7)
            offered = bool(pending) and (offered or rng.random() < 0.4)
            noise = rng.randrange(1000) * unit, rng.randrange(1, 90) * unit, 1
            address, size, final = pending[0] if offered else noise
            ctx.set(dut.i.valid, offered)
            ctx.set(dut.i.payload.address, address)
            ctx.set(dut.i.payload.bytes, size)
            ctx.set(dut.i.payload.last, final)
            if ctx.get(dut.o.valid) and ctx.get(dut.o.ready):
                burst = ctx.get(dut.o.payload)
                found.append((burst.address, burst.count, burst.last, burst.final))
            if offered and ctx.get(dut.i.ready):
                pending, offered = pending[1:], False
            await ctx.tick()

    simulate(dut, both_sides, cycles=700)
    assert found == [burst for request in requests for burst in bursts_of(*request)]


def test_bursts_of_the_widest_bus_fill_a_page():
    """On a wider one they would cross 4 KiB."""

    def bus(nbytes):
        return SimpleNamespace(axi_bytes=nbytes, memories=SimpleNamespace(axi_data_bits=8 * nbytes))

    with unused():
        BurstSplitter(bus(256))
        with pytest.raises(ValueError, match="axi_data_bits=4096: a burst would exceed 4 KiB"):
            BurstSplitter(bus(512))
