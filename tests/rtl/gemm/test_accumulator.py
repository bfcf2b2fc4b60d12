"""Accumulators against a model: array traffic at the hazard limit, refused reads, row scales."""

import numpy as np
import pytest
from amaranth.sim import Simulator
from unused import unused

from transept.golden.config import PYNQ_Z2, TINY
from transept.golden.numerics.requantise import ACCUMULATOR_BITS
from transept.rtl.gemm.accumulator import ACC_READ_LATENCY, REVISIT_CYCLES, Accumulators
from transept.rtl.gemm.array import sum_bits

CONFIGS = pytest.mark.parametrize("cfg", [TINY, PYNQ_Z2], ids=lambda cfg: cfg.name)
LATENCY = 6
READS = 5  # rows read of one group, at most


def array_rows(cfg, rng, groups, gap):
    """Array rows (cycle, tag, sums), several passes a group, and the totals of every group."""
    limit = 1 << (sum_bits(cfg) - 1)
    rows, totals, cycle = [], [], 0
    for group in range(groups):
        begin, seen = cycle, {}
        height = rng.choice([1, 2, 3, 4, cfg.tile, cfg.geometry.max_rows])
        slot = group % (2 * cfg.geometry.acc_slots)
        passes = rng.integers(1, 6)
        total = np.zeros((height, cfg.tile), int)
        for k in range(passes):
            fresh = rng.integers(-limit, limit, (height, cfg.tile))
            total += fresh
            for m, sums in enumerate(fresh):
                tag = {"slot": slot, "row": m, "first": k == 0}
                tag["last"] = k == passes - 1 and m == height - 1
                cycle = max(cycle + (rng.random() < gap), seen.get(m, 0) + REVISIT_CYCLES)
                seen[m] = cycle
                rows.append((cycle, {name: int(v) for name, v in tag.items()}, sums.tolist()))
                cycle += 1
        totals.append((slot, total))
        cycle = max(cycle, begin + READS)
    return rows, totals


class Bench:
    """Feeds tags and sums, writes a scale with every tag, and reads rows of finished groups."""

    def __init__(self, cfg, rows, totals, rng):
        self.dut = Accumulators(cfg, latency=LATENCY)
        self.totals, self.rng = totals, rng
        self.rows = {cycle: (tag, sums) for cycle, tag, sums in rows}
        self.clock = 0  # of the array's rows, which pause while too many groups wait to be read
        self.sums, self.scales, self.wanted, self.answers = {}, {}, [], {}
        self.refused = 0

    def run(self):
        sim = Simulator(self.dut)
        sim.add_clock(1e-8)
        sim.add_testbench(self._every_cycle)
        sim.run()

    async def _every_cycle(self, ctx):
        done, cycle = 0, 0
        while done < len(self.totals) or self.wanted or self.answers:
            self._feed(ctx, cycle)
            self._read(ctx, cycle)
            if ctx.get(self.dut.group_done):
                slot, total = self.totals[done]
                done += 1
                for row in self.rng.permutation(len(total))[:READS]:
                    self.wanted.append((slot, int(row), total[row].tolist()))
            await ctx.tick()
            cycle += 1

    def _feed(self, ctx, cycle):
        dut = self.dut
        tag = None
        if len(self.wanted) <= 2 * READS:
            tag, sums = self.rows.get(self.clock, (None, None))
            self.clock += 1
        ctx.set(dut.tag_valid, tag is not None)
        ctx.set(dut.scale_write.en, tag is not None)
        if tag is not None:
            self.sums[cycle + LATENCY] = sums
            scale = (int(self.rng.integers(1 << 17)), int(self.rng.integers(24)))
            self.scales[tag["slot"], tag["row"]] = scale
            ctx.set(dut.tag, tag)
            ctx.set(dut.scale_write.slot, tag["slot"])
            ctx.set(dut.scale_write.row, tag["row"])
            ctx.set(dut.scale_write.multiplier, scale[0])
            ctx.set(dut.scale_write.exponent, scale[1])
        for port, value in zip(dut.sums, self.sums.pop(cycle, ()), strict=False):
            ctx.set(port, value)

    def _read(self, ctx, cycle):
        read = self.dut.read
        asking = bool(self.wanted) and self.rng.random() < 0.5
        ctx.set(read.en, asking)
        if asking:
            ctx.set(read.slot, self.wanted[0][0])
            ctx.set(read.row, self.wanted[0][1])
            if ctx.get(read.ready):
                self.answers[cycle + ACC_READ_LATENCY] = self.wanted.pop(0)
            else:
                self.refused += 1
        if cycle in self.answers:
            slot, row, expected = self.answers.pop(cycle)
            assert list(ctx.get(read.data)) == expected
            assert (ctx.get(read.multiplier), ctx.get(read.exponent)) == self.scales[slot, row]


@CONFIGS
@pytest.mark.parametrize("gap", [0.0, 0.4])
def test_accumulates(cfg, gap):
    rng = np.random.default_rng(5)
    rows, totals = array_rows(cfg, rng, 30, gap)
    bench = Bench(cfg, rows, totals, rng)
    bench.run()
    assert bench.refused


@CONFIGS
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_longest_group_fits(cfg, sign):
    largest = sign * 127 * 127 * cfg.tile
    passes = 4096 // cfg.tile
    tag = {"slot": 0, "row": 0}
    rows = [
        (k * REVISIT_CYCLES, tag | {"first": k == 0, "last": k == passes - 1}, [largest] * cfg.tile)
        for k in range(passes)
    ]
    total = np.full((1, cfg.tile), largest * passes)
    assert abs(total).max() < 1 << (ACCUMULATOR_BITS - 1)
    Bench(cfg, rows, [(0, total)], np.random.default_rng(0)).run()


@CONFIGS
def test_reads_of_the_other_bank_are_never_refused(cfg):
    dut = Accumulators(cfg, latency=LATENCY)

    async def bench(ctx):
        ctx.set(dut.tag_valid, 1)
        ctx.set(dut.tag, {"slot": 0, "row": 0, "first": 0, "last": 0})
        ctx.set(dut.read.en, 1)
        for _ in range(LATENCY + 2):
            await ctx.tick()
        ctx.set(dut.read.slot, 0)
        assert not ctx.get(dut.read.ready)
        ctx.set(dut.read.slot, 1)
        assert ctx.get(dut.read.ready)

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()


def test_a_row_is_read_added_and_written_in_three_cycles():
    """The closest that two rows of an accumulator may be, as the loader's passes are."""
    assert REVISIT_CYCLES == 3


def test_sums_that_come_too_early():
    """Between a tag and its sums the accumulators are read."""
    with unused():
        Accumulators(TINY, latency=2)
        with pytest.raises(ValueError, match="latency=1 of the array must be at least 2"):
            Accumulators(TINY, latency=1)
