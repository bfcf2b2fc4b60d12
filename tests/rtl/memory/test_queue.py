"""Queues against a list: order, room, and that flags are told a cycle after what changes them."""

from __future__ import annotations

import random
from collections import deque

import pytest
from memory_model import simulate

from transept.rtl.memory.queue import Queue


def checked(depth, seed, cycles=400):
    """Random offers and takes; the largest number of entries that were there."""
    dut, rng, most = Queue(16, depth), random.Random(seed), 0

    async def both_sides(ctx):
        nonlocal most
        model: deque[int] = deque()
        for cycle in range(cycles):
            offers, takes = rng.random() < (0.8 if cycle % 100 < 50 else 0.3), rng.random() < 0.5
            ctx.set(dut.i.valid, int(offers))
            ctx.set(dut.i.payload, cycle)
            ctx.set(dut.o.ready, int(takes))
            assert ctx.get(dut.i.ready) == (len(model) < depth)
            assert ctx.get(dut.o.valid) == bool(model)
            accepted = offers and len(model) < depth
            if model:
                assert ctx.get(dut.o.payload) == model[0]
                if takes:
                    model.popleft()
            if accepted:
                model.append(cycle)
            most = max(most, len(model))
            await ctx.tick()

    simulate(dut, both_sides, cycles=cycles + 10)
    return most


@pytest.mark.parametrize("depth", [1, 2, 3, 8, 9])
@pytest.mark.parametrize("seed", range(2))
def test_entries_leave_in_order_and_none_is_lost(depth, seed):
    assert checked(depth, seed) == depth
