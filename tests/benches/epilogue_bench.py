"""cocotb tests of the epilogue: requantisation, activation, mask, statistics, writes."""

from collections import deque

import cocotb
import numpy as np
import settings
from draws import KINDS
from epilogue_jobs import Workload
from pins import Pins

from transept.golden.config import ROWSTAT_BITS
from transept.golden.isa import OutMode
from transept.golden.layouts import pack_table
from transept.rtl.gemm.accumulator import ACC_READ_LATENCY
from transept.rtl.gemm.descriptors import Statistic
from transept.rtl.gemm.epilogue import Epilogue
from transept.rtl.interfaces import ROWSTAT_READ_LATENCY, STAT_READ_LATENCY
from transept.sim.cocotb_runner import parameters

CFG = settings.config()
DESIGN = Epilogue(CFG)
JOBS = parameters()["jobs"]
REST_CYCLES = 20  # after the last write, for what follows it


class Surroundings:
    """Memories with latency and refusals, and the streams, seen cycle by cycle."""

    def __init__(self, dut, work, rng, pace):
        self.pins, self.work, self.rng, self.pace = Pins(dut, DESIGN), work, rng, pace
        self.job_names = DESIGN.jobs.payload.shape().members
        self.jobs, self.columns = deque(work.jobs), deque(j for j in work.jobs if j["columns"])
        self.job_offered = self.columns_offered = False
        self.unfinished, self.undrained = deque(work.jobs), 0
        self.acc_reads = deque([None] * ACC_READ_LATENCY)
        self.stat_reads = deque([None] * STAT_READ_LATENCY)
        self.rowstat_reads = deque([None] * ROWSTAT_READ_LATENCY)
        self.rowstat, self.by_slot = {}, {}
        self.writes, self.write_cycles, self.statistics = [], [], []
        self.observations, self.clipped, self.retired = [], [], []
        self.row_reads, self.read_jobs = 0, 0

    def chance(self):
        return self.rng.random() < self.pace

    async def run(self):
        pins, work, rest = self.pins, self.work, REST_CYCLES
        await pins.start()
        await self.load_table()
        limit = pins.cycle + 400 + 200 * len(work.jobs) * CFG.tile
        while rest:
            rest -= len(self.writes) == len(work.writes)
            self.offer_jobs()
            self.finish_groups()
            self.offer_columns()
            self.answer()
            await pins.tick()
            self.observe()
            assert pins.cycle < limit, "stuck"

    async def load_table(self):
        pins = self.pins
        words = pack_table(self.work.table, CFG.tile).view(np.int8).reshape(-1, CFG.tile)
        for addr, word in enumerate(words):
            pins.put("table", en=1, addr=addr, data=word)
            await pins.tick()
        pins.set("table__en", 0)

    def offer_jobs(self):
        self.job_offered = bool(self.jobs) and (self.job_offered or self.chance())
        self.pins.set("jobs__valid", self.job_offered)
        if self.job_offered:
            self.pins.set("jobs__payload", self.payload(self.jobs[0]))

    def payload(self, job):
        facts = {name: job[name] for name in self.job_names}
        return facts | {"rows": job["rows"] - 1, "statistic": job["statistic"].value}

    def finish_groups(self):
        hurry = self.pins.cycle // 256 % 2 or self.pace == 1  # else the epilogue waits for groups
        done = (
            self.unfinished
            and self.undrained < 2 * CFG.geometry.acc_slots
            and self.rng.random() < (self.pace if hurry else 0.02)
        )
        self.pins.set("group_done", bool(done))
        if done:
            self.undrained += 1
            job = self.unfinished.popleft()
            self.by_slot[job["slot"]] = job

    def offer_columns(self):
        pins = self.pins
        # what was wanted while it was taken is no longer
        wanted = bool(self.columns) and pins.raw("columns_wanted") and not pins.moves("columns")
        assert not wanted or pins.get("columns_slot") == self.columns[0]["slot"]
        offered = bool(wanted and (self.columns_offered or self.rng.random() < 0.05))
        self.columns_offered = offered
        self.pins.set("columns__valid", offered)
        if offered:
            self.pins.set("columns__payload", self.columns[0]["sums"])

    def answer(self):
        """Data of the requests of earlier cycles, noise if there was none."""
        pins, read = self.pins, self.acc_reads.popleft()
        if read is None:
            pins.set("acc_read__data", [0x5A5A5A] * CFG.tile)
        else:
            job, row = read
            of_row = row >> job["halves"]
            multiplier, exponent = job["row_multiplier"][of_row], job["row_exponent"][of_row]
            pins.put("acc_read", data=job["acc"][row], multiplier=multiplier, exponent=exponent)
        addr, value = self.stat_reads.popleft(), self.rowstat_reads.popleft()
        pins.set("param_read__data", [0x5A] * CFG.tile if addr is None else self.work.stat[addr])
        pins.set("rowstat_read__data", 0x5A5A5A if value is None else value)
        for name in ("acc_read", "param_read"):
            pins.set(f"{name}__ready", self.chance())
        for name in ("act_write", "stat_write", "rowstat_write"):
            pins.set(f"{name}__ready", 1)

    def observe(self):
        pins = self.pins
        if pins.moves("jobs"):
            self.jobs.popleft()
            self.job_offered = False
        if pins.moves("columns"):
            self.columns.popleft()
            self.columns_offered = False
        read = None
        if pins.moves("acc_read"):
            read = self.by_slot[pins.get("acc_read__slot")], pins.get("acc_read__row")
            self.row_reads += 1
        self.acc_reads.append(read)
        self.stat_reads.append(pins.get("param_read__addr") if pins.moves("param_read") else None)
        entry = pins.get("rowstat_read__addr")
        asked = pins.raw("rowstat_read__en")
        self.rowstat_reads.append(self.rowstat.get(entry, 0) if asked else None)
        self.record()
        if pins.raw("slot_free"):
            self.undrained -= 1
            self.read_jobs += 1
            assert self.row_reads >= sum(len(j["acc"]) for j in self.work.jobs[: self.read_jobs])

    def record(self):
        pins = self.pins
        for to_stat, port in ((False, "act_write"), (True, "stat_write")):
            if pins.raw(f"{port}__en"):
                word = pins.get(f"{port}__addr"), pins.get(f"{port}__data")
                self.writes.append((to_stat, *word))
                self.write_cycles.append(pins.cycle)
        if pins.raw("rowstat_write__en"):
            bits, entry = pins.get("rowstat_write__data"), pins.get("rowstat_write__addr")
            value = bits - (bits >> (ROWSTAT_BITS - 1) << ROWSTAT_BITS)
            self.rowstat[entry] = value
            self.statistics.append((entry, value))
        if pins.raw("stat_write__en") and pins.raw("stat_write__observe"):
            seen = {name: pins.get(f"stat_write__{name}") for name in ("summary", "first", "data")}
            self.observations.append((seen["summary"], bool(seen["first"]), seen["data"]))
        if pins.raw("clipped__valid"):
            told = pins.get("clipped__payload")
            self.clipped.append((told["tally"], told["count"]))
        if pins.raw("retire"):
            self.retired.append((len(self.writes), len(self.statistics)))


@cocotb.test()
@cocotb.parametrize(kind=KINDS, pace=[1.0, 0.6, 0.2])
async def matches_golden(dut, kind, pace):
    rng = settings.generator(KINDS.index(kind))
    work = Workload(CFG, JOBS, rng, kind=kind)
    seen = Surroundings(dut, work, rng, pace)
    await seen.run()
    assert seen.writes == work.writes
    assert seen.statistics == work.statistics
    assert seen.observations == work.observations
    assert seen.clipped == work.clipped
    assert len(seen.retired) == len(work.retired)
    for got, least in zip(seen.retired, work.retired, strict=True):
        assert got[0] >= least[0]
        assert got[1] >= least[1]


@cocotb.test()
@cocotb.parametrize(immediate=[0, 1])
async def score_tiles_drain_without_a_bubble(dut, immediate):
    rng = settings.generator(9)
    facts = {"rows": CFG.tile, "immediate": immediate, "masked": 1, "columns": 0}
    facts |= {"out_mode": int(OutMode.ACT16), "statistic": Statistic.MAXIMUM, "keep": 1}
    work = Workload(CFG, 6, rng, **facts, activation=0)
    seen = Surroundings(dut, work, rng, 1.0)
    await seen.run()
    assert seen.writes == work.writes
    cycles = CFG.tile // CFG.engines.epilogue_lanes
    if CFG.tile * cycles >= parameters()["job_cycles"]:
        gaps = np.diff(seen.write_cycles).reshape(-1).tolist()
        between = gaps[CFG.tile - 1 :: CFG.tile]  # from one tile to the next
        # where a row takes one cycle, nothing hides the step to the next tile
        assert set(between) == {max(cycles, 2)}
        assert set(gaps) - {cycles} == set(between) - {cycles}
        assert len(between) == 5
