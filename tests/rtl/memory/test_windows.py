"""Rows become accesses, accesses become checked addresses."""

from __future__ import annotations

import random

import pytest
from memory_model import put, simulate

from transept.golden.config import PYNQ_Z2, TINY
from transept.rtl.memory.walker import RowWalker
from transept.rtl.memory.windows import WindowCheck


async def _collect(ctx, port, count, rng=None):
    got = []
    while len(got) < count:
        ctx.set(port.ready, rng is None or rng.random() < 0.6)
        _, _, valid, ready, item = await ctx.tick().sample(port.valid, port.ready, port.payload)
        if valid and ready:
            got.append(item)
    ctx.set(port.ready, 0)
    return got


def _accesses(cfg, rows):
    """(offset, bytes) of every row, or of all if there is no gap."""
    size = rows["words"] * cfg.tile * (1 + rows["wide"])
    pitch = rows["pitch"] * cfg.tile
    if pitch == size:
        return [(rows["offset"], rows["rows"] * size)]
    return [(rows["offset"] + m * pitch, size) for m in range(rows["rows"])]


@pytest.mark.parametrize("cfg", [TINY, PYNQ_Z2], ids=lambda cfg: cfg.name)
def test_walker(cfg):
    rng = random.Random(cfg.name)
    cases = [
        {"rows": 0xFFFF, "words": 0xFFFF, "wide": 0, "pitch": 0xFFFF, "offset": 0},
        {"rows": 3, "words": 5, "wide": 1, "pitch": 0xFFFF, "offset": 0xFFFFFFF0},
    ]
    for _ in range(40):
        words, wide = rng.randint(1, 40), rng.randrange(2)
        pitch = rng.choice([words << wide, rng.randrange(100)])
        rows, offset = rng.randint(1, 20), rng.randrange(1 << 20) * cfg.tile
        cases.append({"rows": rows, "words": words, "wide": wide, "pitch": pitch, "offset": offset})
    expected = [
        (offset & (1 << 33) - 1, size, n == len(parts) - 1)
        for parts in (_accesses(cfg, case) for case in cases)
        for n, (offset, size) in enumerate(parts)
    ]
    dut = RowWalker(cfg)

    async def ask(ctx):
        for case in cases:
            await put(ctx, dut.i, case | {"window": 1})

    async def take(ctx):
        got = await _collect(ctx, dut.o, len(expected), rng)
        assert [(a.offset, a.bytes, a.last) for a in got] == expected

    simulate(dut, ask, take, cycles=3000)


LIMIT = 0x1000
FITS = [(0, LIMIT), (LIMIT - 16, 16), (16, 32)]
BREAKS = [(LIMIT, 1), (0, LIMIT + 1), (LIMIT - 16, 32), (1 << 32, 16), (0, 1 << 36)]
BREAKS += [(offset, 16) for offset in (1, 2, 3, 8, 31)]
#: (base, limit): no multiple of the 16 bytes of a tile, or beyond 32 bits.
MISPLACED = [(3, LIMIT), (8, LIMIT), (0xFFFF_F001, 16), (0xFFFF_F000, LIMIT), (16, 0xFFFF_FFF0)]


@pytest.mark.parametrize("window", range(4))
def test_accesses_inside_pass_with_their_physical_address(window):
    dut = WindowCheck(PYNQ_Z2)
    windows = [{"base": 0x1000_0000 * (n + 1), "limit": 0} for n in range(4)]
    windows[window]["limit"] = LIMIT

    async def ask(ctx):
        ctx.set(dut.windows, windows)
        for offset, size in FITS:
            await put(ctx, dut.i, {"window": window, "offset": offset, "bytes": size, "last": 0})

    async def take(ctx):
        got = await _collect(ctx, dut.o, len(FITS), random.Random(window))
        base = windows[window]["base"]
        assert [(r.address, r.bytes) for r in got] == [(base + at, size) for at, size in FITS]
        assert not ctx.get(dut.violation.valid)

    simulate(dut, ask, take, cycles=200)


def test_the_last_window_ends_below_32_bits():
    dut, base, limit = WindowCheck(PYNQ_Z2), 0xFFFF_F000, LIMIT - 1

    async def bench(ctx):
        ctx.set(dut.windows[1], {"base": base, "limit": limit})
        ctx.set(dut.o.ready, 1)
        await put(ctx, dut.i, {"window": 1, "offset": 16, "bytes": 32})
        assert [r.address for r in await _collect(ctx, dut.o, 1)] == [base + 16]

    simulate(dut, bench, cycles=100)


@pytest.mark.parametrize(
    ("offset", "size", "window"),
    [*((*access, (0, LIMIT)) for access in BREAKS), *((0, 16, window) for window in MISPLACED)],
)
def test_the_first_violation_stops_everything(offset, size, window):
    dut = WindowCheck(PYNQ_Z2)

    async def bench(ctx):
        ctx.set(dut.windows[2], {"base": window[0], "limit": window[1]})
        ctx.set(dut.o.ready, 1)
        await put(ctx, dut.i, {"window": 2, "offset": offset, "bytes": size})
        ctx.set(dut.i.payload, {"window": 1, "offset": 0, "bytes": 16})
        ctx.set(dut.windows[1], {"base": 0, "limit": LIMIT})
        ctx.set(dut.i.valid, 1)
        for _ in range(8):
            await ctx.tick()
            assert not ctx.get(dut.o.valid)
        violation = ctx.get(dut.violation)
        assert (violation.valid, violation.window, violation.offset) == (1, 2, offset & 0xFFFFFFFF)

    simulate(dut, bench, cycles=100)
