"""The systolic array against NumPy, with weights written at the edges of what its rule allows."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from transept.golden.config import PYNQ_Z2, TINY
from transept.rtl.gemm.array import SystolicArray, load_lead, sum_bits

CONFIGS = {
    "tiny": TINY,
    "half_chains": TINY.replace(dsp_chain=2),
    "single_rows": TINY.replace(dsp_chain=1),
    "pynq_z2": PYNQ_Z2,
}
EXTREMES = [-127, 127]


def operands(rng, shape, extreme):
    return rng.choice(EXTREMES, shape) if extreme else rng.integers(-127, 128, shape)


def timetable(rng, cfg, lengths, slack):
    """(cycle of weight row 0, cycles of the operand rows) of every pass, as early as the rule of
    the array allows or up to ``slack`` cycles later."""
    load, free, plan = 0, 0, []
    for rows in lengths:
        load += rng.integers(0, slack + 1)
        entry = max(free, load + load_lead(cfg)) + rng.integers(0, slack + 1)
        times = entry + np.arange(rows)
        if slack:
            times += np.cumsum(rng.integers(0, 2, rows))
        plan.append((load, times))
        load, free = max(load + cfg.tile, times[0]), times[-1] + 1
    return plan


def run(cfg, passes, plan):
    """Drive the array by the timetable; the sums and the cycles in which they came."""
    dut, inputs, got = SystolicArray(cfg), {}, []
    for (weights, rows), (load, times) in zip(passes, plan, strict=True):
        for k, word in enumerate(weights):
            inputs.setdefault(load + k, {})["weight"] = (k, word.tolist())
        for m, (time, row) in enumerate(zip(times, rows, strict=True)):
            inputs.setdefault(time, {})["row"] = (m == 0, row.tolist())

    async def bench(ctx):
        for cycle in range(max(inputs) + dut.latency + 1):
            now = inputs.get(cycle, {})
            ctx.set(dut.weight_en, "weight" in now)
            ctx.set(dut.row_valid, "row" in now)
            if "weight" in now:
                index, word = now["weight"]
                ctx.set(dut.weight_index, index)
                ctx.set(dut.weight_word, word)
            if "row" in now:
                swap, row = now["row"]
                ctx.set(dut.row_swap, swap)
                ctx.set(dut.row, row)
            if ctx.get(dut.sums_valid):
                got.append((cycle, [ctx.get(total) for total in dut.sums]))
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()
    return np.array([sums for _, sums in got]), [cycle - dut.latency for cycle, _ in got]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("extreme", "slack"), [(False, 0), (True, 0), (False, 3), (True, 20)])
def test_matches_numpy(name, extreme, slack):
    cfg = CONFIGS[name]
    rng = np.random.default_rng(slack)
    lengths = [1, cfg.tile, 1, 1, *rng.integers(1, cfg.tile + 3, 6), cfg.tile]
    passes = [
        (
            operands(rng, (cfg.tile, cfg.tile), extreme),
            operands(rng, (rows, cfg.tile), extreme),
        )
        for rows in lengths
    ]
    plan = timetable(rng, cfg, lengths, slack)
    sums, cycles = run(cfg, passes, plan)
    assert np.array_equal(sums, np.concatenate([rows @ weights for weights, rows in passes]))
    assert cycles == np.concatenate([times for _, times in plan]).tolist()


@pytest.mark.parametrize("name", CONFIGS)
def test_passes_of_tile_rows_leave_no_bubble(name):
    cfg = CONFIGS[name]
    plan = timetable(np.random.default_rng(0), cfg, [cfg.tile] * 4, slack=0)
    times = np.concatenate([times for _, times in plan])
    assert times.tolist() == list(range(load_lead(cfg), load_lead(cfg) + 4 * cfg.tile))


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_largest_sums_fit(name, sign):
    cfg = CONFIGS[name]
    weights = np.full((cfg.tile, cfg.tile), 127)
    rows = np.full((2, cfg.tile), 127 * sign)
    sums, _ = run(cfg, [(weights, rows)], timetable(np.random.default_rng(0), cfg, [2], 0))
    assert np.array_equal(sums, rows @ weights)
    assert abs(sums).max() < 1 << (sum_bits(cfg) - 1)
