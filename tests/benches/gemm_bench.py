"""cocotb tests of the GEMM engine."""

import random

import cocotb
import numpy as np
from bench import instruction
from gemm_driver import GemmDriver
from gemm_programs import GemmPrograms

from transept.golden.config import preset
from transept.golden.emulator.rowwise import softmax
from transept.golden.isa import Opcode
from transept.sim.cocotb_runner import parameters

PARAMETERS = parameters()
CFG = preset(PARAMETERS["config"])


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
