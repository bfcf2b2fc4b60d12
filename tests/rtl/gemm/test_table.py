import numpy as np
import pytest
from amaranth.sim import Simulator

from transept.golden.config import PYNQ_Z2, TINY
from transept.golden.layouts import pack_table
from transept.golden.numerics.fixed import Clipping
from transept.golden.numerics.requantise import SEGMENTS, ActivationTable, activation
from transept.rtl.gemm.table import Activation, activation_interval

TABLES = [  # start, width, slope_shift, out_shift
    (-32768, 10, 12, 16),
    (-4096, 7, 0, 31),
    (32767, 15, 31, 0),
    (-5, 0, 5, 8),
    (-32768, 15, 3, 20),
]


def random_table(facts, rng):
    def coefficients(bits):
        magnitude = rng.integers(0, 1 << (bits - 1), SEGMENTS) >> rng.integers(0, bits, SEGMENTS)
        magnitude[:2] = (1 << (bits - 1)) - 1
        return magnitude * rng.choice([-1, 1], SEGMENTS)

    return ActivationTable(*facts, coefficients(24), coefficients(24), coefficients(16))


def values(table, lanes, rng):
    """Every segment boundary and its neighbours, the extremes, and random values."""
    borders = table.start + (np.arange(SEGMENTS + 1) << table.width)
    borders = np.concatenate([borders - 1, borders, borders + 1, [-32767, 32767, 0]])
    borders = borders[np.abs(borders) <= 32767]
    x = np.concatenate([borders, rng.integers(-32767, 32768, lanes * 64 - len(borders) % lanes)])
    return rng.permutation(x).reshape(-1, lanes)


@pytest.mark.parametrize("facts", TABLES)
@pytest.mark.parametrize("cfg", [TINY, PYNQ_Z2], ids=lambda c: c.name)
def test_matches_golden_and_holds_its_latency(cfg, facts):
    rng = np.random.default_rng(facts[1])
    table = random_table(facts, rng)
    words = pack_table(table, cfg.tile).view(np.int8).reshape(-1, cfg.tile)
    x = values(table, cfg.engines.epilogue_lanes, rng)
    dut = Activation(cfg)
    interval = activation_interval(cfg)
    before = rng.random(x.shape) < 0.1
    got = []

    async def bench(ctx):
        ctx.set(dut.table.en, 1)
        for addr, word in enumerate(words):
            ctx.set(dut.table.addr, addr)
            ctx.set(dut.table.data, word.tolist())
            await ctx.tick()
        ctx.set(dut.table.en, 0)
        for cycle in range(len(x) * interval + dut.latency):
            beat, phase = divmod(cycle, interval)
            ctx.set(dut.i_valid, phase == 0)
            if beat < len(x):
                ctx.set(dut.i, x[beat].tolist())
                ctx.set(dut.i_clipped, sum(1 << n for n in np.flatnonzero(before[beat]).tolist()))
            if cycle >= dut.latency and (cycle - dut.latency) % interval == 0:
                got.append([*ctx.get(dut.o), ctx.get(dut.o_clipped)])
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()
    clipping = Clipping()
    expected = activation(x, table, clipping)
    weights = 1 << np.arange(cfg.engines.epilogue_lanes)
    clipped = ((clipping.elements | before) * weights).sum(-1, keepdims=True)
    assert (np.array(got) == np.concatenate([expected, clipped], -1)).all()
