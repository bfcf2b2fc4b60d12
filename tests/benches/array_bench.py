"""cocotb tests of the systolic array, with weights written at the edges of what its rule allows."""

import cocotb
import numpy as np
import settings
from draws import KINDS, int8
from pins import Pins

from transept.rtl.gemm.array import SystolicArray, load_lead, sum_bits

CFG = settings.config()
ARRAY = SystolicArray(CFG)


def timetable(rng, lengths, slack):
    """(cycle of weight row 0, cycles of the operand rows) of every pass, as early as the rule of
    the array allows or up to ``slack`` cycles later."""
    load, free, plan = 0, 0, []
    for rows in lengths:
        load += rng.integers(0, slack + 1)
        entry = max(free, load + load_lead(CFG)) + rng.integers(0, slack + 1)
        times = entry + np.arange(rows)
        if slack:
            times += np.cumsum(rng.integers(0, 2, rows))
        plan.append((load, times))
        load, free = max(load + CFG.tile, times[0]), times[-1] + 1
    return plan


def events(passes, plan):
    """Inputs by cycle."""
    inputs = {}
    for (weights, rows), (load, times) in zip(passes, plan, strict=True):
        for k, word in enumerate(weights):
            inputs.setdefault(load + k, {})["weight"] = (k, word)
        for m, (time, row) in enumerate(zip(times, rows, strict=True)):
            inputs.setdefault(time, {})["row"] = (m == 0, row)
    return inputs


async def run(dut, passes, plan):
    """Drive the array by the timetable; the sums and the cycles in which they came."""
    pins, inputs, got = Pins(dut, ARRAY), events(passes, plan), []
    await pins.start()
    for cycle in range(max(inputs) + ARRAY.latency + 1):
        now = inputs.get(cycle, {})
        pins.set("weight_en", "weight" in now)
        pins.set("row_valid", "row" in now)
        if "weight" in now:
            index, word = now["weight"]
            pins.set("weight_index", index)
            pins.set("weight_word", word)
        if "row" in now:
            swap, row = now["row"]
            pins.set("row_swap", swap)
            pins.set("row", row)
        await pins.tick()
        if pins.raw("sums_valid"):
            got.append((cycle - ARRAY.latency, [pins.get(f"sums__{n}") for n in range(CFG.tile)]))
    return np.array([sums for _, sums in got]), [cycle for cycle, _ in got]


@cocotb.test()
@cocotb.parametrize(kind=KINDS, slack=[0, 3, 20])
async def matches_numpy(dut, kind, slack):
    rng = settings.generator(slack)
    lengths = [1, CFG.tile, 1, 1, *rng.integers(1, CFG.tile + 3, 12), CFG.tile]
    passes = [
        (int8(rng, (CFG.tile, CFG.tile), kind), int8(rng, (rows, CFG.tile), kind))
        for rows in lengths
    ]
    plan = timetable(rng, lengths, slack)
    sums, cycles = await run(dut, passes, plan)
    assert np.array_equal(sums, np.concatenate([rows @ weights for weights, rows in passes]))
    assert cycles == np.concatenate([times for _, times in plan]).tolist()


@cocotb.test()
async def passes_of_tile_rows_leave_no_bubble(_dut):
    plan = timetable(settings.generator(0), [CFG.tile] * 4, slack=0)
    times = np.concatenate([times for _, times in plan])
    assert times.tolist() == list(range(load_lead(CFG), load_lead(CFG) + 4 * CFG.tile))


@cocotb.test()
@cocotb.parametrize(sign=[-1, 1])
async def the_largest_sums_fit(dut, sign):
    weights = np.full((CFG.tile, CFG.tile), 127)
    rows = np.full((2, CFG.tile), 127 * sign)
    sums, _ = await run(dut, [(weights, rows)], timetable(settings.generator(0), [2], 0))
    assert np.array_equal(sums, rows @ weights)
    assert abs(sums).max() < 1 << (sum_bits(CFG) - 1)
