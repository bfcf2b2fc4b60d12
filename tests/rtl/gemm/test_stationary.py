"""The stationary loader feeding the array: values, column sums and rates."""

import numpy as np
import pytest
from amaranth import Module
from amaranth.hdl import Elaboratable
from amaranth.sim import Simulator
from tiles import Pass, finished_slots, random_passes

from transept.golden.config import PYNQ_Z2, TINY
from transept.golden.numerics.softmax import CONTEXT_KEYS
from transept.rtl.gemm.accumulator import REVISIT_CYCLES
from transept.rtl.gemm.array import SystolicArray
from transept.rtl.gemm.stationary import StationaryLoader
from transept.rtl.interfaces import STAT_READ_LATENCY

CONFIGS = pytest.mark.parametrize("cfg", [TINY, PYNQ_Z2], ids=lambda cfg: cfg.name)


class LoaderAndArray(Elaboratable):
    def __init__(self, cfg, delay):
        self.delay = delay
        self.loader = StationaryLoader(cfg, entry_delay=delay)
        self.array = SystolicArray(cfg)

    def elaborate(self, platform):
        m = Module()
        m.submodules.loader, m.submodules.array = loader, array = self.loader, self.array
        for name in ("weight_en", "weight_index", "weight_word"):
            m.d.comb += getattr(array, name).eq(getattr(loader, name))
        return m


class Bench:
    """Scratchpad, sequencer, streamer and the consumer of the sums around loader and array."""

    def __init__(self, cfg, passes, memory, *, delay, refuse=0.0, gap=0.0, idle=0.0, seed=0):
        self.dut = LoaderAndArray(cfg, delay)
        self.passes, self.memory = passes, memory.tolist()
        self.rng = np.random.default_rng(seed)
        self.refuse, self.gap, self.idle = refuse, gap, idle
        self.patience = 0  # cycles before the first sums are wanted
        self.entries = []  # cycles in which passes enter the array
        self.sums, self.columns = [], []

    def run(self):
        sim = Simulator(self.dut)
        sim.add_clock(1e-8)
        sim.add_testbench(self._every_cycle)
        sim.run()
        return np.array(self.sums), np.array(self.columns)

    async def _every_cycle(self, ctx):
        asked = [None] * STAT_READ_LATENCY
        offered = given = 0
        started, entering, free = 0, {}, 0
        slots = finished_slots(self.passes)
        wanted = len(slots)
        rows = sum(len(p.rows) for p in self.passes)
        loader, array = self.dut.loader, self.dut.array
        cycle = 0
        while len(self.sums) < rows or len(self.columns) < wanted:
            assert cycle < 40000, "no progress"
            # sequencer
            offered = given < len(self.passes) and (offered or self.rng.random() >= self.gap)
            ctx.set(loader.tiles.valid, offered)
            if offered:
                ctx.set(loader.tiles.payload, self.passes[given].tile)
            # scratchpad
            ctx.set(loader.read.ready, self.rng.random() >= self.refuse)
            addr = asked.pop(0)
            if addr is not None:
                ctx.set(loader.read.data, self.memory[addr])
            accepted = ctx.get(loader.read.en) and ctx.get(loader.read.ready)
            asked.append(ctx.get(loader.read.addr) if accepted else None)
            # streamer
            start = started < len(self.passes) and cycle >= free and ctx.get(loader.tile_ready)
            start = start and self.rng.random() >= self.idle
            ctx.set(loader.tile_taken, start)
            if start:
                entry = cycle + self.dut.delay
                self.entries.append(entry)
                for m, row in enumerate(self.passes[started].rows.tolist()):
                    entering[entry + m] = (m == 0, row)
                free = cycle + len(self.passes[started].rows)
                started += 1
            swap, row = entering.pop(cycle, (False, None))
            ctx.set(array.row_valid, row is not None)
            ctx.set(array.row_swap, swap)
            if row is not None:
                ctx.set(array.row, row)
            # results
            if ctx.get(array.sums_valid):
                self.sums.append([ctx.get(total) for total in array.sums])
            asks = len(self.columns) < wanted and cycle >= self.patience
            ctx.set(loader.sums_wanted, asks)
            ctx.set(loader.sums_slot, slots[len(self.columns)] if asks else 0)
            ctx.set(loader.sums.ready, asks and self.rng.random() >= self.idle)
            if ctx.get(loader.sums.valid) and ctx.get(loader.sums.ready):
                self.columns.append(list(ctx.get(loader.sums.payload)))
            if offered and ctx.get(loader.tiles.ready):
                given, offered = given + 1, False
            await ctx.tick()
            cycle += 1


def random_memory(cfg, rng):
    return rng.integers(-127, 128, (cfg.memories.stat_words, cfg.tile))


@CONFIGS
@pytest.mark.parametrize("delay", [0, 9])
@pytest.mark.parametrize(
    "pace",
    [{}, {"refuse": 0.5}, {"gap": 0.9}, {"idle": 0.7}, {"refuse": 0.2, "gap": 0.2, "idle": 0.2}],
    ids=str,
)
def test_matches_numpy(cfg, delay, pace):
    rng = np.random.default_rng(delay)
    memory = random_memory(cfg, rng)
    lengths = [1, 2, cfg.tile - 1, cfg.tile, cfg.tile + 3]
    passes, sums, columns = random_passes(cfg, rng, memory, groups=6, lengths=lengths)
    bench = Bench(cfg, passes, memory, delay=delay, seed=delay, **pace)
    got = bench.run()
    assert np.array_equal(got[0], sums)
    assert np.array_equal(got[1], columns)
    assert np.diff(bench.entries).min() >= REVISIT_CYCLES


def one_tile(rng, cfg, slot, **changes):
    """One tile for a group, with column sums and one row; the whole group unless changed."""
    flags = dict.fromkeys(("begins", "ends", "first", "finishes", "sums"), 1)
    tile = {"addr": 0, "row_stride": 1, "transposed": 0, "slot": slot, **flags} | changes
    return Pass(tile, rng.integers(-127, 128, (1, cfg.tile)))


@CONFIGS
def test_sums_that_nobody_takes_stall_the_loader(cfg):
    rng = np.random.default_rng(0)
    memory = random_memory(cfg, rng)
    slots = 2 * cfg.geometry.acc_slots
    passes = [one_tile(rng, cfg, number % slots) for number in range(slots + 3)]
    bench = Bench(cfg, passes, memory, delay=2, idle=0.0)
    bench.patience = 40 * cfg.tile
    _, columns = bench.run()
    assert np.array_equal(columns, [memory[: cfg.tile].sum(0)] * len(passes))
    assert sum(entry < bench.patience for entry in bench.entries) == cfg.geometry.acc_slots


@CONFIGS
def test_sums_that_nobody_takes_are_not_overwritten(cfg):
    """The next group of their slot waits, whoever has the slots between."""
    rng = np.random.default_rng(1)
    memory = random_memory(cfg, rng)
    slots = 2 * cfg.geometry.acc_slots
    passes = [one_tile(rng, cfg, 0), *(one_tile(rng, cfg, n, sums=0) for n in range(1, slots))]
    passes.append(one_tile(rng, cfg, 0, addr=cfg.tile))
    bench = Bench(cfg, passes, memory, delay=2)
    bench.patience = 40 * cfg.tile
    _, columns = bench.run()
    assert np.array_equal(columns, [memory[at : at + cfg.tile].sum(0) for at in (0, cfg.tile)])


@pytest.mark.parametrize("patience", range(30, 42))
def test_sums_are_taken_while_others_go_on(patience):
    """Groups of slots 1 and 2 take turns; whenever those of slot 0 are wanted, they are right."""
    cfg, rng = TINY, np.random.default_rng(2)
    memory = random_memory(cfg, rng)
    passes = [one_tile(rng, cfg, 0)]
    for turn in range(6):
        facts = {"addr": (1 + turn) * cfg.tile, "first": int(turn == 0), "finishes": int(turn == 5)}
        passes += [one_tile(rng, cfg, slot, **facts) for slot in (1, 2)]
    bench = Bench(cfg, passes, memory, delay=2)
    bench.patience = patience
    _, columns = bench.run()
    turns = memory[cfg.tile : 7 * cfg.tile].sum(0)
    assert np.array_equal(columns, [memory[: cfg.tile].sum(0), turns, turns])


def test_the_longest_sums_of_tiles_at_the_end_of_the_largest_scratchpad():
    cfg = TINY.replace(name="large", stat_words=1 << 16)
    memory = np.zeros((cfg.memories.stat_words, cfg.tile), np.int64)
    memory[-cfg.tile * 255 :: 255] = -127
    count = CONTEXT_KEYS // cfg.tile
    facts = {"addr": len(memory) - cfg.tile * 255, "row_stride": 255, "begins": 0, "ends": 0}
    passes = [one_tile(np.random.default_rng(3), cfg, 0, **facts, first=0) for _ in range(count)]
    passes[0].tile.update(begins=1, first=1)
    passes[-1].tile["ends"] = 1
    _, columns = Bench(cfg, passes, memory, delay=2).run()
    assert np.array_equal(columns, [[-127 * CONTEXT_KEYS] * cfg.tile])


@CONFIGS
@pytest.mark.parametrize("delay", [0, 5, 12])
@pytest.mark.parametrize("rows", ["one", "tile"])
def test_sustains_a_pass_every_tile_cycles(cfg, delay, rows):
    rng = np.random.default_rng(delay)
    memory = random_memory(cfg, rng)
    lengths = [1 if rows == "one" else cfg.tile]
    passes, sums, _ = random_passes(cfg, rng, memory, groups=10, lengths=lengths, aside=False)
    bench = Bench(cfg, passes, memory, delay=delay)
    assert np.array_equal(bench.run()[0], sums)
    assert set(np.diff(bench.entries)) == {cfg.tile}


@CONFIGS
def test_the_first_tile_is_ready_soon(cfg):
    rng = np.random.default_rng(0)
    memory = random_memory(cfg, rng)
    passes, *_ = random_passes(cfg, rng, memory, groups=1, lengths=[1], aside=False)
    bench = Bench(cfg, passes, memory, delay=0)
    bench.run()
    assert bench.entries[0] < 2 * cfg.tile + 2 + STAT_READ_LATENCY
