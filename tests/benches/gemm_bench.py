"""cocotb tests of the GEMM engine."""

import random
from collections import Counter

import cocotb
import numpy as np
import settings
from bench import instruction
from gemm_driver import GemmDriver
from gemm_programs import GemmPrograms

from transept.golden.emulator.rowwise import softmax
from transept.golden.isa import Filter, Instruction, Opcode
from transept.rtl.attention.filters import FILTERS
from transept.rtl.gemm.streamer import RowStreamer
from transept.sim.cocotb_runner import parameters

PARAMETERS = parameters()
CFG = settings.config()
SEEDS = range(PARAMETERS["seed"], PARAMETERS["seed"] + PARAMETERS["seeds"])
#: The epilogue's shortest job.
JOB_CYCLES = 12
#: Pipelines from the last query row to the first group.
ANSWER_CYCLES = 40
#: From an idle engine to the first row: expansion, reading and writing a tile, the row's pipeline.
START_CYCLES = 2 * CFG.tile + RowStreamer.ENTRY_DELAY + 20


async def started(dut, seed):
    driver, programs = GemmDriver(dut, CFG, seed), GemmPrograms(CFG, random.Random(seed))
    driver.place_stat(0, programs.channels())
    await driver.start()
    return driver, programs


@cocotb.test()
@cocotb.parametrize(seed=SEEDS)
async def matmul(dut, seed):
    driver, programs = await started(dut, seed)
    await driver.load_table(programs.table())
    for _ in range(PARAMETERS["batches"]):
        programs.fresh()
        batch = []
        for _ in range(programs.rng.randint(1, 8)):
            batch += programs.chain() if programs.rng.random() < 0.3 else programs.matmul()
        if batch:
            await driver.batch(batch)


@cocotb.test()
@cocotb.parametrize(seed=SEEDS)
async def attention(dut, seed):
    driver, programs = await started(dut, seed)
    chip = driver.chip
    for _ in range(PARAMETERS["batches"]):
        programs.fresh()
        shape = programs.attention()
        await driver.batch(programs.keys(shape))
        rows, keys, d_tiles = shape["rows"], shape["keys"], shape["d_tiles"]
        q = chip.read_act(shape["q_addr"], shape["q_stride"], rows, d_tiles)
        k = chip.read_stat(shape["k_addr"], (keys, d_tiles), (d_tiles, 1)).reshape(keys, -1)
        await driver.batch(
            [programs.scores(shape, q.astype(np.int8).astype(np.int64), k.astype(np.int64))]
        )
        for block in range(-(-rows // CFG.tile)):
            entry = shape["select"] + block
            kept = sum(1 << t for t in np.flatnonzero(chip.selection[entry]))
            assert await driver.selection(entry) == kept
        softmax(
            chip,
            instruction(
                Opcode.SOFTMAX,
                rows=rows - 1,
                keys=keys - 1,
                addr=shape["s_addr"],
                stride=shape["tiles"],
                rowstat=shape["rowstat"],
                select=shape["select"],
            ),
        )
        await driver.upload()
        await driver.batch([programs.context(shape)])


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
    assert len(driver.active) == sum((i.rows + 1) * i.k_tiles * i.n_tiles for i in batch)
    assert idle(driver) == (0, {})
    assert driver.active[0] - driver.issued[0] < START_CYCLES


@cocotb.test()
async def short_passes_take_a_tile_each(dut):
    driver, programs = await started(dut, 2)
    await driver.batch(programs.matmul(rows=1, k_tiles=20, n_tiles=1, activation=0))
    assert (np.diff(driver.active) == CFG.tile).all()


@cocotb.test()
@cocotb.parametrize(kind=list(Filter))
async def attention_keeps_the_array_busy(dut, kind):
    """Every key tile of two query blocks: what the array waits for is known and bounded."""
    driver, programs = await started(dut, 3)
    shape, blocks = programs.long_attention(blocks=2, d_tiles=2), 2
    await driver.batch(programs.keys(shape))
    zeros = np.zeros((CFG.tile, 2 * CFG.tile), np.int64)
    scores = programs.scores(shape, zeros, zeros)
    operands = {**scores.operands, "filter": kind, "threshold": -(1 << 23)}
    driver.active.clear()
    await driver.batch([Instruction(Opcode.SCORES, operands)])
    groups, passes = blocks * shape["tiles"], 2 * blocks * shape["tiles"]
    assert len(driver.active) == passes * CFG.tile
    # a short group waits for the epilogue to prepare the next job
    lost = groups * max(0, JOB_CYCLES - 2 * CFG.tile)
    if FILTERS[kind].needs_query:
        lost += blocks * (8 * CFG.tile + ANSWER_CYCLES)
    assert idle(driver)[0] <= lost, idle(driver)

    driver.active.clear()
    await driver.batch([programs.context(shape)])
    assert len(driver.active) == passes * CFG.tile
    # the parameters of a group take the port that the tiles need in every cycle
    assert idle(driver)[0] <= 2 * blocks * JOB_CYCLES, idle(driver)
