"""The filter bank against ``golden.filters``."""

import random

import numpy as np
import pytest
from amaranth.sim import Simulator
from memory_model import simulate

from transept.golden import filters
from transept.golden.config import TINY, Filters
from transept.golden.filters import Causal, Dense, QueryBlock, TileThreshold, Window, kept_tiles
from transept.golden.isa import Filter
from transept.rtl.attention.bank import FilterBank
from transept.rtl.attention.filters import FILTERS

PERIOD = 1e-8
ONLY = {
    name: TINY.replace(name=name, filters=Filters(names=names, estimate_multipliers=1))
    for name, names in {"dense": ("dense",), "two": ("causal", "window")}.items()
}


def random_case(rng, generator, cfg):
    """A rule, the block that it is asked about, and its query rows and keys."""
    kind = rng.choice(cfg.key_filters)
    d = cfg.tile * rng.choice([1, 2, 3, 7, 8, 15])
    count = rng.choice(
        [1, 2, cfg.tile, cfg.geometry.max_keys, rng.randint(1, cfg.geometry.max_keys)]
    )
    scale = rng.choice([3, 127])
    keys = generator.integers(-scale, scale + 1, (count, d))
    queries = generator.integers(-scale, scale + 1, (rng.randint(1, cfg.tile), d))
    if rng.random() < 0.1:
        keys[:], queries[:] = 127, -127
    near = rng.choice([0, 65_530 - count, rng.randrange(60_000)])
    position = max(0, near + rng.randint(-count - 9, 2 * count))
    reach = [0, 1, cfg.tile - 1, cfg.tile, rng.randint(0, count), 4095]
    if rng.random() < 0.3:  # as far apart as can be, or just within the reach of a window
        near, position = rng.choice([(65_535, 0), (0, 65_540), (0, 3000), (3000, 0)])
        reach = [4095, 3001, 0]
    block = QueryBlock(
        tile=cfg.tile,
        position=position,
        keys=count,
        key_base=near,
        query_sum=queries.sum(0),
        key_sums=filters.key_sums(keys, cfg.tile),
    )
    if kind == Filter.TILE_THRESHOLD:
        estimates = [TileThreshold.estimate(block, t) for t in range(-(-count // cfg.tile))]
        threshold = rng.choice([sorted(estimates)[len(estimates) // 2], max(estimates) + 1])
        rule = TileThreshold(rng.choice([threshold, -(1 << 23), (1 << 23) - 1]))
    elif kind == Filter.WINDOW:
        rule = Window(before=rng.choice(reach), after=rng.choice(reach))
    else:
        rule = Causal() if kind == Filter.CAUSAL else Dense()
    return rule, block, queries, keys


def expected(rule, block, rows):
    """Computed tiles, each with the keys that the rows see: [(tile, [row][key])]."""
    kept, tile = kept_tiles(rule, block), block.tile
    query = block.position + np.arange(rows)[:, None]
    answer = []
    for t in kept or [0]:
        seen = np.broadcast_to(rule.sees(query, block.first_key(t) + np.arange(tile)), (rows, tile))
        answer.append((t, (seen & bool(kept)).tolist()))
    return answer


async def observe_keys(ctx, dut, cfg, keys, region, rng):
    """Show K [n, d] in any order of its words that keeps the first row of a tile in front."""
    d_tiles = keys.shape[1] // cfg.tile
    words = [(j, d) for d in range(d_tiles) for j in range(len(keys))]
    if rng.random() < 0.5:
        words.sort()  # row by row, as LOAD does
    for j, d in words:
        while rng.random() < 0.2:
            await ctx.tick()
        word = [int(x) for x in keys[j][d * cfg.tile : (d + 1) * cfg.tile]]
        summary = region + j // cfg.tile * d_tiles + d
        first = int(j % cfg.tile == 0)
        ctx.set(dut.observe.payload, {"summary": summary, "first": first, "word": word})
        ctx.set(dut.observe.valid, 1)
        await ctx.tick()
        ctx.set(dut.observe.valid, 0)


async def ask(ctx, dut, cfg, rule, block, queries, region, rng):
    """Request one block, show its rows, and return the answer as [(tile, [row][key])]."""
    d_tiles = queries.shape[1] // cfg.tile
    request = {
        "kind": rule.kind,
        "rows": len(queries) - 1,
        "position": block.position,
        "key_base": block.key_base,
        "keys": block.keys - 1,
        "region": region,
        "d_tiles": d_tiles,
        "parameter": rule.parameter,
    }
    ctx.set(dut.request.payload, request)
    ctx.set(dut.request.valid, 1)
    while True:
        _, _, taken = await ctx.tick().sample(dut.request.ready)
        if taken:
            break
    ctx.set(dut.request.valid, 0)
    for d in range(d_tiles) if rule.looks else ():
        for row in queries:
            while rng.random() < 0.3:
                await ctx.tick()
            word = [int(x) for x in row[d * cfg.tile : (d + 1) * cfg.tile]]
            ctx.set(dut.query.payload, word)
            ctx.set(dut.query.valid, 1)
            await ctx.tick()
            ctx.set(dut.query.valid, 0)
    return await answer(ctx, dut, cfg, len(queries), rng)


async def answer(ctx, dut, cfg, rows, rng):
    """What the filter selects, taken with pauses."""
    selected, last = [], False
    ahead = np.arange(cfg.tile) - np.arange(rows)[:, None]
    while not last:
        ctx.set(dut.select.ready, int(rng.random() < 0.7))
        _, _, ready, valid, payload = await ctx.tick().sample(
            dut.select.ready, dut.select.valid, dut.select.payload
        )
        if ready and valid:
            mask = (payload.lower <= ahead) & (ahead <= payload.upper)
            selected.append((payload.tile, mask.tolist()))
            last = bool(payload.last)
    ctx.set(dut.select.ready, 0)
    return selected


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("cfg", [TINY, *ONLY.values()], ids=lambda cfg: cfg.name)
def test_answers_like_the_golden_filters(cfg, seed):
    rng, generator = random.Random(seed), np.random.default_rng(seed)
    dut = FilterBank(cfg)

    async def bench(ctx):
        for _ in range(25):
            rule, block, queries, keys = random_case(rng, generator, cfg)
            region = rng.randrange(cfg.key_summaries - keys.size // cfg.tile**2 - 3)
            if cfg.observes:
                await observe_keys(ctx, dut, cfg, keys, region, rng)
                await ctx.tick().repeat(3)
            got = await ask(ctx, dut, cfg, rule, block, queries, region, rng)
            assert got == expected(rule, block, len(queries)), (rule, block)

    simulate(dut, bench, cycles=60_000)


def test_estimates_wait_while_words_are_observed():
    """Another head's keys are written in every cycle: fetching takes longer and gives the same."""
    cfg, rng, generator = TINY, random.Random(9), np.random.default_rng(9)
    dut = FilterBank(cfg)
    keys, queries = generator.integers(-127, 128, (2, 16, 4))
    block = QueryBlock(4, 0, 16, 0, queries[:4].sum(0), filters.key_sums(keys, 4))
    rule = TileThreshold(0)
    got = []

    async def noise(ctx):
        while not got:
            busy = rng.random() < 0.9
            word = [rng.randint(-127, 127) for _ in range(4)]
            ctx.set(dut.observe.payload, {"summary": 100, "first": rng.randint(0, 1), "word": word})
            ctx.set(dut.observe.valid, busy)
            await ctx.tick()

    async def bench(ctx):
        await observe_keys(ctx, dut, cfg, keys, 0, rng)
        ready.append(True)
        got.append(await ask(ctx, dut, cfg, rule, block, queries[:4], 0, rng))

    ready = []

    async def patient(ctx):
        while not ready:
            await ctx.tick()
        await noise(ctx)

    sim = Simulator(dut)
    sim.add_clock(PERIOD)
    sim.add_testbench(bench)
    sim.add_testbench(patient)
    sim.run_until(5_000 * PERIOD)
    assert got == [expected(rule, block, 4)]


def test_every_filter_has_its_component():
    assert set(FILTERS) == set(Filter)
    assert {rule.kind for rule in filters.FILTERS.values()} == set(Filter)
