"""cocotb tests of the GEMM engine."""

import random
from collections import Counter

import cocotb
import numpy as np
import settings
from gemm_driver import GemmDriver
from gemm_programs import GemmPrograms

from transept.golden.emulator.rowwise import softmax
from transept.golden.filters import ESTIMATE_SHIFT, Window
from transept.golden.isa import Filter
from transept.golden.registers import Stall
from transept.rtl.gemm.streamer import RowStreamer
from transept.sim.cocotb_runner import parameters

PARAMETERS = parameters()
CFG = settings.config()
SEEDS = range(PARAMETERS["seed"], PARAMETERS["seed"] + PARAMETERS["seeds"])
#: Share of the cycles in which a memory refuses, by turns.
REFUSED = (0.0, 0.4)
#: The epilogue's shortest job.
JOB_CYCLES = 12
#: Pipelines from the last query row to the first group.
ANSWER_CYCLES = 40
#: From an idle engine to the first row: expansion, reading and writing a tile, the row's pipeline.
START_CYCLES = 2 * CFG.tile + RowStreamer.ENTRY_DELAY + 20


async def started(dut, seed, refused=0.0):
    driver, programs = GemmDriver(dut, CFG, seed, refused), GemmPrograms(CFG, random.Random(seed))
    driver.place_stat(0, programs.channels())
    await driver.start()
    return driver, programs


@cocotb.test()
@cocotb.parametrize(seed=SEEDS)
async def matmul(dut, seed):
    driver, programs = await started(dut, seed, refused=REFUSED[seed % 2])
    await driver.load_table(programs.table())
    for _ in range(PARAMETERS["batches"]):
        programs.fresh()
        batch = []
        for _ in range(programs.rng.randint(1, 8)):
            batch += programs.chain() if programs.rng.random() < 0.3 else programs.matmul()
        if batch:
            await driver.batch(batch)


def threshold(chip, shape):
    """One between the estimates of the first part, or above all of them."""
    rng, rows = random.Random(shape.keys), shape.rows
    q = chip.read_act(shape.q_addr, shape.q_stride, rows, shape.d_tiles).astype(np.int8)
    first = shape.k_addr // CFG.tile
    tiles = -(-shape.cuts[1] // CFG.tile)
    sums = chip.summaries[first : first + tiles * shape.d_tiles].reshape(tiles, -1)
    blocks = [q[at : at + CFG.tile].sum(0, dtype=np.int64) for at in range(0, rows, CFG.tile)]
    estimates = sorted(int(block @ total) >> ESTIMATE_SHIFT for block in blocks for total in sums)
    chosen = rng.choice([*estimates, estimates[-1] + 1])
    return max(-(1 << 23), min((1 << 23) - 1, chosen))


@cocotb.test()
@cocotb.parametrize(seed=SEEDS)
async def attention(dut, seed):
    driver, programs = await started(dut, seed, refused=REFUSED[seed % 2])
    chip = driver.chip
    for _ in range(PARAMETERS["batches"]):
        programs.fresh()
        shape = programs.attention()
        await driver.batch(programs.keys(shape))
        kind = programs.rng.choice(CFG.key_filters)
        rule = programs.rule(kind, threshold(chip, shape))
        await driver.batch(programs.scores(shape, rule))
        for part in programs.parts(shape):
            for entry in range(part["select"], part["select"] + -(-shape.rows // CFG.tile)):
                kept = sum(1 << t for t in np.flatnonzero(chip.selection[entry]))
                assert await driver.selection(entry) == kept
        for part in programs.softmax(shape):
            softmax(chip, part)
        await driver.upload()
        await driver.batch(programs.context(shape))


def idle(driver):
    """Cycles without a row between the first and the last row, and the reasons given for them."""
    cycles = driver.active
    gaps = sorted(set(range(cycles[0], cycles[-1] + 1)) - set(cycles))
    reasons = Counter(driver.stalls[cycle - RowStreamer.ENTRY_DELAY].name for cycle in gaps)
    return len(gaps), dict(reasons)


@cocotb.test()
async def passes_have_no_bubbles(dut):
    """Several groups and instructions: the array works in every cycle."""
    driver, programs = await started(dut, 1)
    plain = {"stats": 0, "activation": 0}
    batch = programs.matmul(rows=CFG.geometry.max_rows, k_tiles=6, n_tiles=2, **plain)
    batch += programs.matmul(rows=2 * CFG.tile, k_tiles=3, n_tiles=1, **plain)
    batch += programs.matmul(rows=2 * CFG.tile + 1, k_tiles=6, n_tiles=1, **plain)
    await driver.batch(batch)
    rows = [(i.rows + 1) << i.halves for i in batch]
    wanted = [count * i.k_tiles * i.n_tiles for count, i in zip(rows, batch, strict=True)]
    assert len(driver.active) == sum(wanted)
    assert idle(driver) == (0, {})
    assert driver.active[0] - driver.issued[0] < START_CYCLES


@cocotb.test()
async def short_passes_take_a_tile_each(dut):
    driver, programs = await started(dut, 2)
    await driver.batch(programs.matmul(rows=1, k_tiles=20, n_tiles=1, activation=0))
    assert (np.diff(driver.active) == CFG.tile).all()
    reasons = idle(driver)[1]
    assert reasons.keys() <= {Stall.WEIGHTS.name, Stall.SCRATCHPAD.name}
    assert Stall.SCRATCHPAD.name not in reasons or not CFG.blocks.packed


@cocotb.test()
async def groups_wait_for_a_slot(dut):
    """The epilogue takes longer for a row than the array: soon no accumulators are left."""
    driver, programs = await started(dut, 5)
    await driver.load_table(programs.table())
    rows = min(CFG.geometry.max_rows, 2 * CFG.tile)
    slow = {"rows": rows, "k_tiles": 1, "n_tiles": 5, "activation": 1, "halves": 0, "stats": 0}
    for _ in range(2):
        programs.fresh()
        await driver.batch(programs.matmul(**slow) + programs.matmul(**slow))
        assert idle(driver)[1].get(Stall.ACCUMULATOR.name, 0) > rows, idle(driver)


@cocotb.test()
@cocotb.parametrize(kind=list(Filter))
async def attention_keeps_the_array_busy(dut, kind):
    """Every key tile of two query blocks: what the array waits for is known and bounded."""
    driver, programs = await started(dut, 3)
    # as many as the epilogue takes to write a tile of scores
    d_tiles = max(2, CFG.tile // CFG.engines.epilogue_lanes)
    shape, blocks = programs.long_attention(blocks=2, d_tiles=d_tiles), 2
    await driver.batch(programs.keys(shape))
    rule = Window(before=4095, after=0) if kind == Filter.WINDOW else programs.rule(kind)
    driver.active.clear()
    await driver.batch(programs.scores(shape, rule))
    groups, passes = blocks * shape.s_stride, d_tiles * blocks * shape.s_stride
    assert len(driver.active) == passes * CFG.tile
    # a short group waits for the epilogue to prepare the next job
    lost = groups * max(0, JOB_CYCLES - d_tiles * CFG.tile)
    if rule.looks:
        lost += blocks * (8 * CFG.tile + ANSWER_CYCLES)
    assert idle(driver)[0] <= lost, idle(driver)
    # a filter that looks at queries and keys takes time to answer
    assert Stall.FILTER in driver.stalls or not rule.looks

    driver.active.clear()
    await driver.batch(programs.context(shape))
    assert len(driver.active) == passes * CFG.tile
    # the parameters of a group take the port that the tiles need in every cycle
    assert idle(driver)[0] <= d_tiles * blocks * JOB_CYCLES, idle(driver)


@cocotb.test()
async def keys_in_parts_keep_the_array_busy(dut):
    """CONTEXT over two parts of the keys, four groups open: no more is lost than in one part."""
    driver, programs = await started(dut, 4)
    shape, blocks = programs.long_attention(blocks=2, d_tiles=2), 2
    middle = shape.keys // 2 // CFG.tile * CFG.tile
    shape = shape._replace(cuts=(0, middle, shape.keys))
    await driver.batch(programs.keys(shape))
    await driver.batch(programs.scores(shape, programs.rule(Filter.DENSE)))
    driver.active.clear()
    await driver.batch(programs.context(shape))
    assert len(driver.active) == 2 * blocks * shape.s_stride * CFG.tile
    assert idle(driver)[0] <= 2 * blocks * JOB_CYCLES, idle(driver)
