"""Sums of the longest rows of any elements, and when they are there."""

import random

import pytest
from amaranth.sim import Simulator

from transept.golden.config import TINY
from transept.rtl.vector.sums import RowSums

Z, W, SQUARE = (1 << 23) - 1, (1 << 17) - 1, ((1 << 17) - 1) ** 2


def rows_of(rng, count):
    """Rows of (z, w, square): as far as can be in either direction, short ones, any."""
    yield [(Z, W, SQUARE)] * count
    yield [(-Z, -W, SQUARE)] * count
    for length in (1, 2, 1, count):
        ends = [(rng.randint(-Z, Z), rng.randint(-W, W), rng.randint(0, SQUARE))]
        yield [rng.choice([(Z, -W, 0), (-Z, W, SQUARE), *ends]) for _ in range(length)]


@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_the_longest_rows(lanes):
    rng = random.Random(lanes)
    cfg = TINY.replace(vector_lanes=lanes)
    dut, latency = RowSums(cfg), 3 + (lanes - 1).bit_length()
    beats, expected = [], {}
    for row in rows_of(rng, cfg.geometry.max_hidden // lanes):
        wide = [[one] + [(-one[0], -one[1], one[2])] * (lanes - 1) for one in row]
        if rng.random() < 0.7:
            wide = [[one] * lanes for one in row]
        for number, elements in enumerate(wide):
            beats += [None] * rng.choice([0, 0, 0, 2])
            beats.append((elements, number == 0, number == len(wide) - 1))
        every = [one for elements in wide for one in elements]
        expected[len(beats) - 1 + latency] = [sum(column) for column in zip(*every, strict=True)]
    beats += [None] * (latency + 1)
    got = {}

    async def bench(ctx):
        for cycle in range(len(beats)):
            beat = beats[cycle]
            ctx.set(dut.valid, beat is not None)
            noise = rng.randint(0, 1)
            ctx.set(dut.first, beat[1] if beat else noise)
            ctx.set(dut.last, beat[2] if beat else noise)
            for lag, name in enumerate(("z", "w", "square")):
                late = beats[cycle - lag] if cycle >= lag else None
                for lane in range(lanes):
                    value = late[0][lane][lag] if late else rng.randint(0, 99)
                    ctx.set(getattr(dut, name)[lane], value)
            if ctx.get(dut.o.valid):
                got[cycle] = [ctx.get(dut.o.payload[name]) for name in ("z", "w", "square")]
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()
    assert got == expected
