"""The softmax with the fewest and the most lanes; its cocotb bench has those of a configuration."""

import numpy as np
import pytest
from scratchpads import Scratchpads
from sim_pins import simulate_engine

from transept.golden.config import TINY
from transept.golden.isa import Instruction, Opcode
from transept.golden.numerics.softmax import softmax_rows
from transept.rtl.softmax.engine import SoftmaxEngine


@pytest.mark.parametrize("lanes", [1, TINY.tile])
def test_lanes(lanes):
    cfg, rng = TINY.replace(exp_lanes=lanes), np.random.default_rng(lanes)
    rows, tiles, addr, stride, rowstat, sums = 5, 3, 40, 7, 11, 60
    pads = Scratchpads(cfg, rng, refuse=0.2)
    pads.selection[:2] = [(1 << tiles) - 1] * 2
    scores = rng.integers(-700, 1, (rows, tiles * cfg.tile))
    scores[1] = 0  # all of the largest level
    scores[:, 3] = 0
    for m, row in enumerate(scores):
        pads.act[addr + m * stride :][:tiles] = row.reshape(tiles, -1)
        pads.rowstat[rowstat + m] = 0
    operands = {"rows": rows - 1, "keys": tiles * cfg.tile - 1, "keep": 0, "select": 0}
    operands |= {"addr": addr, "stride": stride, "rowstat": rowstat, "out_rowstat": sums}
    act, found = pads.act.copy(), pads.rowstat.copy()
    levels, totals = softmax_rows(scores, np.zeros(rows, np.int64))
    for m in range(rows):
        act[addr + m * stride :][:tiles] = levels[m].reshape(tiles, -1)
        found[sums + m] = totals[m]
    simulate_engine(SoftmaxEngine(cfg), pads, [Instruction(Opcode.SOFTMAX, operands)])
    assert np.array_equal(pads.act, act)
    assert np.array_equal(pads.rowstat, found)
