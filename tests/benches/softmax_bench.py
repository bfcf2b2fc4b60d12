"""cocotb tests of the softmax engine."""

import cocotb
import numpy as np
import settings
from pins import Pins
from scratchpads import Scratchpads, run_engine

from transept.golden.isa import Instruction, Opcode
from transept.golden.numerics.softmax import MASKED, softmax_rows
from transept.rtl.softmax.engine import SoftmaxEngine
from transept.sim.cocotb_runner import parameters

CFG = settings.config()
DESIGN = SoftmaxEngine(CFG)
SHAPES = [tuple(shape) for shape in parameters()["shapes"]]
PIPELINE_CYCLES = 24


def scores(rng, count, kind):
    """One row of scores with masked keys: near its maximum, as far as can be, or all masked."""
    if kind == "extreme":
        row = rng.choice([-32767, 32767], count)
    elif kind == "real":
        row = np.rint(rng.normal(rng.normal(0, 300), rng.uniform(50, 1200), count)).astype(int)
    else:
        top = int(rng.integers(-20000, 32768))
        row = rng.integers(top - int(rng.choice([1, 300, 3000, 65535])), top + 1, count)
    row = row.clip(-32767, 32767)
    row[rng.random(count) < rng.choice([0.0, 0.1, 0.9, 1.0])] = MASKED
    return row


def prepare(
    pads, rng, *, kind, rows, tiles, addr, stride, rowstat, select, out_rowstat=None, keep=0
):
    """Fill the memories for one instruction; what they must hold afterwards."""
    act, stat = pads.act, pads.rowstat
    for block in range(-(-rows // CFG.tile)):
        kept = {0} | {t for t in range(tiles) if rng.random() < 0.7}
        pads.selection[select + block] = sum(1 << t for t in kept)
    kept_of = [pads.selection[select + m // CFG.tile] for m in range(rows)]
    expected_act, expected_stat = act.copy(), stat.copy()
    for m in range(rows):
        words = [addr + m * stride + t for t in range(tiles) if kept_of[m] >> t & 1]
        row = scores(rng, len(words) * CFG.tile, kind)
        act[words] = expected_act[words] = row.reshape(-1, CFG.tile)
        maximum = row.max()
        stat[rowstat + m] = expected_stat[rowstat + m] = int(maximum) & 0xFFFFFF
        operands, total = softmax_rows(row[None], maximum[None])
        expected_act[words] = operands.reshape(-1, CFG.tile)
        entry = (rowstat if out_rowstat is None else out_rowstat) + m
        expected_stat[entry] = (total[0] + keep * stat[entry]) & 0xFFFFFF
    return expected_act, expected_stat


def softmax(rows, tiles, **operands):
    shape = {"rows": rows - 1, "keys": tiles * CFG.tile - 1, "keep": 0}
    shape["out_rowstat"] = operands["rowstat"]
    return Instruction(Opcode.SOFTMAX, shape | operands)


async def started(dut, pads):
    pins = Pins(dut, DESIGN)
    await pins.start()
    pads.step(pins)
    return pins


@cocotb.test()
@cocotb.parametrize(
    shape=SHAPES, kind=["random", "extreme", "real"], refuse=parameters()["refusals"]
)
async def equals_golden(dut, shape, kind, refuse):
    rows, tiles = shape
    rng = settings.generator(rows)
    pads = Scratchpads(CFG, rng, refuse=refuse)
    operands = {
        "addr": CFG.memories.act_banks[0] - 3,
        "stride": tiles + 1,
        "rowstat": 17,
        "select": 1,
    }
    expected = prepare(pads, rng, kind=kind, rows=rows, tiles=tiles, **operands)
    await run_engine(await started(dut, pads), pads, [softmax(rows, tiles, **operands)])
    assert (pads.act == expected[0]).all()
    assert (pads.rowstat == expected[1]).all()


@cocotb.test()
@cocotb.parametrize(shape=SHAPES, keep=[0, 1], refuse=parameters()["refusals"])
async def sums_may_go_elsewhere_and_join_those_found(dut, shape, keep, refuse):
    rows, tiles = shape
    rng = settings.generator(rows, keep)
    pads = Scratchpads(CFG, rng, refuse=refuse)
    operands = {"addr": 9, "stride": tiles, "rowstat": 17, "select": 0}
    operands |= {"out_rowstat": 17 + rows, "keep": keep}
    expected = prepare(pads, rng, kind="real", rows=rows, tiles=tiles, **operands)
    await run_engine(await started(dut, pads), pads, [softmax(rows, tiles, **operands)])
    assert (pads.act == expected[0]).all()
    assert (pads.rowstat == expected[1]).all()


@cocotb.test()
async def instructions_follow_each_other(dut):
    rng = settings.generator(100)
    pads = Scratchpads(CFG, rng, refuse=0.2)
    first = {"addr": 3, "stride": 4, "rowstat": 0, "select": 0}
    second = {"addr": 500, "stride": 8, "rowstat": 40, "select": 2}
    first_act, first_stat = prepare(pads, rng, kind="random", rows=6, tiles=3, **first)
    second_act, second_stat = prepare(pads, rng, kind="random", rows=5, tiles=8, **second)
    program = [softmax(6, 3, **first), softmax(5, 8, **second)]
    await run_engine(await started(dut, pads), pads, program)
    assert (pads.act[:500] == first_act[:500]).all()
    assert (pads.act[500:] == second_act[500:]).all()
    assert (pads.rowstat[:40] == first_stat[:40]).all()
    assert (pads.rowstat[40:] == second_stat[40:]).all()


@cocotb.test()
async def rows_follow_each_other_without_a_gap(dut):
    rows, tiles = 8, 8
    pads = Scratchpads(CFG, settings.generator(101))
    pads.selection = [(1 << tiles) - 1] * CFG.query_blocks
    pads.rowstat[:] = 32767
    operands = {"addr": 0, "stride": tiles, "rowstat": 0, "select": 0}
    pins = await started(dut, pads)
    (cycles,) = await run_engine(pins, pads, [softmax(rows, tiles, **operands)])
    work = rows * tiles * CFG.tile // CFG.engines.exp_lanes
    assert work <= cycles <= work + PIPELINE_CYCLES


@cocotb.test()
async def an_empty_row_has_level_zero_and_sum_zero(dut):
    pads = Scratchpads(CFG, settings.generator(102))
    pads.selection[0] = 0b101
    pads.rowstat[0] = MASKED & 0xFFFFFF
    pads.act[[10, 12]] = MASKED
    operands = {"addr": 10, "stride": 4, "rowstat": 0, "select": 0}
    untouched = pads.act[11].copy()
    await run_engine(await started(dut, pads), pads, [softmax(1, 3, **operands)])
    assert (pads.act[[10, 12]] == -127).all()
    assert (pads.act[11] == untouched).all()
    assert pads.rowstat[0] == 0
