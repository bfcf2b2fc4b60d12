import random

import numpy as np
import pytest
from amaranth.sim import Simulator

from transept.golden.numerics import tables
from transept.golden.numerics.polynomial import evaluate, reciprocal, rsqrt
from transept.golden.numerics.requantise import quantise_scale
from transept.rtl.arith.polynomial import Polynomial
from transept.rtl.arith.reciprocal import Reciprocal, RowFactor, Rsqrt


def feed(dut, arguments, read):
    """Results of a fixed-latency component, one argument a cycle with a gap after every fifth."""
    beats = []
    for count, argument in enumerate(arguments):
        beats += [argument] if count % 5 else [None, argument]
    results = []

    async def bench(ctx):
        for cycle in range(len(beats) + dut.LATENCY):
            beat = beats[cycle] if cycle < len(beats) else None
            ctx.set(dut.i.valid, beat is not None)
            if beat is not None:
                ctx.set(dut.i.payload, beat)
            due = beats[cycle - dut.LATENCY] if cycle >= dut.LATENCY else None
            assert ctx.get(dut.o.valid) == (due is not None), cycle
            if due is not None:
                results.append(read(ctx.get(dut.o.payload)))
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()
    return results


@pytest.mark.parametrize("name", ["EXP2", "RECIPROCAL", "RSQRT"])
def test_polynomial_equals_golden(name):
    rows, rng = getattr(tables, name), random.Random(name)
    points = [(i, d) for i in range(len(rows)) for d in (0, 1, 2047, 2048, 4095)]
    points += [(rng.randrange(len(rows)), rng.randrange(4096)) for _ in range(1000)]
    got = feed(Polynomial(rows), [{"index": i, "position": d} for i, d in points], int)
    index, position = np.array(points, dtype=np.int64).T
    assert got == evaluate(rows, index, position).tolist()


def test_reciprocal_equals_golden():
    rng = random.Random(1)
    corners = [0, *(1 << k for k in range(24)), *((2 << k) - 1 for k in range(24))]
    values = corners + [rng.getrandbits(rng.randint(1, 24)) for _ in range(1000)]
    got = feed(Reciprocal(), values, lambda o: (o.mantissa, o.exponent))
    expected = reciprocal(np.array(values, dtype=np.int64))
    assert got == list(zip(*(x.tolist() for x in expected), strict=True))


def test_rsqrt_equals_golden():
    rng = random.Random(2)
    corners = [*(1 << k for k in range(62)), *((2 << k) - 1 for k in range(62))]
    values = corners + [1 | rng.getrandbits(rng.randint(1, 62)) for _ in range(1000)]
    got = feed(Rsqrt(), values, lambda o: (o.mantissa, o.exponent))
    expected = rsqrt(np.array(values, dtype=np.int64))
    assert got == list(zip(*(x.tolist() for x in expected), strict=True))


def test_row_factor_serves_maxima_and_sums():
    rng = random.Random(3)
    maxima = [0, 255, 256, 257, 511, 512, 32766, 32767]
    asked = [(value, 1) for value in maxima] + [(0, 0), ((1 << 24) - 1, 0)]
    asked += [(rng.randrange(32768), 1) for _ in range(500)]
    asked += [(rng.getrandbits(24), 0) for _ in range(500)]
    rng.shuffle(asked)
    arguments = [{"statistic": value, "quantise": kind} for value, kind in asked]
    got = feed(RowFactor(), arguments, lambda o: (o.mantissa, o.exponent, o.scale))
    for (value, kind), (mantissa, exponent, scale) in zip(asked, got, strict=True):
        array = np.array([value], dtype=np.int64)
        if kind:
            assert scale == quantise_scale(array)[0], value
        else:
            assert (mantissa, exponent) == tuple(int(x[0]) for x in reciprocal(array)), value
