"""cocotb tests of the row quantiser."""

import cocotb
import numpy as np
import settings
from draws import KINDS, int16_rows
from pins import Pins

from transept.golden.numerics.requantise import quantise_halves, quantise_row, quantise_scale
from transept.rtl.arith.row_quantiser import RowQuantiser

CFG = settings.config()
DESIGN = RowQuantiser(CFG)
ROWS = 300


def draw_rows(rng, kind):
    """Rows of a kind; random ones are of every magnitude, maxima below the floor among them."""
    x = int16_rows(rng, ROWS, CFG.tile, kind)
    if kind == "random":
        x >>= rng.integers(0, 16, (ROWS, 1))
        x[:2], x[2] = 0, 1
    return x, abs(x).max(-1)


@cocotb.test()
@cocotb.parametrize(kind=KINDS, gap=[0.0, 0.4])
async def matches_golden_and_holds_its_latency(dut, kind, gap):
    rng, pins = settings.generator(KINDS.index(kind)), Pins(dut, DESIGN)
    x, maxima = draw_rows(rng, kind)
    # the maximum of a row is that of all its words, so it may be larger than this word's
    maxima = np.where(rng.random(ROWS) < 0.3, 32767, maxima)
    raw, scale = rng.random(ROWS) < 0.25, quantise_scale(maxima)
    low = (rng.random(ROWS) < 0.4) & ~raw & CFG.blocks.halves
    high_half, low_half = quantise_halves(x, maxima)
    assert np.array_equal(high_half, quantise_row(x, maxima))
    expected = np.where(low[:, None], low_half, high_half)
    expected = np.where(raw[:, None], x.astype(np.int8), expected)
    offered = [
        n for row in range(ROWS) for n in [None] * int(rng.geometric(1 - gap) - 1) + [row]
    ] + [None] * DESIGN.LATENCY
    got = []
    await pins.start()
    for cycle, n in enumerate(offered):
        pins.set("i__valid", n is not None)
        if n is not None:
            pins.put("i", row=x[n], scale=scale[n], raw=raw[n], low=low[n])
        await pins.tick()
        due = cycle - DESIGN.LATENCY
        assert pins.get("o__valid") == (due >= 0 and offered[due] is not None)
        if pins.get("o__valid"):
            got.append(pins.get("o__row"))
    assert got == expected.tolist()
