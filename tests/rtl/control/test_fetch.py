"""Fetch delivers a program up to END and never asks for a byte beyond its window."""

import random

import pytest
from amaranth.sim import Simulator
from unused import unused

from transept.golden import isa
from transept.golden.config import PYNQ_Z2, TINY
from transept.golden.isa import Opcode, Window
from transept.rtl.control.fetch import DEPTH, Fetch

BASE = 0x4000
END = 1 << 8 | 1 << 255  # whatever else is set


def program(rng, length):
    """Random instructions that are not END."""
    opcodes = rng.choices([Opcode.NORM, 0x80], k=length)
    return [*(rng.getrandbits(256) & ~0xFF | opcode for opcode in opcodes), END]


class Memory:
    """Answers requests in order after a random delay; remembers what was asked for."""

    def __init__(self, cfg, words, offset, rng):
        self.beat, self.rng, self.offset = cfg.axi_bytes, rng, offset
        self.dram = b"".join(w.to_bytes(32, "little") for w in words)
        self.dram += bytes(rng.randrange(1, 256) for _ in range(1024))
        self.asked, self.beats = [], []

    def ask(self, request):
        first, size = request.address - BASE, request.bytes
        self.asked.append((first, size))
        for at in range(first, first + size, self.beat):
            place = at - self.offset
            data = int.from_bytes(self.dram[place : place + self.beat], "little")
            self.beats.append({"data": data, "last": at + self.beat == first + size})


def fetch(cfg, words, *, offset=0, base=BASE, limit=1 << 20, seed=1, stall=0.0, cycles=4000):
    """Run a program; (instructions, requests, violation or None, still busy)."""
    rng = random.Random(seed)
    dut, memory, got = Fetch(cfg), Memory(cfg, words, offset, rng), []
    state = {}

    async def bench(ctx):
        ctx.set(dut.windows[Window.PROGRAM], {"base": base, "limit": limit})
        ctx.set(dut.offset, offset)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        for _ in range(cycles):
            beat = memory.beats[0] if memory.beats and rng.random() >= stall else None
            ask, take = rng.random() >= stall, rng.random() >= stall
            ctx.set(dut.beats.valid, beat is not None)
            if beat:
                ctx.set(dut.beats.payload, beat)
            ctx.set(dut.request.ready, ask)
            ctx.set(dut.instr.ready, take)
            ports = (dut.request, dut.instr)
            flags = [port.valid for port in ports] + [port.payload for port in ports]
            _, _, room, asked, offered, request, instr = await ctx.tick().sample(
                dut.beats.ready, *flags
            )
            assert room, "a beat that was asked for has no room"
            if beat:
                memory.beats.pop(0)
            if ask and asked:
                memory.ask(request)
            if take and offered:
                got.append(instr)
            if not ctx.get(dut.busy) and len(got) == len(words):
                break
        state["busy"] = ctx.get(dut.busy)
        violation = ctx.get(dut.violation)
        state["violation"] = (violation.window, violation.offset) if violation.valid else None

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()
    return got, memory.asked, state["violation"], state["busy"]


@pytest.mark.parametrize("cfg", [TINY, PYNQ_Z2], ids=lambda cfg: cfg.name)
@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("length", [0, 1, 40])
def test_delivers_the_program(cfg, stall, length):
    words = program(random.Random(length), length)
    got, asked, violation, busy = fetch(cfg, words, offset=96, seed=length, stall=stall)
    assert got == words
    assert violation is None
    assert not busy
    position = 96
    for first, size in asked:
        assert first == position
        position += size
    assert position <= 96 + (len(words) + DEPTH) * isa.INSTRUCTION_BYTES


@pytest.mark.parametrize("offset", [0, 1 << 31, (1 << 31) - 64])
def test_windows_may_have_any_size(offset):
    words = program(random.Random(offset), 20)
    limit = offset + (1 << 30 if offset else 1 << 31)
    got, asked, violation, busy = fetch(TINY, words, offset=offset, limit=limit)
    assert (got, violation, busy) == (words, None, 0)
    assert asked[0][0] == offset
    got, _, violation, _ = fetch(TINY, words, offset=offset, limit=offset + 32 * 18, cycles=300)
    assert (got, violation) == (words[:18], (Window.PROGRAM, offset + 32 * 18))


def test_as_much_as_there_is_room_for_is_asked_for_ahead():
    """A window of so many instructions has not ended before they come."""
    dut, words, asked, got = Fetch(TINY), program(random.Random(1), DEPTH - 1), [], []
    memory = Memory(TINY, words, 0, random.Random(1))

    async def bench(ctx):
        ctx.set(dut.windows[Window.PROGRAM], {"base": BASE, "limit": 32 * DEPTH})
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        await ctx.tick().repeat(5)
        assert ctx.get(dut.request.valid)  # it waits for nobody
        ctx.set(dut.request.ready, 1)
        for _ in range(DEPTH):
            _, _, valid, request = await ctx.tick().sample(dut.request.valid, dut.request.payload)
            if valid:
                memory.ask(request)
                asked.append(request.bytes)
        assert sum(asked) == 32 * DEPTH
        assert not ctx.get(dut.violation.valid)
        ctx.set(dut.instr.ready, 1)
        for beat in [*memory.beats, *[None] * 8]:
            ctx.set(dut.beats.valid, beat is not None)
            if beat:
                ctx.set(dut.beats.payload, beat)
            _, _, valid, word = await ctx.tick().sample(dut.instr.valid, dut.instr.payload)
            got.extend([word] if valid else [])
        assert not ctx.get(dut.violation.valid)
        assert not ctx.get(dut.busy)

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()
    assert got == words


@pytest.mark.parametrize("spare", [0, 1, 31, 32, 65])
def test_prefetch_ends_with_the_window(spare):
    words = program(random.Random(spare), 9)
    limit = 32 + len(words) * 32 + spare
    got, asked, violation, busy = fetch(PYNQ_Z2, words, offset=32, limit=limit)
    assert (got, violation, busy) == (words, None, 0)
    assert all(first + size <= limit for first, size in asked)


@pytest.mark.parametrize("limit", [0, 31, 64, 64 + 31, 64 + 32 * 5])
def test_a_window_without_end_is_a_violation(limit):
    words = program(random.Random(limit), 20)
    got, asked, violation, _ = fetch(PYNQ_Z2, words, offset=64, limit=limit, cycles=300)
    whole = max(0, limit - 64) // 32
    assert got == words[:whole]
    assert violation == (Window.PROGRAM, 64 + 32 * whole)
    assert all(first + size <= limit for first, size in asked)


@pytest.mark.parametrize(
    ("base", "limit", "offset"),
    [(BASE + 4, 4096, 0), (BASE, 4096, 8), (0xFFFF_F000, 4096, 0), (BASE, (1 << 32) - 1, 0)],
)
def test_nothing_is_read_from_a_misplaced_window(base, limit, offset):
    got, asked, violation, _ = fetch(
        PYNQ_Z2, program(random.Random(1), 5), offset=offset, base=base, limit=limit, cycles=100
    )
    assert (got, asked, violation) == ([], [], (Window.PROGRAM, offset))


def test_an_instruction_is_whole_beats():
    wide = PYNQ_Z2.replace(tile=64, axi_data_bits=512, packed=False)
    with unused(), pytest.raises(ValueError, match="axi_data_bits=512 must divide 256"):
        Fetch(wide)
