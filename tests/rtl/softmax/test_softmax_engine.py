import numpy as np
import pytest
from scratchpads import Scratchpads, run_engine

from transept.golden.config import PYNQ_Z2, TINY
from transept.golden.isa import Instruction, Opcode
from transept.golden.numerics.softmax import MASKED, softmax_rows
from transept.rtl.softmax.engine import SoftmaxEngine


def scores(rng, count):
    """One row of scores near its maximum, with masked keys; sometimes extreme or empty."""
    top = int(rng.integers(-20000, 32768))
    spread = int(rng.choice([1, 300, 3000, 65535]))
    row = np.clip(rng.integers(top - spread, top + 1, count), -32767, 32767)
    row[rng.random(count) < rng.choice([0.0, 0.1, 0.9, 1.0])] = MASKED
    return row


def prepare(cfg, pads, rng, *, rows, tiles, addr, stride, rowstat, select):
    """Fill the memories for one instruction; what they must hold afterwards."""
    act, stat = pads.act, pads.rowstat
    for block in range(-(-rows // cfg.tile)):
        kept = {0} | {t for t in range(tiles) if rng.random() < 0.7}
        pads.selection[select + block] = sum(1 << t for t in kept)
    kept_of = [pads.selection[select + m // cfg.tile] for m in range(rows)]
    expected_act, expected_stat = act.copy(), stat.copy()
    for m in range(rows):
        words = [addr + m * stride + t for t in range(tiles) if kept_of[m] >> t & 1]
        row = scores(rng, len(words) * cfg.tile)
        act[words] = expected_act[words] = row.reshape(-1, cfg.tile)
        maximum = row.max()
        stat[rowstat + m] = int(maximum) & 0xFFFFFF
        operands, total = softmax_rows(row[None], maximum[None])
        expected_act[words] = operands.reshape(-1, cfg.tile)
        expected_stat[rowstat + m] = total[0]
    return expected_act, expected_stat


def softmax(rows, tiles, cfg, **operands):
    return Instruction(Opcode.SOFTMAX, {"rows": rows - 1, "keys": tiles * cfg.tile - 1, **operands})


@pytest.mark.parametrize("refuse", [0.0, 0.3, 0.8])
@pytest.mark.parametrize(("rows", "tiles"), [(1, 1), (7, 3), (16, 5), (9, 16)])
def test_tiny_equals_golden(rows, tiles, refuse):
    check(TINY, rows, tiles, refuse, addr=40, stride=tiles + 1, rowstat=17, select=0)


@pytest.mark.parametrize(("rows", "tiles", "refuse"), [(3, 64, 0.0), (18, 2, 0.3)])
def test_pynq_equals_golden(rows, tiles, refuse):
    check(PYNQ_Z2, rows, tiles, refuse, addr=1500, stride=tiles, rowstat=300, select=3)


def check(cfg, rows, tiles, refuse, **operands):
    pads = Scratchpads(cfg, refuse=refuse, seed=rows)
    rng = np.random.default_rng(tiles)
    expected_act, expected_stat = prepare(cfg, pads, rng, rows=rows, tiles=tiles, **operands)
    run_engine(SoftmaxEngine(cfg), pads, [softmax(rows, tiles, cfg, **operands)])
    assert (pads.act == expected_act).all()
    assert (pads.rowstat == expected_stat).all()


def test_instructions_follow_each_other():
    rng = np.random.default_rng(5)
    pads = Scratchpads(TINY, refuse=0.2, seed=5)
    first = {"addr": 3, "stride": 4, "rowstat": 0, "select": 0}
    second = {"addr": 500, "stride": 8, "rowstat": 40, "select": 2}
    first_act, first_stat = prepare(TINY, pads, rng, rows=6, tiles=3, **first)
    second_act, second_stat = prepare(TINY, pads, rng, rows=5, tiles=8, **second)
    program = [softmax(6, 3, TINY, **first), softmax(5, 8, TINY, **second)]
    run_engine(SoftmaxEngine(TINY), pads, program)
    assert (pads.act[:500] == first_act[:500]).all()
    assert (pads.act[500:] == second_act[500:]).all()
    assert (pads.rowstat[:40] == first_stat[:40]).all()
    assert (pads.rowstat[40:] == second_stat[40:]).all()


@pytest.mark.parametrize("cfg", [TINY, PYNQ_Z2], ids=lambda cfg: cfg.name)
def test_rows_follow_each_other_without_a_gap(cfg):
    rows, tiles = 8, 8
    pads = Scratchpads(cfg)
    pads.selection = [(1 << tiles) - 1] * cfg.query_blocks
    pads.rowstat[:] = 32767
    operands = {"addr": 0, "stride": tiles, "rowstat": 0, "select": 0}
    (cycles,) = run_engine(SoftmaxEngine(cfg), pads, [softmax(rows, tiles, cfg, **operands)])
    work = rows * tiles * cfg.tile // cfg.exp_lanes
    assert work <= cycles <= work + 24


def test_an_empty_row_has_level_zero_and_sum_zero():
    pads = Scratchpads(TINY)
    pads.selection[0] = 0b101
    pads.rowstat[0] = MASKED & 0xFFFFFF
    pads.act[[10, 12]] = MASKED
    operands = {"addr": 10, "stride": 4, "rowstat": 0, "select": 0}
    untouched = pads.act[11].copy()
    run_engine(SoftmaxEngine(TINY), pads, [softmax(1, 3, TINY, **operands)])
    assert (pads.act[[10, 12]] == -127).all()
    assert (pads.act[11] == untouched).all()
    assert pads.rowstat[0] == 0
