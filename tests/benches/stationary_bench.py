"""cocotb tests of the stationary loader, its transposer and the array together."""

import cocotb
import numpy as np
import settings
from draws import KINDS, int8
from pins import Pins
from stationary_system import LoaderAndArray
from tiles import finished_slots, random_passes

from transept.rtl.gemm.accumulator import REVISIT_CYCLES
from transept.rtl.interfaces import STAT_READ_LATENCY

CFG = settings.config()
DESIGN = LoaderAndArray(CFG)
LIMIT_CYCLES = 20_000
PACES = {
    "fast": {},
    "refused": {"refuse": 0.5},
    "gaps": {"gap": 0.9},
    "idle": {"idle": 0.7},
    "mixed": {"refuse": 0.2, "gap": 0.2, "idle": 0.2},
}


class Surroundings:
    """Scratchpad, sequencer, streamer and the consumer of the sums around loader and array."""

    def __init__(self, dut, passes, memory, rng, *, refuse=0.0, gap=0.0, idle=0.0):
        self.pins, self.passes, self.memory, self.rng = Pins(dut, DESIGN), passes, memory, rng
        self.refuse, self.gap, self.idle = refuse, gap, idle
        self.asked = [None] * (STAT_READ_LATENCY - 1)
        self.given, self.offered = 0, False
        self.started, self.free, self.entering = 0, 0, {}
        self.entries, self.sums, self.columns = [], [], []

    async def run(self):
        pins = self.pins
        self.wanted = finished_slots(self.passes)
        wanted = len(self.wanted)
        rows = sum(len(p.rows) for p in self.passes)
        await pins.start()
        while len(self.sums) < rows or len(self.columns) < wanted:
            assert pins.cycle < LIMIT_CYCLES, "no progress"
            self.offer()
            self.enter_row()
            await pins.settle()
            self.start_pass()
            await pins.tick()
            self.observe()
        return np.array(self.sums), np.array(self.columns).reshape(-1, CFG.tile)

    def offer(self):
        """The next tile, and who is ready."""
        pins, rng = self.pins, self.rng
        there = self.given < len(self.passes)
        self.offered = there and (self.offered or rng.random() >= self.gap)
        pins.set("tiles__valid", self.offered)
        if self.offered:
            pins.set("tiles__payload", self.passes[self.given].tile)
        pins.set("read__ready", rng.random() >= self.refuse)
        wanted = len(self.columns) < len(self.wanted)
        pins.set("sums_wanted", wanted)
        if wanted:
            pins.set("sums_slot", self.wanted[len(self.columns)])
        pins.set("columns__ready", rng.random() >= self.idle)

    def enter_row(self):
        """The row that reaches the array in this cycle."""
        swap, row = self.entering.pop(self.pins.cycle, (False, None))
        self.pins.set("row_valid", row is not None)
        self.pins.set("row_swap", swap)
        if row is not None:
            self.pins.set("row", row)

    def start_pass(self):
        """Take the tile if the streamer is free; its rows follow ENTRY_DELAY cycles later."""
        pins = self.pins
        start = self.started < len(self.passes) and pins.cycle >= self.free
        start = bool(start and pins.get("tile_ready") and self.rng.random() >= self.idle)
        pins.set("tile_taken", start)
        if start:
            rows, entry = self.passes[self.started].rows, pins.cycle + DESIGN.ENTRY_DELAY
            self.entries.append(entry)
            self.entering |= {entry + m: (m == 0, row) for m, row in enumerate(rows)}
            self.free, self.started = pins.cycle + len(rows), self.started + 1

    def observe(self):
        """What happened in this cycle; the answer of the scratchpad for the next one."""
        pins = self.pins
        if pins.raw("sums_valid"):
            self.sums.append([pins.get(f"sums__{n}") for n in range(CFG.tile)])
        if pins.moves("columns"):
            self.columns.append(pins.get("columns__payload"))
        if pins.moves("tiles"):
            self.given, self.offered = self.given + 1, False
        self.asked.append(pins.get("read__addr") if pins.moves("read") else None)
        addr = self.asked.pop(0)
        noise = self.rng.integers(-128, 128, CFG.tile)
        pins.set("read__data", noise if addr is None else self.memory[addr])


def draw(rng, kind, **shape):
    memory = int8(rng, (CFG.memories.stat_words, CFG.tile), kind)
    return memory, *random_passes(CFG, rng, memory, kind=kind, **shape)


@cocotb.test()
@cocotb.parametrize(kind=KINDS, pace=list(PACES))
async def matches_numpy(dut, kind, pace):
    rng = settings.generator(KINDS.index(kind))
    lengths = [1, 2, CFG.tile - 1, CFG.tile, CFG.tile + 3]
    memory, passes, sums, columns = draw(rng, kind, groups=8, lengths=lengths)
    bench = Surroundings(dut, passes, memory, rng, **PACES[pace])
    got = await bench.run()
    assert np.array_equal(got[0], sums)
    assert np.array_equal(got[1], columns.reshape(-1, CFG.tile))
    assert np.diff(bench.entries).min() >= REVISIT_CYCLES


@cocotb.test()
@cocotb.parametrize(summed=[False, True])
async def sustains_a_pass_every_tile_cycles(dut, summed):
    """Where there are two slots, column sums that are not taken yet may hold up the next group."""
    rng = settings.generator(7)
    shape = {"groups": 10, "lengths": [CFG.tile], "aside": False, "sums": summed}
    memory, passes, sums, _ = draw(rng, "random", **shape)
    bench = Surroundings(dut, passes, memory, rng)
    assert np.array_equal((await bench.run())[0], sums)
    waits = np.diff(bench.entries) - CFG.tile
    assert waits.max() <= (2 * CFG.tile if summed and CFG.geometry.acc_slots == 2 else 0)
    assert waits.min() == 0


@cocotb.test()
async def minus_128_counts_as_minus_127(dut):
    """In the array and in the column sums alike, so that rows beyond the last key cancel."""
    rng = settings.generator(8)
    memory = int8(rng, (CFG.memories.stat_words, CFG.tile), "random")
    memory[rng.random(memory.shape) < 0.5] = -128
    known = random_passes(CFG, rng, memory.clip(-127), groups=4, lengths=[CFG.tile])
    passes, sums, columns = known
    got = await Surroundings(dut, passes, memory, rng).run()
    assert np.array_equal(got[0], sums)
    assert np.array_equal(got[1], columns.reshape(-1, CFG.tile))
