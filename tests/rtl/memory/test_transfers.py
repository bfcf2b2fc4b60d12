"""Load and store engines with their AXI masters against the emulator's transfers."""

from __future__ import annotations

import random

import numpy as np
import pytest
from amaranth import Module, ResetInserter, Signal
from amaranth.lib.wiring import Component, connect
from bench import instruction
from memory_model import AxiMemory, put, simulate

from transept.golden.config import PYNQ_Z2, TINY
from transept.golden.emulator.memory import Dram, OnChip
from transept.golden.emulator.transfer import load, store
from transept.golden.isa import Memory, Opcode, Window, encode
from transept.golden.registers import Stall
from transept.rtl.memory.load import LoadEngine
from transept.rtl.memory.reader import ReadMaster
from transept.rtl.memory.store import StoreEngine
from transept.rtl.memory.writer import WriteMaster

SIZE = 1 << 16
BASE, LIMIT = 1 << 12, 3 << 14
ONE_WORD = {"window": Window.IO, "pitch": 1, "rows": 1, "words": 1, "stride": 1}
WINDOWS = [{"base": BASE, "limit": LIMIT if w == Window.IO else 0} for w in Window]


class LoadBench(Component):
    def __init__(self, cfg):
        self.engine, self.master, self.reset = LoadEngine(cfg), ReadMaster(cfg), Signal()
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.engine = ResetInserter(self.reset)(self.engine)
        m.submodules.master = self.master
        connect(m, self.engine.request, self.master.load_request)
        connect(m, self.master.load_data, self.engine.beats)
        return m


class StoreBench(Component):
    def __init__(self, cfg):
        self.engine, self.master, self.reset = StoreEngine(cfg), WriteMaster(cfg), Signal()
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.engine = ResetInserter(self.reset)(self.engine)
        m.submodules.master = self.master
        connect(m, self.engine.request, self.master.request)
        connect(m, self.engine.beats, self.master.data)
        m.d.comb += self.engine.done.eq(self.master.done)
        return m


def _load(**operands):
    return instruction(Opcode.LOAD, **(ONE_WORD | operands))


def _store(**operands):
    return instruction(Opcode.STORE, **(ONE_WORD | operands))


def _bits(item):
    return int.from_bytes(encode(item), "little")


def _without_lowest_codes(memory):
    """Bytes of -128 would be refused as int8 operands."""
    for n, byte in enumerate(memory.bytes):
        if byte == 0x80:
            memory.bytes[n] = 0x7F


def _golden(cfg, memory):
    data = np.frombuffer(memory.bytes, np.uint8).copy()
    return OnChip(cfg, seed=0), Dram(data, {Window.IO: (BASE, LIMIT)})


class Recorder:
    """Stands in for the on-chip memories: takes writes at random paces."""

    def __init__(self, engine, chip, stall, seed):
        self.engine, self.chip, self.stall = engine, chip, stall
        self.rng = random.Random(seed)
        self.retired = self.illegal = self.cycles = 0

    async def serve(self, ctx):
        engine, chip = self.engine, self.chip
        targets = (
            (engine.act_write, chip.act),
            (engine.stat_write, chip.stat),
            (engine.rowstat_write, chip.rowstat),
            (engine.vparam, chip.vparam),
            (engine.table, chip.table.view(np.int8)),
        )
        flags = [port.en for port, _ in targets]
        while True:
            for port, _ in targets[:3]:
                ctx.set(port.ready, self.rng.random() >= self.stall)
            for port, array in targets:
                ready = not hasattr(port, "ready") or ctx.get(port.ready)
                if ctx.get(port.en) and ready:
                    value = ctx.get(port.data)
                    if port is engine.vparam:
                        value = value.to_bytes(array.shape[1], "little")
                    array[ctx.get(port.addr)] = value if isinstance(value, int) else list(value)
            _, _, retire, illegal, *_ = await ctx.tick().sample(
                engine.retire, engine.illegal_operand, *flags
            )
            self.cycles += 1
            self.retired += retire
            self.illegal += illegal


def _run_loads(cfg, program, memory, *, stall, cycles=30000, done=None):
    dut = LoadBench(cfg)
    chip, dram = _golden(cfg, memory)
    seen = OnChip(cfg, seed=0)
    recorder = Recorder(dut.engine, seen, stall, seed=3)
    for item in program:
        load(chip, dram, item)

    async def issue(ctx):
        ctx.set(dut.engine.windows, WINDOWS)
        for item in program:
            await put(ctx, dut.engine.instr, _bits(item))
        while recorder.retired < len(program):
            await ctx.tick()
        if done is not None:
            done.append(recorder.cycles)
        for name in ("act", "stat", "rowstat", "vparam", "table"):
            assert (getattr(seen, name) == getattr(chip, name)).all(), name
        await ctx.tick()
        assert not ctx.get(dut.engine.busy)
        assert not ctx.get(dut.engine.violation.valid)

    simulate(dut, issue, background=[memory.reads(dut.master.axi), recorder.serve], cycles=cycles)
    assert recorder.illegal == 0
    assert recorder.retired == len(program)
    return dut


EXTREMES = [0x8000, 0x7FFF, 0x8001, 0xFFFF, 0x0000, 0x0001]


def test_magnitudes_of_extreme_elements():
    cfg = TINY
    memory = AxiMemory(SIZE, cfg.axi_bytes)
    rng = random.Random(5)
    elements = [rng.choice(EXTREMES) for _ in range(512)] + [0] * 64 + EXTREMES[:1] * 4 + [0] * 444
    memory.bytes[BASE : BASE + 2048] = b"".join(x.to_bytes(2, "little") for x in elements)
    rows = _load(wide=1, stats=1, rows=100, words=2, pitch=4, stride=2)
    _run_loads(cfg, [rows], memory, stall=0.2)


#: (program, beats) for PYNQ-Z2 with a memory that gives a beat a cycle
FAST = {
    "contiguous": ([_load(memory=Memory.STAT, rows=1, words=384, pitch=384)], 384),
    "short rows without gaps": (
        [_load(memory=Memory.STAT, rows=384, words=1, pitch=1, stride=1)],
        384,
    ),
    "int16 rows": (
        [_load(wide=1, stats=1, rows=8, words=24, pitch=50, stride=24)],
        384,
    ),
    "int8 rows with statistics": (
        [_load(stats=1, rows=16, words=24, pitch=30, stride=24)],
        384,
    ),
    "tiles in instructions of their own": (
        [_load(memory=Memory.STAT, rows=16, words=1, pitch=1, offset=256 * n) for n in range(24)],
        384,
    ),
}


@pytest.mark.parametrize("name", FAST)
def test_loads_run_at_one_beat_a_cycle(name):
    program, beats = FAST[name]
    memory = AxiMemory(SIZE, PYNQ_Z2.axi_bytes, latency=20)
    _without_lowest_codes(memory)
    done = []
    _run_loads(PYNQ_Z2, program, memory, stall=0.0, done=done)
    assert done[0] <= beats + memory.latency + 35


def test_an_int8_operand_of_minus_128_is_reported_once_for_its_word():
    cfg = TINY
    memory = AxiMemory(SIZE, cfg.axi_bytes)
    _without_lowest_codes(memory)
    memory.bytes[BASE + 9] = 0x80
    dut = LoadBench(cfg)
    recorder = Recorder(dut.engine, OnChip(cfg, seed=0), 0.3, seed=3)
    allowed = [
        _load(memory=Memory.STAT, words=8),
        _load(wide=1, words=4),
        _load(words=2),
    ]

    async def bench(ctx):
        ctx.set(dut.engine.windows, WINDOWS)
        for count, item in enumerate([*allowed, _load(words=8)], start=1):
            await put(ctx, dut.engine.instr, _bits(item))
            while recorder.retired < count:
                await ctx.tick()
            assert recorder.illegal == (count > len(allowed))

    simulate(dut, bench, background=[memory.reads(dut.master.axi), recorder.serve], cycles=2000)


def test_a_load_outside_its_window_stops_before_the_burst():
    cfg = TINY
    memory = AxiMemory(SIZE, cfg.axi_bytes)
    dut = LoadBench(cfg)
    recorder = Recorder(dut.engine, OnChip(cfg, seed=0), 0.0, seed=3)
    inside = _load(memory=Memory.STAT, words=4)
    outside = _load(memory=Memory.STAT, rows=3, words=4, pitch=5, offset=LIMIT - 48)

    async def bench(ctx):
        ctx.set(dut.engine.windows, WINDOWS)
        for item in (inside, outside, inside):
            await put(ctx, dut.engine.instr, _bits(item))
        await ctx.tick().repeat(100)
        violation = ctx.get(dut.engine.violation)
        assert (violation.valid, violation.window) == (1, Window.IO)
        assert violation.offset == LIMIT - 48 + 2 * 5 * cfg.tile
        assert recorder.retired == 1
        assert ctx.get(dut.engine.busy)
        assert ctx.get(dut.master.idle)

    simulate(dut, bench, background=[memory.reads(dut.master.axi), recorder.serve], cycles=2000)
    assert [address for _, address, _ in memory.bursts] == [
        BASE,
        BASE + LIMIT - 48,
        BASE + LIMIT - 48 + 5 * cfg.tile,
    ]


def test_requests_of_six_loads_run_ahead_of_their_data():
    """Four instructions in the queue of places, one in its slot, one that waits for its beats."""
    engine, requests = LoadEngine(TINY), []

    async def count(ctx):
        ctx.set(engine.request.ready, 1)
        while True:
            _, _, valid = await ctx.tick().sample(engine.request.valid)
            requests.extend([valid] * valid)

    async def issue(ctx):
        while True:
            await put(ctx, engine.instr, _bits(_load()))

    async def bench(ctx):
        ctx.set(engine.windows, WINDOWS)
        await ctx.tick().repeat(100)

    simulate(engine, bench, background=[count, issue], cycles=200)
    assert len(requests) == 6


NOTHING = [{"rows": 0}, {"words": 0}, {"rows": 0, "words": 0}]


def test_a_load_engine_is_busy_whatever_waits():
    """Instructions that move nothing collect behind a row whose statistic is refused; all retire
    in the end."""
    engine, retired, accepted = LoadEngine(PYNQ_Z2), [], []

    async def issue(ctx):
        await put(ctx, engine.instr, _bits(_load(stats=1, wide=1)))
        for number in range(60):
            await put(ctx, engine.instr, _bits(_load(stats=1, **NOTHING[number % 3])))
            accepted.append(number)

    async def bench(ctx):
        ctx.set(engine.windows, WINDOWS)
        ctx.set(engine.request.ready, 1)
        ctx.set(engine.act_write.ready, 1)
        ctx.set(engine.beats.valid, 1)
        while not ctx.get(engine.busy):
            await ctx.tick()
        for cycle in range(300):
            ctx.set(engine.rowstat_write.ready, int(cycle >= 100))
            assert ctx.get(engine.busy) == (len(retired) < 61), cycle
            assert not ctx.get(engine.stat_write.en)
            assert cycle != 99 or (not retired and len(accepted) > 16)
            _, _, retire, written = await ctx.tick().sample(
                engine.retire, engine.rowstat_write.en & engine.rowstat_write.ready
            )
            retired.extend([written] * retire)
        assert len(retired) == 61

    simulate(engine, bench, background=[issue], cycles=400)


def test_a_load_engine_tells_what_it_waits_for():
    engine = LoadEngine(TINY)

    async def bench(ctx):
        ctx.set(engine.windows, WINDOWS)
        assert ctx.get(engine.stall) == Stall.NONE
        for memory, port in (
            (Memory.ACT, engine.act_write),
            (Memory.STAT, engine.stat_write),
        ):
            await put(ctx, engine.instr, _bits(_load(memory=memory, rows=3, words=8, pitch=8)))
            await ctx.tick().repeat(5)
            assert ctx.get(engine.stall) == Stall.MEMORY
            ctx.set(engine.beats.valid, 1)
            await ctx.tick().repeat(8)
            assert ctx.get(engine.stall) == Stall.SCRATCHPAD
            ctx.set(port.ready, 1)
            for _ in range(4):
                assert ctx.get(engine.stall) == Stall.NONE
                assert ctx.get(port.en)
                await ctx.tick()
            ctx.set(engine.beats.valid, 0)
            await ctx.tick().repeat(4)
            assert ctx.get(engine.stall) == Stall.MEMORY
            ctx.set(engine.beats.valid, 1)
            while not ctx.get(engine.retire):
                await ctx.tick()
            assert ctx.get(engine.stall) == Stall.NONE
            ctx.set(engine.beats.valid, 0)
            ctx.set(port.ready, 0)

    simulate(engine, bench, cycles=400)


class Scratchpad:
    """Answers reads ACT_READ_LATENCY = STAT_READ_LATENCY = 2 cycles after it accepted them."""

    def __init__(self, port, words, stall, seed):
        self.port, self.words, self.stall = port, words, stall
        self.rng = random.Random(seed)

    async def serve(self, ctx):
        pipeline = [None, None]
        while True:
            ready = self.rng.random() >= self.stall
            ctx.set(self.port.ready, ready)
            _, _, en, addr = await ctx.tick().sample(self.port.en, self.port.addr)
            pipeline = [addr if en and ready else None, pipeline[0]]
            if pipeline[1] is None:
                ctx.set(self.port.data, [self.rng.randrange(-9, 9) for _ in self.words[0]])
            else:
                ctx.set(self.port.data, self.words[pipeline[1]].tolist())


def _run_stores(cfg, program, memory, *, stall, done=None):
    dut = StoreBench(cfg)
    chip, dram = _golden(cfg, memory)
    pads = [
        Scratchpad(dut.engine.act_read, chip.act, stall, seed=6),
        Scratchpad(dut.engine.stat_read, chip.stat, stall, seed=7),
    ]
    retired = []
    for item in program:
        store(chip, dram, item)

    async def issue(ctx):
        ctx.set(dut.engine.windows, WINDOWS)
        for item in program:
            await put(ctx, dut.engine.instr, _bits(item))

    async def watch(ctx):
        cycles = 0
        while len(retired) < len(program):
            _, _, retire = await ctx.tick().sample(dut.engine.retire)
            cycles += 1
            if retire:
                retired.append(cycles)
        assert bytes(memory.bytes) == dram.data.tobytes()
        await ctx.tick()
        assert not ctx.get(dut.engine.busy)

    background = [memory.writes(dut.master.axi), *(pad.serve for pad in pads)]
    simulate(dut, issue, watch, background=background, cycles=30000)
    return retired


@pytest.mark.parametrize(
    "operands",
    [
        {"rows": 1, "words": 256, "pitch": 256},
        {"rows": 256, "words": 1, "pitch": 3},
        {"rows": 16, "words": 8, "pitch": 20, "wide": 1, "stride": 8},
    ],
    ids=["contiguous", "single beats", "int16 rows"],
)
def test_stores_run_at_one_beat_a_cycle(operands):
    memory = AxiMemory(SIZE, PYNQ_Z2.axi_bytes, latency=4)
    retired = _run_stores(PYNQ_Z2, [_store(**operands)], memory, stall=0.0)
    assert retired[0] <= 256 + memory.latency + 35


def test_a_store_engine_tells_what_it_waits_for():
    engine = StoreEngine(TINY)

    async def bench(ctx):
        ctx.set(engine.windows, WINDOWS)
        for memory, port, other in (
            (Memory.ACT, engine.act_read, engine.stat_read),
            (Memory.STAT, engine.stat_read, engine.act_read),
        ):
            ctx.set(other.ready, 1)
            ctx.set(port.ready, 0)
            await put(ctx, engine.instr, _bits(_store(memory=memory, words=60)))
            await ctx.tick().repeat(5)
            assert ctx.get(port.en)
            assert not ctx.get(other.en)
            assert ctx.get(engine.stall) == Stall.SCRATCHPAD
            ctx.set(port.ready, 1)
            assert ctx.get(engine.stall) == Stall.MEMORY, "the memory's answer is on its way"
            await ctx.tick().repeat(5)
            ctx.set(port.ready, 0)
            assert ctx.get(engine.stall) == Stall.MEMORY, "there is a beat that the bus refuses"
            ctx.set(engine.beats.ready, 1)
            assert ctx.get(engine.stall) == Stall.NONE
            await ctx.tick().repeat(30)
            assert ctx.get(engine.stall) == Stall.SCRATCHPAD
            ctx.set(port.ready, 1)
            await ctx.tick().repeat(70)
            assert ctx.get(engine.stall) == Stall.MEMORY, "the response"
            ctx.set(engine.beats.ready, 0)
            ctx.set(engine.done, 1)
            assert ctx.get(engine.retire)
            await ctx.tick()
            ctx.set(engine.done, 0)

    simulate(engine, bench, cycles=400)


def test_four_stores_wait_for_their_responses():
    """Those that move nothing retire in their turn, whatever has come before it."""
    engine, accepted, retired = StoreEngine(TINY), [], []
    stores = [{"offset": 64}, NOTHING[0], {}, *NOTHING, {"wide": 1}, NOTHING[1]]

    async def issue(ctx):
        for operands in stores:
            await put(ctx, engine.instr, _bits(_store(**operands)))
            accepted.append(1)

    async def bench(ctx):
        ctx.set(engine.windows, WINDOWS)
        for port in (engine.request, engine.beats, engine.act_read):
            ctx.set(port.ready, 1)
        assert not ctx.get(engine.busy)
        counts = []
        for done in (0, 1, 0, 1, 0, 1):
            for cycle in range(40):
                ctx.set(engine.done, int(done and cycle == 0))
                _, _, retire = await ctx.tick().sample(engine.retire)
                retired.extend([1] * retire)
            counts.append((len(accepted), len(retired), ctx.get(engine.busy)))
        assert counts == [(4, 0, 1), (6, 2, 1), (6, 2, 1), (8, 6, 1), (8, 6, 1), (8, 8, 0)]

    simulate(engine, bench, background=[issue], cycles=400)


def test_the_stationary_memory_is_stored_too():
    cfg = TINY
    memory = AxiMemory(SIZE, cfg.axi_bytes, stall=0.3)
    program = [
        _store(memory=Memory.STAT, rows=5, words=9, pitch=12, addr=40, stride=10),
        _store(wide=1, rows=3, words=4, pitch=20, offset=4096, addr=7, stride=4),
        _store(memory=Memory.STAT, words=30, pitch=30, offset=8192, addr=900),
    ]
    _run_stores(cfg, program, memory, stall=0.3)


def test_a_store_retires_only_after_its_response():
    memory = AxiMemory(SIZE, TINY.axi_bytes, latency=150)
    first, second = _run_stores(TINY, [_store(words=4), _store(offset=4096)], memory, stall=0.0)
    assert 150 < first < second


def test_a_store_outside_its_window_stops_before_the_burst():
    cfg = TINY
    memory = AxiMemory(SIZE, cfg.axi_bytes)
    before = bytes(memory.bytes)
    dut = StoreBench(cfg)
    chip = OnChip(cfg, seed=0)
    pad = Scratchpad(dut.engine.act_read, chip.act, 0.0, seed=6)

    async def bench(ctx):
        ctx.set(dut.engine.windows, WINDOWS)
        await put(ctx, dut.engine.instr, _bits(_store(words=2, offset=LIMIT - 4)))
        await ctx.tick().repeat(50)
        violation = ctx.get(dut.engine.violation)
        assert (violation.valid, violation.offset) == (1, LIMIT - 4)
        assert ctx.get(dut.engine.busy)
        assert ctx.get(dut.master.idle)

    simulate(dut, bench, background=[memory.writes(dut.master.axi), pad.serve], cycles=2000)
    assert memory.bytes == before


async def _soft_reset(ctx, dut):
    ctx.set(dut.master.abort, 1)
    await ctx.tick()
    while not ctx.get(dut.master.idle):
        await ctx.tick()
    ctx.set(dut.reset, 1)
    await ctx.tick()
    ctx.set(dut.reset, 0)
    ctx.set(dut.master.abort, 0)


@pytest.mark.parametrize("pause", [1, 9, 30, 55])
def test_loads_start_afresh_after_a_soft_reset(pause):
    cfg = TINY
    memory = AxiMemory(SIZE, cfg.axi_bytes, stall=0.2, seed=pause)
    dut = LoadBench(cfg)
    chip, dram = _golden(cfg, memory)
    seen = OnChip(cfg, seed=0)
    recorder = Recorder(dut.engine, seen, 0.2, seed=3)
    again = _load(memory=Memory.STAT, rows=3, words=9, pitch=12, stride=9)
    load(chip, dram, again)

    async def bench(ctx):
        ctx.set(dut.engine.windows, WINDOWS)
        for _ in range(2):
            await put(ctx, dut.engine.instr, _bits(_load(wide=1, rows=4, words=40, pitch=90)))
        await ctx.tick().repeat(pause)
        await _soft_reset(ctx, dut)
        assert not ctx.get(dut.engine.busy)
        recorder.retired = 0
        await put(ctx, dut.engine.instr, _bits(again))
        while not recorder.retired:
            await ctx.tick()
        assert (seen.stat == chip.stat).all()

    simulate(dut, bench, background=[memory.reads(dut.master.axi), recorder.serve], cycles=3000)


@pytest.mark.parametrize("pause", [1, 9, 30, 55])
def test_stores_start_afresh_after_a_soft_reset(pause):
    cfg = TINY
    memory = AxiMemory(SIZE, cfg.axi_bytes, stall=0.2, seed=pause)
    dut = StoreBench(cfg)
    chip, dram = _golden(cfg, memory)
    pad = Scratchpad(dut.engine.act_read, chip.act, 0.2, seed=6)
    again = _store(rows=4, words=40, pitch=90, wide=1, addr=200, stride=50)
    store(chip, dram, again)

    async def bench(ctx):
        ctx.set(dut.engine.windows, WINDOWS)
        await put(ctx, dut.engine.instr, _bits(_store(rows=4, words=40, pitch=90, wide=1)))
        await ctx.tick().repeat(pause)
        await _soft_reset(ctx, dut)
        assert not ctx.get(dut.engine.busy)
        await put(ctx, dut.engine.instr, _bits(again))
        while not ctx.get(dut.engine.retire):
            await ctx.tick()
        assert bytes(memory.bytes) == dram.data.tobytes()

    simulate(dut, bench, background=[memory.writes(dut.master.axi), pad.serve], cycles=3000)


@pytest.mark.parametrize("cfg", [TINY, PYNQ_Z2], ids=lambda cfg: cfg.name)
def test_a_load_retires_log2_tile_plus_four_cycles_after_its_last_beat(cfg):
    memory = AxiMemory(SIZE, cfg.axi_bytes)
    _without_lowest_codes(memory)
    dut = LoadBench(cfg)

    async def bench(ctx):
        engine = dut.engine
        ctx.set(engine.windows, WINDOWS)
        for port in (engine.act_write, engine.stat_write, engine.rowstat_write):
            ctx.set(port.ready, 1)
        await put(ctx, engine.instr, _bits(_load(words=4, pitch=9, stats=1)))
        last_beat = cycle = 0
        retire = False
        while not retire:
            cycle += 1
            flags = (engine.beats.valid, engine.beats.ready, engine.retire)
            _, _, valid, ready, retire = await ctx.tick().sample(*flags)
            if valid and ready:
                last_beat = cycle
        assert cycle - last_beat == cfg.tile.bit_length() - 1 + 4

    simulate(dut, bench, background=[memory.reads(dut.master.axi)], cycles=500)
