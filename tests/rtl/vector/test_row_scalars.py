"""Scalars of rows up to the longest whose normalised values have all their fractional bits."""

import dataclasses
import random

import numpy as np
import pytest
from amaranth.sim import Simulator
from unused import unused

from transept.golden.config import TINY
from transept.golden.numerics.fixed import round_shift, saturate
from transept.golden.numerics.norm import SQUARE_SHIFT, inverse_count
from transept.golden.numerics.polynomial import rsqrt
from transept.rtl.arith.reciprocal import Rsqrt
from transept.rtl.vector.row_scalars import U_FRACTION_BITS, RowScalars

MOST = (1 << 23) - 1


def with_rows(most):
    """TINY for rows of so many elements."""
    return dataclasses.replace(TINY, geometry=dataclasses.replace(TINY.geometry, max_hidden=most))


def test_the_longest_row():
    most = 1 << U_FRACTION_BITS
    with unused():
        RowScalars(with_rows(most))
        with pytest.raises(ValueError, match=f"^max_hidden={most + 1} must be at most {most}: "):
            RowScalars(with_rows(most + 1))


def rows_of(generator, most):
    """Rows of every length, constant, as far apart as can be, and any."""
    for count in (2, 3, 4, 5, most // 2 + 1, most - 1, most, most):
        yield np.full(count, MOST)
        yield np.full(count, -MOST)
        yield generator.choice([-MOST, MOST], count)
        yield generator.integers(-9, 9, count)
        yield generator.integers(-MOST, MOST + 1, count)
        yield np.where(np.arange(count), -MOST, MOST)


@pytest.mark.parametrize("most", [128, 1 << U_FRACTION_BITS])
def test_scalars_equal_golden(most):
    rng, generator = random.Random(most), np.random.default_rng(most)
    dut, done = RowScalars(with_rows(most)), []

    async def bench(ctx):
        for z in rows_of(generator, most):
            count, centre = len(z), rng.random() < 0.7
            epsilon = rng.choice([0, 1, 1000, (1 << 32) - 1])
            w = saturate(round_shift(z, SQUARE_SHIFT), 18)
            bits, total, square = (count - 1).bit_length(), int(w.sum()), int((w * w).sum())
            mean = round_shift(int(z.sum()) * inverse_count(count), 15 + bits) if centre else 0
            v = max(1, count * square - centre * total**2 + epsilon)
            mantissa, exponent = map(int, rsqrt(np.array(v)))
            ctx.set(dut.count, count)
            ctx.set(dut.centre, centre)
            ctx.set(dut.inverse, inverse_count(count))
            ctx.set(dut.epsilon, epsilon)
            await ctx.tick().repeat(2)
            ctx.set(dut.i.payload, {"z": int(z.sum()), "w": total, "square": square})
            ctx.set(dut.i.valid, 1)
            for _ in range(60):
                if ctx.get(dut.i.ready):
                    break
                assert not ctx.get(dut.o.valid)
                await ctx.tick()
            await ctx.tick()
            ctx.set(dut.i.valid, 0)
            ctx.set(dut.i.payload, {"z": 0, "w": 0, "square": 0})
            await ctx.tick().repeat(rng.randint(1, 3))
            assert ctx.get(dut.o.valid)
            row = ctx.get(dut.o.payload)
            expected = (mean, mantissa, U_FRACTION_BITS - bits + exponent)
            assert (row.mean, row.mantissa, row.shift) == expected, (z, centre, epsilon)
            ctx.set(dut.o.ready, 1)
            await ctx.tick()
            ctx.set(dut.o.ready, 0)
        done.append(True)

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()
    assert done


@pytest.mark.parametrize(
    ("most", "steps"), [(128, 26), (256, 26), (257, 27), (512, 27), (1024, 28), (2048, 29)]
)
def test_the_longest_sum_has_a_step_for_each_of_its_bits(most, steps):
    """At least those that the mean takes."""
    dut, cycles = RowScalars(with_rows(most)), []

    async def bench(ctx):
        ctx.set(dut.count, 2)
        ctx.set(dut.inverse, inverse_count(2))
        ctx.set(dut.i.payload, {"z": 2, "w": 2, "square": 2})
        await ctx.tick()
        ctx.set(dut.i.valid, 1)
        cycles.append(0)
        while not ctx.get(dut.o.valid):
            await ctx.tick()
            cycles[0] += 1
            assert cycles[0] < 100

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()
    assert cycles == [steps + Rsqrt.LATENCY + 3]
