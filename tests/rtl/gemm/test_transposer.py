"""Tiles through the transposer, as rows and as columns, at every pace."""

import numpy as np
import pytest
from amaranth.sim import Simulator
from unused import unused

from transept.golden.config import PYNQ_Z2, TINY
from transept.rtl.gemm.transposer import Transposer


def run(dut, words, *, offer, accept, cycles=5000):
    """Offer (word, transposed) pairs and take as many words; ``offer()``, ``accept()`` pace it."""
    got, times, sent = [], [], 0

    async def bench(ctx):
        nonlocal sent
        cycle, offered = 0, False
        while len(got) < len(words):
            assert cycle < cycles
            offered = sent < len(words) and (offered or offer())
            ctx.set(dut.i.valid, offered)
            if offered:
                ctx.set(dut.i.payload, {"word": words[sent][0], "transposed": words[sent][1]})
            ctx.set(dut.o.ready, bool(accept()))
            if ctx.get(dut.o.valid) and ctx.get(dut.o.ready):
                got.append(list(ctx.get(dut.o.payload)))
                times.append(cycle)
            if offered and ctx.get(dut.i.ready):
                sent, offered = sent + 1, False
            await ctx.tick()
            cycle += 1

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()
    return got, times


def random_tiles(cfg, rng, count):
    tiles = rng.integers(-127, 128, (count, cfg.tile, cfg.tile))
    flags = rng.integers(0, 2, count)
    words = [
        (row.tolist(), int(flag)) for tile, flag in zip(tiles, flags, strict=True) for row in tile
    ]
    turned = [tile.T if flag else tile for tile, flag in zip(tiles, flags, strict=True)]
    return words, np.concatenate(turned).tolist()


@pytest.mark.parametrize("cfg", [TINY, PYNQ_Z2], ids=lambda cfg: cfg.name)
@pytest.mark.parametrize("slots", [2, 4])
@pytest.mark.parametrize(("gap", "stall"), [(0, 0), (0.5, 0), (0, 0.5), (0.3, 0.3)])
def test_turns_tiles(cfg, slots, gap, stall):
    rng = np.random.default_rng(slots)
    words, expected = random_tiles(cfg, rng, 12)
    got, _ = run(
        Transposer(cfg, slots=slots),
        words,
        offer=lambda: rng.random() >= gap,
        accept=lambda: rng.random() >= stall,
    )
    assert got == expected


def test_one_word_a_cycle():
    words, expected = random_tiles(PYNQ_Z2, np.random.default_rng(1), 8)
    got, times = run(Transposer(PYNQ_Z2, slots=2), words, offer=lambda: True, accept=lambda: True)
    assert got == expected
    first = PYNQ_Z2.tile + 1
    assert times == list(range(first, first + len(words)))


@pytest.mark.parametrize("slots", [1, 3])
def test_refuses_odd_slots(slots):
    with unused(), pytest.raises(ValueError, match="slots must be a power of two and at least 2"):
        Transposer(TINY, slots=slots)
