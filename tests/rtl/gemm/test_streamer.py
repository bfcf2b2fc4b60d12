"""Rows of passes against the golden quantisers, with pauses of everything that they wait for."""

import numpy as np
import pytest
from memory_model import simulate

from transept.golden.config import ROWSTAT_BITS, TINY
from transept.golden.isa import AMode, RowScale
from transept.golden.numerics.polynomial import reciprocal
from transept.golden.numerics.requantise import ONE, quantise_halves, quantise_row
from transept.rtl.gemm.descriptors import pass_layout
from transept.rtl.gemm.streamer import RowStreamer
from transept.rtl.interfaces import ACT_GEMM_READ_LATENCY, ROWSTAT_READ_LATENCY

CFG = TINY
SLOTS = 2 * CFG.geometry.acc_slots
ACT = 1 << (CFG.act_words - 1).bit_length()
ENTRIES = CFG.memories.rowstat_entries


def random_pass(rng, **fixed):
    """Any pass, often of the most rows; those of filters open no slot and have no scale."""
    most, mode = CFG.geometry.max_rows, int(rng.choice(list(AMode)))
    scales = [RowScale.ONE, RowScale.ROW_MAX] + [RowScale.RECIPROCAL] * 2 * (mode == AMode.RAW)
    halves = int(mode == AMode.DYNAMIC and rng.random() < 0.5)
    rows = int(rng.choice([1, 2, most, rng.integers(1, most + 1)]))
    observe = int(rng.random() < 0.15)
    return {
        "addr": int(rng.integers(0, ACT)),
        "stride": int(rng.choice([rng.integers(0, 5), rng.integers(0, 1 << 12)])),
        "rows": rows - 1 | halves,
        "mode": mode,
        "halves": halves,
        "row_scale": int(rng.choice(scales)),
        "rowstat": int(rng.integers(0, ENTRIES)),
        "slot": int(rng.integers(0, SLOTS)),
        "first": int(rng.random() < 0.5),
        "last": int(rng.random() < 0.5),
        "observe": observe,
        "retire": int(not observe and rng.random() < 0.3),
    } | fixed


class Memories:
    def __init__(self, rng):
        self.act = rng.integers(-32767, 32768, (ACT, CFG.tile)) >> rng.integers(0, 9, (ACT, 1))
        self.rowstat = rng.integers(0, 1 << ROWSTAT_BITS, ENTRIES) >> rng.integers(0, 24, ENTRIES)
        self.rowstat[::7], self.rowstat[3::7] = 0, 32767

    def row(self, p, index):
        """One row as it streams, and the scale of its results."""
        number = index >> p["halves"]
        x = self.act[(p["addr"] + number * p["stride"]) % ACT]
        found = self.rowstat[(p["rowstat"] + number) % ENTRIES]
        signed = found - (found >> (ROWSTAT_BITS - 1) << ROWSTAT_BITS)
        scale = (ONE, 0)
        if p["row_scale"] == RowScale.ROW_MAX:
            scale = (int(signed.clip(256, 32767)), 0)
        elif p["row_scale"] == RowScale.RECIPROCAL:
            scale = tuple(int(part) for part in reciprocal(found))
        if p["mode"] == AMode.RAW:
            return x.astype(np.int8).tolist(), scale
        if p["halves"]:
            return quantise_halves(x, signed)[1 - index % 2].tolist(), scale
        return quantise_row(x, signed).tolist(), scale

    def expect(self, passes):
        """What goes to the array, to the filter and beside the accumulators."""
        rows, queries, scales = [], [], []
        for p in passes:
            for index in range(p["rows"] + 1):
                values, scale = self.row(p, index)
                ends = int(index == p["rows"])
                if p["observe"]:
                    queries.append(values)
                    continue
                tag = {"slot": p["slot"], "row": index, "first": p["first"]}
                tag["last"] = int(p["last"] and ends)
                rows.append((values, int(index == 0), tag, int(p["retire"] and ends)))
                if p["last"]:
                    scales.append((p["slot"], index, *scale))
        return rows, queries, scales


class Bench:
    def __init__(self, rng, passes, *, pace):
        self.dut, self.rng, self.passes, self.pace = RowStreamer(CFG), rng, passes, pace
        self.memories = Memories(rng)
        self.rows, self.queries, self.scales = [], [], []
        self.issued, self.entered, self.scaled = [], [], []
        self.refused = 0

    async def every_cycle(self, ctx):
        dut, chance = self.dut, lambda: self.rng.random() < self.pace
        reads, statistics = [[0] * CFG.tile] * ACT_GEMM_READ_LATENCY, [0] * ROWSTAT_READ_LATENCY
        given, begun, unfinished, rest, cycle, tile_ready = 0, False, 0, 2 * dut.ENTRY_DELAY, 0, 0
        offered = False
        while rest:
            rest -= given == len(self.passes)
            offered = given < len(self.passes) and (offered or chance())
            p = self.passes[min(given, len(self.passes) - 1)]
            ctx.set(dut.passes.valid, offered)
            ctx.set(dut.passes.payload, pass_layout(CFG).const(p))
            tile_ready = tile_ready or chance()
            ctx.set(dut.tile_ready, tile_ready)
            free = unfinished and self.rng.random() < 0.05 * self.pace
            ctx.set(dut.slot_free, free)
            ctx.set(dut.act_read.data, reads.pop(0))
            ctx.set(dut.rowstat_read.data, statistics.pop(0))

            issuing, starts = ctx.get(dut.issuing), not begun and not p["observe"]
            no_slot = offered and starts and p["first"] and unfinished == SLOTS
            assert ctx.get(dut.no_slot) == no_slot
            assert issuing == (offered and not no_slot and (not starts or tile_ready))
            assert ctx.get(dut.tile_taken) == (issuing and starts)
            self.refused += no_slot
            if issuing:
                self.issued.append((cycle, p["observe"]))
                tile_ready = tile_ready and not starts
                unfinished += starts and p["first"]
                begun = not ctx.get(dut.passes.ready)
                given, offered = given + (not begun), begun
            unfinished -= free
            self._read(ctx, reads, statistics)
            self._note(ctx, cycle)
            await ctx.tick()
            cycle += 1

    def _read(self, ctx, reads, statistics):
        dut, noise = self.dut, [0x55] * CFG.tile
        asks, at = ctx.get(dut.act_read.en), ctx.get(dut.act_read.addr)
        reads.append(self.memories.act[at].tolist() if asks else noise)
        asks, at = ctx.get(dut.rowstat_read.en), ctx.get(dut.rowstat_read.addr)
        statistics.append(int(self.memories.rowstat[at]) if asks else 0x555555)

    def _note(self, ctx, cycle):
        dut, write = self.dut, self.dut.scale_write
        if ctx.get(dut.row_valid):
            tag = ctx.get(dut.tag)
            tag = {name: tag[name] for name in ("slot", "row", "first", "last")}
            row = list(ctx.get(dut.row)), ctx.get(dut.row_swap), tag, ctx.get(dut.retired)
            self.rows.append(row)
            self.entered.append((cycle - dut.ENTRY_DELAY, 0))
        else:
            assert not ctx.get(dut.retired)
        assert ctx.get(dut.tag_valid) == ctx.get(dut.row_valid)
        if ctx.get(dut.query.valid):
            self.queries.append(list(ctx.get(dut.query.payload)))
            self.entered.append((cycle - dut.ENTRY_DELAY, 1))
        if ctx.get(write.en):
            names = ("slot", "row", "multiplier", "exponent")
            self.scales.append(tuple(ctx.get(getattr(write, name)) for name in names))
            self.scaled.append(len(self.rows))

    def run(self):
        simulate(self.dut, self.every_cycle, cycles=8000)
        assert (self.rows, self.queries, self.scales) == self.memories.expect(self.passes)
        assert self.entered == self.issued
        # each scale is there before its row is
        last = [number for number, row in enumerate(self.rows) if self._has_scale(number)]
        assert all(there <= number for there, number in zip(self.scaled, last, strict=True))

    def _has_scale(self, number):
        flags = [p["last"] for p in self.passes if not p["observe"] for _ in range(p["rows"] + 1)]
        return flags[number]


@pytest.mark.parametrize("pace", [1.0, 0.3])
def test_random_passes(pace):
    rng = np.random.default_rng(int(10 * pace))
    bench = Bench(rng, [random_pass(rng) for _ in range(60)], pace=pace)
    bench.run()
    assert len(bench.queries) > 20


def test_rows_follow_each_other_without_a_bubble():
    rng = np.random.default_rng(5)
    passes = [random_pass(rng, first=0) for _ in range(20)]
    bench = Bench(rng, passes, pace=1.0)
    bench.run()
    cycles = [cycle for cycle, _ in bench.issued]
    assert cycles == list(range(cycles[0], cycles[0] + len(cycles)))


def test_passes_that_open_a_slot_wait_until_one_is_free():
    rng = np.random.default_rng(6)
    bench = Bench(rng, [random_pass(rng, first=1, observe=0) for _ in range(20)], pace=1.0)
    bench.run()
    assert bench.refused > 10
