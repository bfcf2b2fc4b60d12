"""MATMUL as groups and groups as passes, of operands with any bits, with pauses on every port."""

import random

import pytest
from amaranth.lib import data
from groups import flat
from memory_model import simulate

from transept.golden import isa
from transept.golden.config import TINY
from transept.golden.isa import Opcode
from transept.rtl.gemm.descriptors import Statistic
from transept.rtl.gemm.groups import GroupWalker, group_layout
from transept.rtl.gemm.matmul import PARAMETER_WORDS, MatmulExpander

TWELVE, SIXTEEN = (1 << 12) - 1, (1 << 16) - 1
LAYOUT = group_layout(TINY)


def matmul_groups(o, *, halves):
    """The groups of a MATMUL."""
    halves = o["halves"] * halves
    same = {
        "passes": (o["k_tiles"] - 1) % 256,
        "tile_step": o["b_k"],
        "sparse": 0,
        "tile.row_stride": o["b_row"],
        "tile.transposed": o["b_transposed"],
        "tile.first": 1 - o["accumulate"],
        "tile.finishes": o["finish"],
        "tile.sums": 0,
        "row.addr": o["a_addr"],
        "row.stride": o["a_stride"],
        "row.rows": (2 * o["rows"] + 1) % 256 if halves else o["rows"],
        "row.mode": o["a_mode"],
        "row.halves": halves,
        "row.row_scale": o["row_scale"],
        "row.rowstat": o["a_rowstat"],
        "row.observe": 0,
        "job.rows": o["rows"],
        "job.halves": halves,
        "job.out_stride": o["out_stride"],
        "job.out_mode": o["out_mode"],
        "job.immediate": 0,
        "job.columns": 0,
        "job.masked": 0,
        "job.pre": o["pre"],
        "job.row_shift": o["row_shift"],
        "job.out_shift": o["out_shift"],
        "job.activation": o["activation"],
        "job.statistic": Statistic.MAGNITUDE if o["stats"] else Statistic.NONE,
        "job.rowstat": o["out_rowstat"],
        "job.observe": o["observe"],
        "job.phase": o["phase"] % TINY.tile,
        "job.tally": o["tally"],
    }
    return [
        same
        | {
            "tile.addr": (o["b_addr"] + n * o["b_n"]) & SIXTEEN,
            "job.out_addr": (o["out_addr"] + n) & SIXTEEN,
            "job.param": (o["param"] + n * PARAMETER_WORDS) & SIXTEEN,
            "job.summary": (o["summary"] + n) % TINY.key_summaries,
            "job.keep": int(o["stats_keep"] or n > 0),
            "job.retire": int(n == o["n_tiles"] - 1),
        }
        for n in range(o["n_tiles"])
    ]


@pytest.mark.parametrize("halves", [True, False])
def test_matmul(halves):
    cfg = TINY if halves else TINY.replace(name="whole_rows", halves=False)
    rng, dut = random.Random(3), MatmulExpander(cfg)
    fields = isa.FORMATS[Opcode.MATMUL]

    async def bench(ctx):
        for n_tiles in (1, 2, 3, 5, 255):
            o = {
                f.name: rng.choice([(1 << f.width) - 1, rng.getrandbits(f.width)])
                for f in fields.fields
            }
            o |= {"n_tiles": n_tiles, "halves": int(n_tiles != 2)}
            word = sum(o[field.name] << low for field, low in fields.offsets())
            got, taken = [], False
            ctx.set(dut.instr.payload, word)
            ctx.set(dut.instr.valid, 1)
            while not taken:
                ctx.set(dut.groups.ready, rng.random() < 0.7)
                _, _, taken, ready, valid, group = await ctx.tick().sample(
                    dut.instr.ready, dut.groups.ready, dut.groups.valid, dut.groups.payload
                )
                if ready and valid:
                    got.append(group)
            ctx.set(dut.instr.valid, 0)
            ctx.set(dut.groups.ready, 1)
            for _ in range(3):
                assert not (await ctx.tick().sample(dut.groups.valid))[2]
            wanted = matmul_groups(o, halves=halves)
            assert [flat(g, w) for g, w in zip(got, wanted, strict=True)] == wanted

    simulate(dut, bench, cycles=2000)


class Walk:
    """What becomes of groups: each pass with all that leaves in its cycle."""

    def __init__(self, slots):
        self.slots = slots
        self.following = self.opened = self.current = 0
        self.starts = True

    def passes(self, group):
        found = range(group.passes + 1)
        if group.sparse:
            found = [i for i in range(TINY.key_tiles) if group.bitmap >> i & 1]
        if not group.row.observe:
            self._take_slot(group)
        for i in found:
            begins, ends = i == found[0], i == found[-1]
            yield self._pass(group, i, begins=begins, ends=ends)

    def _take_slot(self, group):
        if group.tile.first:
            self.current, self.following = self.following, (self.following + 1) % self.slots
            self.opened = self.current if self.starts else self.opened
        else:
            self.current = self.opened if self.starts else (self.current + 1) % self.slots
        self.starts = bool(group.job.retire)

    def _pass(self, group, i, *, begins, ends):
        first, observe = int(begins and group.tile.first), group.row.observe
        finishes, retire = group.tile.finishes, group.job.retire
        place = {} if observe else {"slot": self.current}
        passing = {name: group.row[name] for name in dict(group.row.shape())}
        out = {
            "passes": passing
            | {"addr": (group.row.addr + i) & SIXTEEN, "slot": self.current, "first": first}
            | {"last": int(finishes and ends), "retire": int(retire and ends and not finishes)}
        }
        if not observe:
            tile = {name: group.tile[name] for name in dict(group.tile.shape())}
            addr = (group.tile.addr + i * group.tile_step) & SIXTEEN
            flags = {"begins": int(begins), "ends": int(ends), "first": first}
            out["tiles"] = tile | {"addr": addr} | flags | place
            if begins and finishes:
                job = {name: group.job[name] for name in dict(group.job.shape())}
                out["jobs"] = {n: v for n, v in job.items() if n != "band"} | place
        if ends and retire:
            out["retires"] = finishes
        return out


def random_group(rng, layout, **fixed):
    """Any bits but those that walks depend on, of few passes."""
    group = data.Const(layout, rng.getrandbits(layout.size))
    number = {name: group[name] for name in ("tile_step", "sparse")}
    job = {name: group.job[name] for name in dict(group.job.shape()) if name != "statistic"}
    facts = {
        "row": {name: group.row[name] for name in dict(group.row.shape())},
        "tile": {name: group.tile[name] for name in dict(group.tile.shape())},
        "job": job | {"statistic": rng.choice(list(Statistic))},
        "passes": rng.choice([0, 1, 2, rng.randrange(12)]),
        "bitmap": rng.choice([1, 1 << TINY.key_tiles - 1, *[rng.randrange(1, 1 << 16)] * 2]),
    }
    facts["row"]["observe"] = int(rng.random() < 0.1)
    if facts["row"]["observe"]:  # SCORES shows the queries of a block before its groups
        facts["job"]["retire"] = facts["tile"]["first"] = 0
    for path, value in fixed.items():
        part, _, name = path.rpartition("__")
        (facts[part] if part else number)[name] = value
    return layout.const(number | facts)


def as_facts(port, payload):
    if port == "retires":
        return payload
    return {name: payload[name] for name in dict(payload.shape()) if name != "band"}


async def walk(ctx, dut, group, rng, pace):
    """The passes of one group, each with its cycle and what leaves in it."""
    ports = {name: getattr(dut, name) for name in ("tiles", "passes", "jobs", "retires")}
    ctx.set(dut.groups.payload, group)
    ctx.set(dut.groups.valid, 1)
    got, taken, cycle = [], False, 0
    while not taken:
        for port in ports.values():  # room stays until something comes
            if not ctx.get(port.ready):
                ctx.set(port.ready, rng.random() < pace)
        taken = ctx.get(dut.groups.ready)
        left = {}
        for name, port in ports.items():
            if ctx.get(port.valid):
                assert ctx.get(port.ready)
                left[name] = as_facts(name, ctx.get(port.payload))
        if left:
            got.append((cycle, left))
        await ctx.tick()
        for name in left:
            ctx.set(ports[name].ready, rng.random() < pace)
        cycle += 1
        assert cycle < 1000
    ctx.set(dut.groups.valid, 0)
    return got


@pytest.mark.parametrize(("pace", "acc_slots"), [(1.0, 3), (0.4, 1)])
def test_passes_of_groups(pace, acc_slots):
    cfg = TINY.replace(name="slots", acc_slots=acc_slots)
    rng, dut, model = random.Random(pace), GroupWalker(cfg), Walk(2 * acc_slots)
    layout = group_layout(cfg)

    async def bench(ctx):
        for number in range(80):
            group = random_group(
                rng, layout, **({} if number else {"tile__first": 1, "row__observe": 0})
            )
            got = await walk(ctx, dut, group, rng, pace)
            expected = list(model.passes(group))
            if group.row.observe:
                for _, one in got:
                    one["passes"].pop("slot")
                for one in expected:
                    one["passes"].pop("slot")
            assert [one for _, one in got] == expected
            if rng.random() < 0.3:
                await ctx.tick()

    simulate(dut, bench, cycles=20_000)


def test_a_pass_every_other_cycle():
    """And of key tiles that are not kept four in one."""
    rng, dut = random.Random(0), GroupWalker(TINY)

    async def bench(ctx):
        for port in (dut.tiles, dut.passes, dut.jobs, dut.retires):
            ctx.set(port.ready, 1)
        await ctx.tick().repeat(2)
        fixed = {"row__observe": 0, "tile__first": 1, "sparse": 0}
        group = LAYOUT.const({**constant(random_group(rng, LAYOUT, **fixed)), "passes": 9})
        cycles = [cycle for cycle, _ in await walk(ctx, dut, group, rng, 1.0)]
        assert cycles == list(range(1, 21, 2))
        for tile in (4, 5, 8, 12, 15):
            group = constant(random_group(rng, LAYOUT, **fixed | {"sparse": 1}))
            group = LAYOUT.const(group | {"bitmap": 1 | 1 << tile})
            (first, _), (second, _) = await walk(ctx, dut, group, rng, 1.0)
            steps, rest = divmod(tile - 1, 4)
            assert second - first == 2 + steps + rest

    simulate(dut, bench, cycles=1000)


def constant(group):
    return {name: group[name] for name in dict(LAYOUT)}
