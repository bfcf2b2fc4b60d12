"""The vector unit with the fewest and the most lanes; its cocotb bench has those of a
configuration."""

import numpy as np
import pytest
from scratchpads import Scratchpads
from sim_pins import simulate_engine

from transept.golden.config import TINY
from transept.golden.isa import Instruction, Opcode, Operation, OutMode
from transept.golden.layouts import pack_norm_parameters
from transept.golden.numerics.elementwise import combine
from transept.golden.numerics.fixed import Clipping
from transept.golden.numerics.norm import (
    NormParameters,
    inverse_count,
    normalise,
    residual_sum,
    rounded_sum,
)
from transept.rtl.vector.engine import VectorEngine

ROWS, COUNT, WORDS = 4, 10, 3
PLACES = {"y": (5, 4), "x": (100, 5), "out": (200, 6), "sum": (300, 7)}


def put(act, block, name):
    addr, stride = PLACES[name]
    for m, row in enumerate(block):
        act[addr + m * stride :][:WORDS].reshape(-1)[: len(row)] = row


def places(*names):
    both = {f"{name}_addr": PLACES[name][0] for name in names}
    return both | {f"{name}_stride": PLACES[name][1] for name in names}


@pytest.mark.parametrize("lanes", [1, TINY.tile])
def test_lanes(lanes):
    cfg, rng = TINY.replace(vector_lanes=lanes), np.random.default_rng(lanes)
    tile, pads = cfg.tile, Scratchpads(TINY, rng, refuse=0.2)
    norm = NormParameters(
        gamma=rng.integers(-(1 << 17), 1 << 17, COUNT),
        beta=rng.integers(-(1 << 23), 1 << 23, COUNT),
        y_shift=rng.integers(0, 9, COUNT),
        x_shift=rng.integers(0, 9, COUNT),
        sum_shift=rng.integers(0, 9, COUNT),
    )
    y, x = rng.integers(-32767, 32768, (2, ROWS, COUNT))
    put(pads.act, y, "y")
    put(pads.act, x, "x")
    shape = {"rows": ROWS - 1, "words": WORDS, "count": COUNT}
    options = {"epsilon": 1000, "out_shift": 17}
    first = shape | options | places("y", "x", "out", "sum") | {"rowstat": 9, "param": 2}
    first |= dict.fromkeys(("residual", "centre", "normalise", "sum"), 1)
    first |= {"inverse_count": inverse_count(COUNT), "tally": 3}
    second = shape | places("x", "out") | {"shift": 15, "out_mode": OutMode.ACT8, "rowstat": 20}
    second |= {"y_addr": PLACES["sum"][0], "y_stride": PLACES["sum"][1], "tally": 1}
    second |= {"stats": 1, "operation": Operation.PRODUCT}

    clipping, after = Clipping(), Clipping()
    act, rowstat = pads.act.copy(), pads.rowstat.copy()
    z = residual_sum(y, x, norm, clipping)
    total = rounded_sum(z, norm, clipping)
    normalised = normalise(z, norm, centre=True, clip=clipping, **options)
    product = combine(total, x, Operation.PRODUCT, shift=15, bits=8, clip=after)
    padding = ((0, 0), (0, WORDS * tile - COUNT))
    put(act, np.pad(total, padding), "sum")
    put(act, np.pad(product, padding), "out")
    rowstat[9 : 9 + ROWS], rowstat[20 : 20 + ROWS] = abs(normalised).max(1), abs(product).max(1)

    async def load(pins):
        for unit, word in enumerate(pack_norm_parameters(norm, tile).reshape(-1, tile)):
            pins.set("vparam__data", int.from_bytes(word.tobytes(), "little"))
            pins.set("vparam__addr", 2 * 8 + unit)
            pins.set("vparam__en", 1)
            await pins.tick()
        pins.set("vparam__en", 0)

    program = [Instruction(Opcode.NORM, first), Instruction(Opcode.ELEMENTWISE, second)]
    told = simulate_engine(VectorEngine(cfg), pads, program, before=load, listen="clipped")
    assert np.array_equal(pads.act, act)
    assert np.array_equal(pads.rowstat, rowstat)
    counts = [int(one.elements.sum()) for one in (clipping, after)]
    assert [(one["tally"], one["count"]) for one in told] == [(3, counts[0]), (1, counts[1])]
    assert all(counts)
