"""One lane against ``golden.numerics``, every port in its cycle, element after element."""

import random

import pytest
from amaranth.sim import Simulator

from transept.golden.config import TINY
from transept.golden.numerics.fixed import round_shift, saturate
from transept.rtl.vector.lane import NormLane

NO_SLICES = TINY.replace(name="no_dsp_slices", dsp_chain=1)
#: The cycle of each port.
AT = {
    **dict.fromkeys(("y", "x"), 0),
    **dict.fromkeys(("y_shift", "x_shift"), 1),
    **dict.fromkeys(("normalise", "mean", "mantissa", "product", "factor"), NormLane.SUM),
    "shift": NormLane.SHIFT,
    **dict.fromkeys(("plain", "gamma"), NormLane.GAMMA),
    "beta": NormLane.BETA,
    "out_shift": NormLane.OUT_SHIFT,
}


def near(rng, low, high):
    """A number that is often the least or the largest."""
    return rng.choice([low, high, rng.randint(low, high), rng.randint(low, high) >> 9])


def element(rng, narrow):
    """What the ports are given for one element."""
    product, plain = rng.random() < 0.3, narrow or rng.random() < 0.4
    mantissa = rng.choice([1, 1 << 16, rng.randint(46_000, 1 << 16)])
    return {
        "y": near(rng, -32768, 32767),
        "x": near(rng, -32768, 32767),
        "y_shift": 0 if product else near(rng, 0, 15),
        "x_shift": 0 if product else near(rng, 0, 15),
        "normalise": narrow or rng.random() < 0.7,
        "mean": 0 if product else near(rng, 1 - (1 << 23), (1 << 23) - 1),
        "mantissa": mantissa,
        "product": product,
        "factor": near(rng, -32768, 32767),
        "shift": rng.randint(0, 24) + (mantissa > 1 and not product) * rng.randint(0, 14),
        "plain": plain,
        "gamma": near(rng, -(1 << 17), (1 << 17) - 1),
        "beta": near(rng, -(1 << 23), (1 << 23) - 1),
        "out_shift": 0 if plain else rng.choice([0, 8, rng.randint(0, 40)]),
    }


def expected(e, narrow):
    """(z, w, w**2, out, clipped) of an element."""
    total = (e["y"] << e["y_shift"]) + (e["x"] << e["x_shift"])
    z = saturate(total, 24)
    w = saturate(round_shift(z, 6), 18)
    scaled = (z - e["mean"]) * (e["factor"] if e["product"] else e["mantissa"])
    rounded = round_shift(scaled, e["shift"])
    u = saturate(rounded, 18)
    gamma, beta = (1, 0) if e["plain"] else (e["gamma"], e["beta"])
    result = u if narrow else round_shift(u * gamma + (beta << 8), e["out_shift"])
    out = saturate(result, 8 if narrow else 16)
    return z, w, w * w, out, z != total or u != rounded or out != result


@pytest.mark.parametrize("narrow", [0, 1], ids=["wide", "narrow"])
@pytest.mark.parametrize("cfg", [TINY, NO_SLICES], ids=lambda cfg: cfg.name)
def test_equals_golden(cfg, narrow):
    rng, dut = random.Random(narrow), NormLane(cfg)
    elements = [element(rng, narrow) for _ in range(600)]
    seen = set()

    def port(cycle, lag):
        return elements[cycle - lag] if 0 <= cycle - lag < len(elements) else None

    async def bench(ctx):
        ctx.set(dut.narrow, narrow)
        for cycle in range(len(elements) + dut.LATENCY):
            for name, lag in AT.items():
                if e := port(cycle, lag):
                    ctx.set(getattr(dut, name), e[name])
            if e := port(cycle, dut.SUM):
                assert ctx.get(dut.z) == expected(e, narrow)[0]
            e = port(cycle, dut.SUM + 1)
            if e and not e["normalise"]:
                assert ctx.get(dut.w) == expected(e, narrow)[1]
            e = port(cycle, dut.SUM + 2)
            if e and not e["normalise"]:
                assert ctx.get(dut.square) == expected(e, narrow)[2]
            e = port(cycle, dut.LATENCY)
            if e and e["normalise"]:
                found = ctx.get(dut.out), ctx.get(dut.clipped)
                assert found == expected(e, narrow)[3:], e
                seen.add((found[1], e["plain"], e["product"]))
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()
    assert len(seen) == (4 if narrow else 8)
