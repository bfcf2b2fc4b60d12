import numpy as np
import pytest
from amaranth.sim import Simulator

from transept.golden.config import PYNQ_Z2, TINY
from transept.golden.numerics.requantise import quantise_row, quantise_scale
from transept.rtl.arith.row_quantiser import RowQuantiser


def rows_and_maxima(tile, rng):
    """Rows of every magnitude, full-scale rows, and maxima below the floor."""
    limits = np.concatenate([[32767, 32767, 0, 1, 255, 256, 257], 2 ** rng.uniform(0, 15, 120)])
    limits = limits.astype(np.int64).clip(0, 32767)
    x = rng.integers(-limits[:, None], limits[:, None] + 1, (len(limits), tile))
    x[0], x[1, ::2] = 32767, -32767
    return x, np.abs(x).max(-1)


@pytest.mark.parametrize("cfg", [TINY, PYNQ_Z2], ids=lambda c: c.name)
def test_matches_golden_and_holds_its_latency(cfg):
    rng = np.random.default_rng(1)
    x, maxima = rows_and_maxima(cfg.tile, rng)
    raw = rng.integers(0, 4, len(x)) == 0
    low_bytes = (x & 0xFF) - ((x & 0x80) << 1)
    expected = np.where(raw[:, None], low_bytes, quantise_row(x, maxima))
    scale = quantise_scale(maxima)
    offered = [n for row in range(len(x)) for n in [row] + [None] * int(rng.integers(0, 3) == 0)]
    dut = RowQuantiser(cfg)
    got = []

    async def bench(ctx):
        for cycle in range(len(offered) + dut.LATENCY - 1):
            n = offered[cycle] if cycle < len(offered) else None
            ctx.set(dut.i.valid, n is not None)
            if n is not None:
                ctx.set(dut.i.row, x[n].tolist())
                ctx.set(dut.i.scale, int(scale[n]))
                ctx.set(dut.i.raw, int(raw[n]))
            await ctx.tick()
            due = cycle + 1 - dut.LATENCY
            assert ctx.get(dut.o.valid) == (due >= 0 and offered[due] is not None)
            if ctx.get(dut.o.valid):
                got.append(list(ctx.get(dut.o.row)))

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()
    assert (np.array(got) == expected).all()
