"""cocotb tests of the function units: polynomials, reciprocals, exponential."""

import cocotb
import numpy as np
import settings
from arithmetic import POLYNOMIALS, Arithmetic
from pins import Pins

from transept.golden.numerics import tables
from transept.golden.numerics.fixed import wrap
from transept.golden.numerics.polynomial import evaluate, reciprocal, rsqrt
from transept.golden.numerics.requantise import quantise_scale
from transept.golden.numerics.softmax import DITHER, MASKED, levels

DESIGN = Arithmetic(settings.config())
COUNT = 1000


async def feed(dut, unit, arguments, gap):
    """Results of a unit with ``valid`` on both sides, whose latency is held throughout."""
    pins, rng, latency = Pins(dut, DESIGN), settings.python_random(1), DESIGN.latency[unit]
    beats, results = [], []
    for argument in arguments:
        while rng.random() < gap:
            beats.append(None)
        beats.append(argument)
    beats += [None] * latency
    await pins.start()
    for cycle, beat in enumerate(beats):
        pins.set(f"{unit}__i__valid", beat is not None)
        if beat is not None:
            pins.set(f"{unit}__i__payload", beat)
        await pins.tick()
        due = beats[cycle - latency] if cycle >= latency else None
        assert pins.get(f"{unit}__o__valid") == (due is not None), cycle
        if due is not None:
            results.append(pins.get(f"{unit}__o__payload"))
    return results


def numbers(rng, bits, least):
    """Powers of two, their neighbours, and numbers of every magnitude."""
    corners = [(2 << k) - d for k in range(bits) for d in (0, 1)] + [1, least]
    free = [rng.getrandbits(rng.randint(1, bits)) for _ in range(COUNT)]
    return [x for x in corners + free if least <= x < 1 << bits]


def pairs(arrays):
    return list(zip(*(array.tolist() for array in arrays), strict=True))


@cocotb.test()
@cocotb.parametrize(name=POLYNOMIALS, gap=[0.0, 0.4])
async def polynomial_equals_golden(dut, name, gap):
    rows, rng = getattr(tables, name), settings.generator(2)
    points = [(i, d) for i in range(len(rows)) for d in (0, 1, 2047, 2048, 4095)]
    points += zip(rng.integers(0, len(rows), COUNT), rng.integers(0, 4096, COUNT), strict=True)
    arguments = [{"index": i, "position": d} for i, d in points]
    got = await feed(dut, f"poly_{name.lower()}", arguments, gap)
    index, position = np.array(points, dtype=np.int64).T
    assert got == evaluate(rows, index, position).tolist()


@cocotb.test()
@cocotb.parametrize(gap=[0.0, 0.4])
async def reciprocal_equals_golden(dut, gap):
    values = numbers(settings.python_random(3), 24, 0)
    got = await feed(dut, "reciprocal", values, gap)
    expected = pairs(reciprocal(np.array(values)))
    assert [(o["mantissa"], o["exponent"]) for o in got] == expected


@cocotb.test()
@cocotb.parametrize(gap=[0.0, 0.4])
async def rsqrt_equals_golden(dut, gap):
    values = numbers(settings.python_random(4), 62, 1)
    got = await feed(dut, "rsqrt", values, gap)
    assert [(o["mantissa"], o["exponent"]) for o in got] == pairs(rsqrt(np.array(values)))


@cocotb.test()
@cocotb.parametrize(gap=[0.0, 0.4])
async def row_factor_serves_maxima_and_sums(dut, gap):
    rng = settings.python_random(5)
    asked = [(value, 1) for value in numbers(rng, 24, 0)]  # half of them negative, as maxima
    asked += [(value, 0) for value in numbers(rng, 24, 0)]
    rng.shuffle(asked)
    arguments = [{"statistic": value, "quantise": kind} for value, kind in asked]
    got = await feed(dut, "row_factor", arguments, gap)
    values = np.array([value for value, _ in asked])
    scales, (mantissas, exponents) = quantise_scale(wrap(values, 24)), reciprocal(values)
    for n, (value, kind) in enumerate(asked):
        if kind:
            assert got[n]["scale"] == scales[n], value
        else:
            assert (got[n]["mantissa"], got[n]["exponent"]) == (mantissas[n], exponents[n]), value


def score_pairs(rng):
    """(score, maximum): near, far, as far as can be, equal, masked, and above the maximum."""
    near = [(maximum - d, maximum) for maximum in (-30000, 0, 32767) for d in range(0, 2600, 13)]
    far = np.sort(rng.integers(-32767, 32768, (COUNT, 2)), -1).tolist()
    ends = [(-32767, 32767), (32767, 32767), (-32767, -32767), (MASKED, 32767), (MASKED, -32767)]
    rows = np.rint(rng.normal(0, 400, (COUNT, 2))).astype(int)
    real = np.sort(rows, -1).tolist()
    above = [(maximum + d, maximum) for maximum in (-30000, 0) for d in (1, 2, 255, 256, 2500)]
    return [*near, *far, *ends, *real, *above, (32767, -32768)]


@cocotb.test()
async def exponential_equals_golden(dut):
    pins, asked = Pins(dut, DESIGN), score_pairs(settings.generator(6))
    latency, got = DESIGN.latency["exponential"], []
    await pins.start()
    for cycle in range(len(asked) + latency):
        if cycle < len(asked):
            score, maximum = asked[cycle]
            dither = DITHER[cycle % len(DITHER)]
            pins.put("exponential", score=score, maximum=maximum, dither=dither)
        await pins.tick()
        if cycle >= latency:
            got.append(pins.get("exponential__level"))
    score, maximum = np.array(asked).T
    assert got == levels(score, maximum).tolist()
