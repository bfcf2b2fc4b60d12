"""The filter bank against ``golden.numerics.filters``."""

import random

import numpy as np
import pytest
from amaranth.sim import Simulator

from transept.golden.config import TINY
from transept.golden.isa import Filter
from transept.golden.numerics.filters import select_tiles, tile_estimate
from transept.rtl.attention.filters import FILTERS, FilterBank

PERIOD = 1e-8


async def observe_keys(ctx, dut, cfg, keys, region):
    """Show K [n, d] as the epilogue writes it: d tile by d tile, all keys of each."""
    d_tiles = keys.shape[1] // cfg.tile
    for d in range(d_tiles):
        for j, key in enumerate(keys):
            word = [int(x) for x in key[d * cfg.tile : (d + 1) * cfg.tile]]
            index = region + j // cfg.tile * d_tiles + d
            first = int(j % cfg.tile == 0)
            ctx.set(dut.observe.payload, {"index": index, "first": first, "word": word})
            ctx.set(dut.observe.valid, 1)
            await ctx.tick()
            ctx.set(dut.observe.valid, 0)


async def ask(ctx, dut, cfg, queries, rng, **request):
    """Request one block, show its rows, and return the answer as [(tile, mask)]."""
    d_tiles = queries.shape[1] // cfg.tile
    ctx.set(dut.request.payload, {"rows": len(queries) - 1, "d_tiles": d_tiles, **request})
    ctx.set(dut.request.valid, 1)
    while True:
        _, _, taken = await ctx.tick().sample(dut.request.ready)
        if taken:
            break
    ctx.set(dut.request.valid, 0)
    if FILTERS[request["kind"]].needs_query:
        for d in range(d_tiles):
            for row in queries:
                while rng.random() < 0.3:
                    await ctx.tick()
                word = [int(x) for x in row[d * cfg.tile : (d + 1) * cfg.tile]]
                ctx.set(dut.query.payload, word)
                ctx.set(dut.query.valid, 1)
                await ctx.tick()
                ctx.set(dut.query.valid, 0)
    answer, last = [], False
    while not last:
        ctx.set(dut.select.ready, int(rng.random() < 0.7))
        _, _, ready, valid, payload = await ctx.tick().sample(
            dut.select.ready, dut.select.valid, dut.select.payload
        )
        if ready and valid:
            mask = [[bool(row >> j & 1) for j in range(cfg.tile)] for row in payload.mask]
            answer.append((payload.tile, mask[: len(queries)]))
            last = bool(payload.last)
    ctx.set(dut.select.ready, 0)
    return answer


def random_case(rng, generator, cfg):
    """A sequence and one block of it: (kind, position, keys, queries, threshold)."""
    kind = rng.choice(list(Filter))
    d = cfg.tile * rng.choice([1, 2, 3])
    count = rng.choice(
        [1, 2, cfg.tile, cfg.geometry.max_keys, rng.randint(1, cfg.geometry.max_keys)]
    )
    scale = rng.choice([3, 127])
    keys = generator.integers(-scale, scale + 1, (count, d))
    queries = generator.integers(-scale, scale + 1, (rng.randint(1, cfg.tile), d))
    if rng.random() < 0.1:
        keys[:], queries[:] = 127, -127
    estimates = [tile_estimate(queries, keys[t : t + cfg.tile]) for t in range(0, count, cfg.tile)]
    threshold = rng.choice([sorted(estimates)[len(estimates) // 2], max(estimates) + 1, -(1 << 23)])
    return kind, rng.randrange(2 * count), keys, queries, max(-(1 << 23), threshold)


@pytest.mark.parametrize("seed", range(3))
def test_answers_like_the_golden_filters(seed):
    cfg, rng, generator = TINY, random.Random(seed), np.random.default_rng(seed)
    dut = FilterBank(cfg)
    finished = []

    async def bench(ctx):
        for _ in range(25):
            kind, position, keys, queries, threshold = random_case(rng, generator, cfg)
            region = rng.randrange(
                cfg.memories.stat_words // cfg.tile - keys.size // cfg.tile**2 - 3
            )
            await observe_keys(ctx, dut, cfg, keys, region)
            await ctx.tick().repeat(3)
            request = {"kind": kind, "position": position, "keys": len(keys) - 1}
            request |= {"region": region, "threshold": threshold}
            got = await ask(ctx, dut, cfg, queries, rng, **request)
            assert got == select_tiles(
                kind, queries, keys, position=position, tile=cfg.tile, threshold=threshold
            )
        finished.append(True)

    sim = Simulator(dut)
    sim.add_clock(PERIOD)
    sim.add_testbench(bench)
    sim.run_until(50_000 * PERIOD)
    assert finished
