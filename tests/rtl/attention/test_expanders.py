"""SCORES and CONTEXT as groups, of operands with any bits, with pauses on every port."""

import random

import pytest
from groups import flat
from memory_model import simulate

from transept.golden import isa
from transept.golden.config import TINY
from transept.golden.isa import AMode, Filter, Opcode, OutMode, RowScale
from transept.rtl.attention.context import ContextExpander
from transept.rtl.attention.scores import ScoresExpander
from transept.rtl.gemm.descriptors import Statistic
from transept.rtl.gemm.matmul import PARAMETER_WORDS

TILE = TINY.tile
CYCLES = 50_000
SIXTEEN, TWELVE = (1 << 16) - 1, (1 << 12) - 1


def operands_of(rng, opcode, **limits):
    """Every operand, half of the time with all its bits."""
    found = {}
    for field in isa.FORMATS[opcode].fields:
        most = limits.get(field.name, (1 << field.width) - 1)
        found[field.name] = most if rng.random() < 0.5 else rng.randint(0, most)
    return found | {"d_tiles": max(1, found["d_tiles"])}


def word_of(opcode, operands):
    return sum(operands[field.name] << low for field, low in isa.FORMATS[opcode].offsets())


def blocks_of(o):
    """(number, rows less one, whether it is the last) of each block of query rows."""
    last = o["rows"] // TILE
    return [(b, min(o["rows"] - b * TILE, TILE - 1), b == last) for b in range(last + 1)]


async def expand(ctx, dut, word, rng):
    """Offer an instruction until it is taken; its groups, in the order they leave."""
    got, taken = [], False
    ctx.set(dut.instr.payload, word)
    ctx.set(dut.instr.valid, 1)
    for _ in range(3000):
        if taken:
            break
        ctx.set(dut.groups.ready, rng.random() < 0.6)
        _, _, taken, ready, valid, group = await ctx.tick().sample(
            dut.instr.ready, dut.groups.ready, dut.groups.valid, dut.groups.payload
        )
        if ready and valid:
            got.append(group)
    assert taken
    ctx.set(dut.instr.valid, 0)
    ctx.set(dut.groups.ready, 0)
    return got


def scores_groups(o, answers):
    """What SCORES asks, the groups that follow, and the selections that it writes."""
    asked, groups, written = [], [], []
    for (b, rows, last_block), answer in zip(blocks_of(o), answers, strict=True):
        asked.append(
            {
                "kind": o["filter"],
                "rows": rows,
                "position": o["position"] + b * TILE,
                "key_base": o["key_base"],
                "keys": o["keys"],
                "region": o["k_addr"] // TILE % 256,
                "d_tiles": o["d_tiles"],
                "parameter": o["parameter"],
            }
        )
        common = {
            "passes": o["d_tiles"] - 1,
            "tile_step": 1,
            "sparse": 0,
            "tile.row_stride": o["d_tiles"],
            "tile.transposed": 1,
            "tile.first": 1,
            "tile.finishes": 1,
            "row.addr": o["q_addr"] + b * TILE * o["q_stride"] & SIXTEEN,
            "row.stride": o["q_stride"],
            "row.rows": rows,
            "row.mode": AMode.RAW,
            "row.row_scale": RowScale.ONE,
            "job.rows": rows,
            "job.out_stride": o["s_stride"],
            "job.out_mode": OutMode.ACT16,
            "job.immediate": 1,
            "job.columns": 0,
            "job.multiplier": o["multiplier"],
            "job.channel_shift": o["channel_shift"],
            "job.row_shift": o["row_shift"],
            "job.masked": 1,
            "job.tally": o["tally"],
            "job.statistic": Statistic.MAXIMUM,
            "job.rowstat": o["rowstat"] + b * TILE & TWELVE,
        }
        if o["filter"] == Filter.TILE_THRESHOLD:
            groups.append(common | {"row.observe": 1, "job.retire": 0})
        for number, one in enumerate(answer):
            t, ends = one["tile"], number == len(answer) - 1
            groups.append(
                common
                | {
                    "row.observe": 0,
                    "tile.addr": o["k_addr"] + t * TILE * o["d_tiles"] & SIXTEEN,
                    "job.out_addr": o["s_addr"] + b * TILE * o["s_stride"] + t & SIXTEEN,
                    "job.keep": int(o["stats_keep"] or number > 0),
                    "job.retire": int(ends and last_block),
                    "job.band.upper": one["upper"],
                    "job.band.lower": one["lower"],
                    "job.band.last": o["keys"] % TILE if t == o["keys"] // TILE else TILE - 1,
                }
            )
        entry = (o["select"] + b) % TINY.query_blocks
        written.append((entry, sum(1 << one["tile"] for one in answer)))
    return asked, groups, written


@pytest.mark.parametrize("kind", Filter)
def test_scores(kind):
    rng, dut = random.Random(kind), ScoresExpander(TINY)
    queue, asked, written, waited = [], [], [], []

    async def the_filter(ctx):
        """Answers each request a while later; while it does not, it is waited for."""
        while True:
            ctx.set(dut.request.ready, rng.random() < 0.4)
            _, _, ready, valid, request = await ctx.tick().sample(
                dut.request.ready, dut.request.valid, dut.request.payload
            )
            if not (ready and valid):
                continue
            ctx.set(dut.request.ready, 0)
            asked.append({name: int(request[name]) for name in dict(request.shape())})
            answer = queue.pop(0)
            for number, one in enumerate(answer):
                while rng.random() < 0.4:
                    await ctx.tick()
                ctx.set(dut.select.payload, one | {"last": number == len(answer) - 1})
                ctx.set(dut.select.valid, 1)
                while not (await ctx.tick().sample(dut.select.ready))[2]:
                    pass
                ctx.set(dut.select.valid, 0)

    async def bench(ctx):
        for _ in range(8):
            most = {"rows": 11, "keys": TINY.geometry.max_keys - 1}
            o = operands_of(rng, Opcode.SCORES, **most) | {"filter": int(kind)}
            answers = []
            for _ in blocks_of(o):
                last = o["keys"] // TILE
                tiles = sorted({rng.randint(0, last), rng.randint(0, last), rng.choice([0, last])})
                ends = range(-TILE, TILE)
                answers.append(
                    [
                        {"tile": t, "upper": rng.choice(ends), "lower": rng.choice(ends)}
                        for t in tiles
                    ]
                )
            queue[:] = [list(answer) for answer in answers]
            asked.clear()
            written.clear()
            got = await expand(ctx, dut, word_of(Opcode.SCORES, o), rng)
            await ctx.tick()
            requests, groups, selections = scores_groups(o, answers)
            assert asked == requests
            assert [flat(g, w) for g, w in zip(got, groups, strict=True)] == groups
            assert written == selections

    async def watch(ctx):
        while True:
            _, _, en, entry, bitmap, waiting, asks, select, valid = await ctx.tick().sample(
                dut.selection.en, dut.selection.addr, dut.selection.bitmap, dut.waiting,
                dut.request.valid, dut.select.valid, dut.groups.valid,
            )  # fmt: skip
            if en:
                written.append((entry, bitmap))
            waited.append(waiting)
            assert waiting or not asks
            assert not (waiting and (valid or (select and not asks)))

    simulate(dut, bench, background=(the_filter, watch), cycles=CYCLES)
    assert {0, 1} == set(waited)


def test_context():
    rng, dut = random.Random(1), ContextExpander(TINY)
    bitmaps = [rng.randrange(1, 1 << TINY.key_tiles) for _ in range(TINY.query_blocks)]

    async def memory(ctx):
        while True:
            *_, entry = await ctx.tick().sample(dut.selection.addr)
            ctx.set(dut.selection.bitmap, bitmaps[entry])

    async def bench(ctx):
        for _ in range(5):
            o = operands_of(rng, Opcode.CONTEXT, rows=11)
            groups = [
                {
                    "sparse": 1,
                    "bitmap": bitmaps[(o["select"] + b) % TINY.query_blocks],
                    "tile_step": o["d_tiles"] * TILE,
                    "tile.addr": o["v_addr"] + n & SIXTEEN,
                    "tile.row_stride": o["d_tiles"],
                    "tile.transposed": 0,
                    "tile.sums": 1,
                    "tile.first": 1 - o["accumulate"],
                    "tile.finishes": o["finish"],
                    "row.addr": o["p_addr"] + b * TILE * o["p_stride"] & SIXTEEN,
                    "row.stride": o["p_stride"],
                    "row.rows": rows,
                    "row.mode": AMode.RAW,
                    "row.row_scale": RowScale.RECIPROCAL,
                    "row.rowstat": o["p_rowstat"] + b * TILE & TWELVE,
                    "row.observe": 0,
                    "job.rows": rows,
                    "job.out_addr": o["out_addr"] + b * TILE * o["out_stride"] + n & SIXTEEN,
                    "job.out_stride": o["out_stride"],
                    "job.out_mode": o["out_mode"],
                    "job.immediate": 0,
                    "job.masked": 0,
                    "job.columns": 1,
                    "job.param": o["param"] + n * PARAMETER_WORDS & SIXTEEN,
                    "job.pre": o["pre"],
                    "job.row_shift": o["row_shift"],
                    "job.out_shift": o["out_shift"],
                    "job.statistic": Statistic.MAGNITUDE if o["stats"] else Statistic.NONE,
                    "job.keep": int(o["stats_keep"] or n > 0),
                    "job.rowstat": o["out_rowstat"] + b * TILE & TWELVE,
                    "job.tally": o["tally"],
                    "job.retire": int(last and n == o["d_tiles"] - 1),
                }
                for b, rows, last in blocks_of(o)
                for n in range(o["d_tiles"])
            ]
            got = await expand(ctx, dut, word_of(Opcode.CONTEXT, o), rng)
            assert [flat(g, w) for g, w in zip(got, groups, strict=True)] == groups

    simulate(dut, bench, background=[memory], cycles=CYCLES)
