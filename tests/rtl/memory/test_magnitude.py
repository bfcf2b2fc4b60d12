"""Maxima of rows: all of them arrive, however long the port of the row statistics is refused."""

import random

import pytest
from memory_model import put, simulate
from sizes import FULL, named

from transept.golden.config import TINY
from transept.rtl.memory.magnitude import RowMagnitude

ROWS = 60


@pytest.mark.parametrize("refusals", [0.0, 0.6, 0.95])
@pytest.mark.parametrize("cfg", [TINY, *FULL], ids=named)
def test_no_row_is_lost_while_the_port_is_refused(cfg, refusals):
    """Rows of one word, one a cycle, fill the tree and the queue behind it."""
    dut, rng = RowMagnitude(cfg), random.Random(1)
    words = [[rng.randrange(-(1 << 15), 1 << 15) for _ in range(cfg.tile)] for _ in range(ROWS)]
    written, retired = [], []

    async def offers(ctx):
        for row, word in enumerate(words):
            marks = {"measure": 1, "last": 1, "final": int(row == ROWS - 1)}
            await put(ctx, dut.i, {"word": word, "entry": row, **marks})
        while not retired:
            await ctx.tick()

    async def memory(ctx):
        while True:
            ctx.set(dut.write.ready, int(rng.random() >= refusals))
            sampled = (dut.write.en, dut.write.ready, dut.write.addr, dut.write.data, dut.retire)
            _, _, en, ready, addr, value, retire = await ctx.tick().sample(*sampled)
            if en and ready:
                written.append((addr, value))
            if retire:
                retired.append(len(written))

    simulate(dut, offers, background=[memory], cycles=20_000)
    assert written == [(row, max(map(abs, word))) for row, word in enumerate(words)]
    assert retired == [ROWS]
