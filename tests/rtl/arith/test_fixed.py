import random

import pytest
from amaranth import Module, Signal, signed, unsigned
from amaranth.sim import Simulator

from transept.golden.numerics import fixed as golden
from transept.rtl.arith import fixed
from transept.rtl.arith.shifter import RoundShift


def evaluate(shape, build, values):
    """``build(x)`` under the simulator for each value of x."""
    m, x = Module(), Signal(shape)
    expression = build(x)
    y = Signal(expression.shape())
    m.d.comb += y.eq(expression)
    got = []

    async def bench(ctx):
        for value in values:
            ctx.set(x, value)
            got.append(ctx.get(y))

    sim = Simulator(m)
    sim.add_testbench(bench)
    sim.run()
    return got


@pytest.mark.parametrize("shift", range(12))
def test_round_shift(shift):
    values = range(-512, 512)
    expected = [golden.round_shift(v, shift) for v in values]
    assert evaluate(signed(10), lambda x: fixed.round_shift(x, shift), values) == expected
    assert evaluate(signed(10), lambda x: fixed.round_shift_by(x, shift), values) == expected
    values = range(1024)
    expected = [golden.round_shift(v, shift) for v in values]
    assert evaluate(unsigned(10), lambda x: fixed.round_shift(x, shift), values) == expected


@pytest.mark.parametrize("bits", range(2, 12))
def test_saturate(bits):
    values = range(-512, 512)
    expected = [golden.saturate(v, bits) for v in values]
    assert evaluate(signed(10), lambda x: fixed.saturate(x, bits), values) == expected
    clipped = [golden.saturate(v, bits) != v for v in values]
    assert evaluate(signed(10), lambda x: fixed.clips(x, bits), values) == clipped
    values = range(1024)
    expected = [golden.saturate(v, bits) for v in values]
    assert evaluate(unsigned(10), lambda x: fixed.saturate(x, bits), values) == expected


@pytest.mark.parametrize("bits", range(2, 10))
def test_round_saturate(bits):
    values = range(-512, 512)
    expected = [golden.saturate(golden.round_shift(v, 1), bits) for v in values]
    assert evaluate(signed(10), lambda x: fixed.round_saturate(x, bits), values) == expected
    clipped = [golden.saturate(y, bits) != y for y in (golden.round_shift(v, 1) for v in values)]
    assert evaluate(signed(10), lambda x: fixed.round_clips(x, bits), values) == clipped
    limit = golden.saturate(1 << 20, bits)
    lost = evaluate(signed(10), lambda x: fixed.round_saturate(x, bits, 1), values)
    assert lost == [-limit if v < 0 else limit for v in values]


def test_normalise_finds_the_leading_one():
    values = [1, 2, 3, 255, 256, 40000, 65535]
    steps = (8, 4, 2, 1)
    lead = evaluate(unsigned(16), lambda x: ~fixed.normalise(x, steps)[1], values)
    assert lead == [golden.bit_length(v) - 1 for v in values]
    top = evaluate(unsigned(16), lambda x: fixed.normalise(x, steps)[0], values)
    assert top == [v << (16 - v.bit_length()) for v in values]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_tree_sum_loses_nothing(count):
    got = evaluate(signed(8), lambda x: fixed.tree_sum([x] * count), [-128, 127])
    assert got == [-128 * count, 127 * count]


@pytest.mark.parametrize(
    ("width", "shift_bits", "bits"),
    [(42, 6, 18), (37, 6, 16), (42, 6, 25), (41, 5, 25), (33, 5, 26), (25, 4, 25), (9, 2, 4)],
)
def test_shifter_equals_golden(width, shift_bits, bits):
    rng = random.Random(width)
    dut = RoundShift(width, shift_bits, bits)
    limit = 1 << (width - 1)
    arguments = []
    for shift in range(1 << shift_bits):
        near = ((1 << (bits - 1)) << shift) >> 1
        corners = [0, -1, 1, limit - 1, -limit, near, near - 1, near // 2, 2 * near, -near, ~near]
        corners += [rng.randint(-limit, limit - 1) >> rng.randrange(width) for _ in range(20)]
        arguments += [(max(-limit, min(limit - 1, x)), shift) for x in corners]
    got = []

    async def bench(ctx):
        for x, shift in [*arguments, *[(0, 0)] * dut.LATENCY]:
            ctx.set(dut.x, x)
            ctx.set(dut.shift, shift)
            got.append((ctx.get(dut.o), ctx.get(dut.clipped)))
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()
    rounded = [golden.round_shift(x, shift) for x, shift in arguments]
    saturated = [golden.saturate(y, bits) for y in rounded]
    clipped = [s != y for s, y in zip(saturated, rounded, strict=True)]
    assert got[dut.LATENCY :] == list(zip(saturated, clipped, strict=True))
