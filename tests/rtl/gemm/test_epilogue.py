from collections import deque

import numpy as np
import pytest
from amaranth.sim import Simulator

from transept.golden.config import PYNQ_Z2, TINY
from transept.golden.isa import OutMode
from transept.golden.layouts import pack_channel_parameters, pack_table
from transept.golden.numerics.fixed import saturate
from transept.golden.numerics.requantise import (
    SEGMENTS,
    ActivationTable,
    ChannelParameters,
    activation,
    requantise,
)
from transept.rtl.gemm.accumulator import ACC_READ_LATENCY
from transept.rtl.gemm.descriptors import Statistic
from transept.rtl.gemm.epilogue import Epilogue
from transept.rtl.interfaces import ROWSTAT_READ_LATENCY, STAT_READ_LATENCY

PARAM_BASE = 64
CONFIGS = {
    "tiny": TINY,
    "pynq_z2": PYNQ_Z2,
    "one beat a row": TINY.replace(epilogue_lanes=4),
    "one lane": TINY.replace(epilogue_lanes=1),
}


def random_table(rng):
    coefficients = [rng.integers(-(1 << b), 1 << b, SEGMENTS) for b in (23, 16, 12)]
    return ActivationTable(-32768, 10, 10, 16, *coefficients)


class Workload:
    """Random jobs with their accumulators, and what the golden model makes of them."""

    def __init__(self, cfg, count, rng, **fixed):
        self.cfg, self.rng, self.fixed = cfg, rng, fixed
        self.table = random_table(rng)
        self.stat = {}
        self.jobs = [self.random_job(number) for number in range(count)]
        self.writes, self.statistics, self.observations, self.retired = [], [], [], []
        rowstat = {}
        for job in self.jobs:
            self.expect(job, rowstat)

    def random_job(self, number):
        cfg, rng = self.cfg, self.rng
        masked = rng.random() < 0.3
        rows = int(
            rng.integers(1, (cfg.tile if masked else 2 * cfg.tile) + 1) ** rng.integers(0, 2)
        )
        job = {
            "rows": max(1, min(rows, cfg.max_rows)),
            "slot": number % (2 * cfg.acc_slots),
            "out_addr": int(rng.integers(0, cfg.stat_words // 2)),
            "out_stride": int(rng.integers(1, 5)),
            "out_mode": int(OutMode.ACT16 if masked else rng.choice(list(OutMode))),
            "immediate": int(rng.integers(0, 2)),
            "multiplier": int(rng.integers(1 << 12, 1 << 16)),
            "channel_shift": int(rng.integers(8, 24)),
            "param": PARAM_BASE + 8 * number,
            "pre": int(rng.integers(0, 4)),
            "row_shift": int(rng.integers(10, 24)),
            "out_shift": int(rng.integers(0, 6)),
            "columns": int(rng.integers(0, 2)),
            "activation": int(rng.integers(0, 2)),
            "masked": int(masked),
            "mask": rng.random((cfg.tile, cfg.tile)) < 0.3,
            "statistic": Statistic.MAXIMUM if masked else Statistic(int(rng.integers(0, 2))),
            "keep": int(rng.integers(0, 2)),
            "rowstat": int(rng.integers(0, 4)),
            "observe": int(rng.integers(0, 2)),
            "column": int(rng.integers(0, 4)),
            "retire": int(rng.integers(0, 2)),
        } | self.fixed
        self.add_operands(job)
        return job

    def add_operands(self, job):
        cfg, rng, shape = self.cfg, self.rng, (job["rows"], self.cfg.tile)
        job["acc"] = rng.integers(-(1 << 26), 1 << 26, shape) >> rng.integers(0, 20, shape)
        job["row_multiplier"] = rng.integers(0, (1 << 16) + 1, job["rows"])
        job["row_exponent"] = rng.integers(0, 16, job["rows"])
        job["sums"] = rng.integers(-127 * cfg.max_keys, 127 * cfg.max_keys + 1, cfg.tile)
        job["channels"] = ChannelParameters(
            rng.integers(1 << 12, 1 << 16, cfg.tile),
            rng.integers(4, 28, cfg.tile),
            rng.integers(-(1 << 23), 1 << 23, cfg.tile) >> rng.integers(0, 16, cfg.tile),
        )
        words = pack_channel_parameters(job["channels"], cfg.tile).view(np.int8)
        for offset, word in enumerate(words.reshape(-1, cfg.tile).tolist()):
            self.stat[job["param"] + offset] = word

    def outputs(self, job):
        channels = job["channels"]
        if job["immediate"]:
            same = np.ones(self.cfg.tile, dtype=np.int64)
            channels = ChannelParameters(
                same * job["multiplier"], same * job["channel_shift"], 0 * same
            )
        y = requantise(
            job["acc"] + 127 * job["columns"] * job["sums"],
            channels,
            job["row_multiplier"],
            job["row_exponent"],
            **{name: job[name] for name in ("pre", "row_shift", "out_shift")},
            bits=16,
        )
        if job["activation"]:
            y = activation(y, self.table)
        if job["out_mode"] != OutMode.ACT16:
            y = saturate(y, 8)
        return np.where(job["mask"][: len(y)], y, -32768) if job["masked"] else y

    def expect(self, job, rowstat):
        for m, row in enumerate(self.outputs(job).tolist()):
            addr = job["out_addr"] + m * job["out_stride"]
            self.writes.append((job["out_mode"] == OutMode.STAT8, addr, row))
            if job["observe"]:
                first = job["out_addr"] + m // self.cfg.tile * self.cfg.tile * job["out_stride"]
                index = ((first - job["column"]) // self.cfg.tile + job["column"]) & 0xFFFF
                low_bytes = np.array(row).astype(np.int8).tolist()
                self.observations.append((index, m % self.cfg.tile == 0, low_bytes))
            if job["statistic"] != Statistic.NONE:
                entry = job["rowstat"] + m
                magnitudes = job["statistic"] == Statistic.MAGNITUDE
                value = max(abs(y) for y in row) if magnitudes else max(row)
                if job["keep"]:
                    value = max(value, rowstat.get(entry, 0))
                rowstat[entry] = value
                self.statistics.append((entry, value))
        if job["retire"]:
            self.retired.append((len(self.writes), len(self.statistics)))


class Surroundings:
    """Memories with latency and refusals, and the streams, seen cycle by cycle."""

    def __init__(self, dut, work, rng, pace):
        self.dut, self.work, self.rng, self.pace = dut, work, rng, pace
        self.cycle = 0
        self.rest = 20  # cycles after the last write, for what follows it
        self.columns_offered = False
        self.jobs, self.columns = deque(work.jobs), deque(j for j in work.jobs if j["columns"])
        self.unfinished, self.undrained = deque(work.jobs), 0
        self.acc_reads = deque([None] * ACC_READ_LATENCY)
        self.stat_reads = deque([None] * STAT_READ_LATENCY)
        self.stat_read_data = deque([None] * ROWSTAT_READ_LATENCY)
        self.rowstat = {}
        self.by_slot = {}
        self.writes, self.write_cycles, self.statistics = [], [], []
        self.observations, self.retired = [], []
        self.row_reads, self.read_jobs = 0, 0

    def chance(self):
        return self.rng.random() < self.pace

    async def load_table(self, ctx):
        table = self.dut.table
        words = pack_table(self.work.table, self.work.cfg.tile).view(np.int8)
        ctx.set(table.en, 1)
        for addr, word in enumerate(words.reshape(-1, self.work.cfg.tile).tolist()):
            ctx.set(table.addr, addr)
            ctx.set(table.data, word)
            await ctx.tick()
        ctx.set(table.en, 0)

    async def run(self, ctx):
        await self.load_table(ctx)
        job_offered = False
        limit = 400 + 200 * len(self.work.jobs) * self.work.cfg.tile
        while len(self.writes) < len(self.work.writes) or self.rest > 0:
            if len(self.writes) == len(self.work.writes):
                self.rest -= 1
            job_offered = self.drive(ctx, job_offered)
            self.observe(ctx)
            self.cycle += 1
            assert self.cycle < limit, "stuck"
            await ctx.tick()

    def drive(self, ctx, job_offered):
        dut = self.dut
        job_offered = bool(self.jobs) and (job_offered or self.chance())
        ctx.set(dut.jobs.valid, job_offered)
        if job_offered:
            ctx.set(dut.jobs.payload, self.payload(self.jobs[0]))
        hurry = self.cycle // 256 % 2 or self.pace == 1  # else the epilogue waits for groups
        done = (
            self.unfinished
            and self.undrained < 2 * self.work.cfg.acc_slots
            and self.rng.random() < (self.pace if hurry else 0.02)
        )
        ctx.set(dut.group_done, bool(done))
        if done:
            self.undrained += 1
            job = self.unfinished.popleft()
            self.by_slot[job["slot"]] = job
        self.columns_offered = bool(self.columns) and (
            self.columns_offered or self.rng.random() < 0.05
        )
        ctx.set(dut.columns.valid, self.columns_offered)
        if self.columns_offered:
            ctx.set(dut.columns.payload, self.columns[0]["sums"].tolist())
        ctx.set(dut.acc_read.ready, self.chance())
        ctx.set(dut.param_read.ready, self.chance())
        for port in (dut.act_write, dut.stat_write, dut.rowstat_write):
            ctx.set(port.ready, 1)
        self.answer(ctx)
        if job_offered and ctx.get(dut.jobs.ready):
            self.jobs.popleft()
            return False
        return job_offered

    def payload(self, job):
        names = self.dut.jobs.payload.shape().members
        mask = sum(int(bit) << n for n, bit in enumerate(job["mask"].reshape(-1)))
        return {name: job[name] for name in names} | {"rows": job["rows"] - 1, "mask": mask}

    def answer(self, ctx):
        dut, tile = self.dut, self.work.cfg.tile
        read = self.acc_reads.popleft()
        if read is None:
            ctx.set(dut.acc_read.data, [0x5A5A5A] * tile)
        else:
            job, row = read
            ctx.set(dut.acc_read.data, job["acc"][row].tolist())
            ctx.set(dut.acc_read.multiplier, int(job["row_multiplier"][row]))
            ctx.set(dut.acc_read.exponent, int(job["row_exponent"][row]))
        addr = self.stat_reads.popleft()
        ctx.set(dut.param_read.data, [0x5A] * tile if addr is None else self.work.stat[addr])
        value = self.stat_read_data.popleft()
        ctx.set(dut.rowstat_read.data, 0x5A5A5A if value is None else value & 0xFFFFFF)

    def observe(self, ctx):
        dut = self.dut
        if ctx.get(dut.columns.valid) and ctx.get(dut.columns.ready):
            self.columns.popleft()
            self.columns_offered = False
        read = None
        if ctx.get(dut.acc_read.en) and ctx.get(dut.acc_read.ready):
            read = (self.by_slot[ctx.get(dut.acc_read.slot)], ctx.get(dut.acc_read.row))
            self.row_reads += 1
        self.acc_reads.append(read)
        accepted = ctx.get(dut.param_read.en) and ctx.get(dut.param_read.ready)
        self.stat_reads.append(ctx.get(dut.param_read.addr) if accepted else None)
        asked = ctx.get(dut.rowstat_read.en)
        self.stat_read_data.append(
            self.rowstat.get(ctx.get(dut.rowstat_read.addr), 0) if asked else None
        )
        self.record_writes(ctx)
        if ctx.get(dut.slot_free):
            self.undrained -= 1
            self.read_jobs += 1
            assert self.row_reads >= sum(j["rows"] for j in self.work.jobs[: self.read_jobs])

    def record_writes(self, ctx):
        dut = self.dut
        for to_stat, port in ((False, dut.act_write), (True, dut.stat_write)):
            if ctx.get(port.en):
                self.writes.append((to_stat, ctx.get(port.addr), list(ctx.get(port.data))))
                self.write_cycles.append(self.cycle)
        if ctx.get(dut.rowstat_write.en):
            bits = ctx.get(dut.rowstat_write.data)
            value = bits - ((bits >> 23) << 24)
            self.rowstat[ctx.get(dut.rowstat_write.addr)] = value
            self.statistics.append((ctx.get(dut.rowstat_write.addr), value))
        if ctx.get(dut.observation.valid):
            seen = ctx.get(dut.observation.payload)
            self.observations.append((seen.index, bool(seen.first), list(seen.word)))
        if ctx.get(dut.retire):
            self.retired.append((len(self.writes), len(self.statistics)))


def simulate(cfg, work, rng, pace):
    dut = Epilogue(cfg)
    surroundings = Surroundings(dut, work, rng, pace)
    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(surroundings.run)
    sim.run()
    return surroundings


@pytest.mark.parametrize("pace", [1.0, 0.6, 0.2])
@pytest.mark.parametrize("name", CONFIGS)
def test_matches_golden(name, pace):
    cfg, rng = CONFIGS[name], np.random.default_rng(7)
    work = Workload(cfg, 6 if cfg is PYNQ_Z2 else 30, rng)
    seen = simulate(cfg, work, rng, pace)
    assert seen.writes == work.writes
    assert seen.statistics == work.statistics
    assert seen.observations == work.observations
    assert len(seen.retired) == len(work.retired)
    for (words, statistics), (least_words, least_statistics) in zip(
        seen.retired, work.retired, strict=True
    ):
        assert words >= least_words
        assert statistics >= least_statistics


@pytest.mark.parametrize("immediate", [0, 1])
def test_score_tiles_drain_without_a_bubble(immediate):
    rng = np.random.default_rng(3)
    facts = {"rows": PYNQ_Z2.tile, "immediate": immediate, "masked": 1, "columns": 0}
    facts |= {"out_mode": 0, "statistic": Statistic.MAXIMUM, "keep": 1, "activation": 0}
    work = Workload(PYNQ_Z2, 6, rng, **facts)
    seen = simulate(PYNQ_Z2, work, rng, 1.0)
    assert seen.writes == work.writes
    beats = PYNQ_Z2.tile // PYNQ_Z2.epilogue_lanes
    assert set(np.diff(seen.write_cycles).tolist()) == {beats}
