"""cocotb tests of the GEMM engine."""

import random
from collections import Counter

import cocotb
import numpy as np
from bench import instruction
from gemm_driver import GemmDriver
from gemm_programs import GemmPrograms

from transept.golden.config import preset
from transept.golden.emulator.rowwise import softmax
from transept.golden.isa import Filter, Instruction, Opcode
from transept.rtl.gemm.streamer import RowStreamer
from transept.sim.cocotb_runner import parameters

PARAMETERS = parameters()
CFG = preset(PARAMETERS["config"])
#: From an idle engine to the first row: expansion, reading and writing a tile, the row's pipeline.
START_CYCLES = 2 * CFG.tile + RowStreamer.ENTRY_DELAY + 20


async def started(dut, seed):
    driver = GemmDriver(dut, CFG, seed)
    await driver.start()
    return driver, GemmPrograms(CFG, random.Random(seed))


@cocotb.test()
@cocotb.parametrize(seed=range(PARAMETERS["seeds"]))
async def matmul(dut, seed):
    driver, programs = await started(dut, seed)
    for _ in range(PARAMETERS["batches"]):
        programs.fresh()
        batch = []
        for _ in range(programs.rng.randint(1, 8)):
            batch += programs.chain() if programs.rng.random() < 0.3 else programs.matmul()
        if batch:
            await driver.batch(batch)


@cocotb.test()
@cocotb.parametrize(seed=range(PARAMETERS["seeds"]))
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
    batch = programs.matmul(rows=CFG.max_rows, k_tiles=6, n_tiles=2, stats=0)
    batch += programs.matmul(rows=2 * CFG.tile, k_tiles=3, n_tiles=1, stats=0)
    batch += programs.matmul(rows=2 * CFG.tile + 1, k_tiles=6, n_tiles=1, stats=0)
    await driver.batch(batch)
    rows = sum((i.rows + 1) * i.k_tiles * i.n_tiles for i in batch)
    dut._log.info("first row after %d cycles", driver.active[0] - driver.issued[0])
    assert len(driver.active) == rows
    assert idle(driver) == (0, {})
    assert driver.active[0] - driver.issued[0] < START_CYCLES


@cocotb.test()
async def short_passes_take_a_tile_each(dut):
    driver, programs = await started(dut, 2)
    await driver.batch(programs.matmul(rows=1, k_tiles=20, n_tiles=1))
    gaps = np.diff(driver.active)
    dut._log.info("gaps %s", gaps)
    assert (gaps == CFG.tile).all()


@cocotb.test()
@cocotb.parametrize(kind=list(Filter))
async def attention_keeps_the_array_busy(dut, kind):
    """SCORES and CONTEXT over the longest row that fits, as a fraction of the array's time."""
    driver, programs = await started(dut, 3)
    rows, d_tiles = 2 * CFG.tile, 2
    keys = min(CFG.max_keys, programs.stat // 2 // d_tiles // CFG.tile * CFG.tile)
    shape = programs.attention() | {"rows": rows, "keys": keys, "d_tiles": d_tiles}
    shape |= {"tiles": keys // CFG.tile, "position": keys, "q_addr": 0, "q_stride": d_tiles}
    shape |= {"k_addr": programs.stat, "v_addr": 0, "s_addr": programs.act}
    shape |= {"rowstat": programs.rowstat, "select": 0}
    await driver.batch(programs.keys(shape))
    zeros = np.zeros((CFG.tile, d_tiles * CFG.tile), np.int64)
    scores = programs.scores(shape, zeros, zeros)
    operands = {**scores.operands, "filter": kind, "threshold": -(1 << 23)}
    for run in (Instruction(Opcode.SCORES, operands), programs.context(shape)):
        driver.active.clear()
        await driver.batch([run])
        lost, reasons = idle(driver)
        dut._log.info("%s: %d rows, %d idle %s", run, len(driver.active), lost, reasons)
