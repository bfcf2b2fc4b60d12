"""Which bits an instruction may have, and who runs it."""

import random

import pytest
from amaranth import Module, Signal
from amaranth.sim import Simulator

from transept.golden.config import TINY
from transept.golden.isa import FORMATS, Engine, Opcode
from transept.golden.registers import Unit
from transept.golden.rules import ENCODING
from transept.rtl.control.legality import LegalityChecker, _senseless

SMALL = TINY.replace(name="small", elementwise=False)
SIZES = pytest.mark.parametrize("cfg", [TINY, SMALL], ids=lambda cfg: cfg.name)


def is_legal(cfg, number):
    """As ``golden.isa.decode`` and ``golden.verify`` have it."""
    opcode = number & 0xFF
    if opcode == Opcode.END:
        return number == 0
    if opcode not in FORMATS or not cfg.has(Opcode(opcode)):
        return False
    wait, signal = number >> 8 & 0xFFF, number >> 20 & 0xFFF
    return max(wait, signal) < 1 << len(Engine) and not number >> FORMATS[Opcode(opcode)].used


@SIZES
def test_every_bit_of_every_instruction(cfg):
    m, word, wrong = Module(), Signal(256), Signal()
    m.d.comb += wrong.eq(_senseless(cfg, word))
    numbers = [*range(256), *(opcode | 1 << bit for opcode in Opcode for bit in range(8, 256))]
    found = []

    async def bench(ctx):
        for number in numbers:
            ctx.set(word, number)
            found.append(not ctx.get(wrong))

    sim = Simulator(m)
    sim.add_testbench(bench)
    sim.run()
    wanted = [is_legal(cfg, number) for number in numbers]
    assert [n for n, a, b in zip(numbers, found, wanted, strict=True) if a != b] == []


@SIZES
def test_who_runs_an_instruction_and_which_one_it_is(cfg):
    """A token of no engine is told with the engine and the number since the start."""
    rng, dut, said = random.Random(1), LegalityChecker(cfg), []

    async def bench(ctx):
        await ctx.tick().repeat(TINY.query_blocks + 1)
        opcodes = [*Opcode, 99]
        for index, opcode in enumerate(opcodes):
            ctx.set(dut.i.payload, opcode | 1 << 19 | rng.getrandbits(5) << 8)
            ctx.set(dut.i.valid, 1)
            await ctx.tick()
            ctx.set(dut.i.valid, 0)
            told = []
            for _ in range(150):
                illegal = ctx.get(dut.illegal)
                if illegal.valid and illegal.rule == ENCODING:
                    told.append((illegal.engine, illegal.index))
                await ctx.tick()
                if ctx.get(dut.idle):
                    break
            else:
                raise AssertionError("no verdict")
            fmt = FORMATS.get(opcode)
            built = fmt and fmt.engine is not None and cfg.has(opcode)
            assert set(told) == {(fmt.engine if built else Unit.CONTROL, index)}, opcode
            said.append(opcode)
        assert said == opcodes

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()
    assert said


def test_instructions_wait_for_their_check():
    """32 of them beside the one that is checked; dispatch goes on meanwhile."""
    dut, taken = LegalityChecker(TINY), []

    async def bench(ctx):
        ctx.set(dut.i.payload, Opcode.MATMUL)
        ctx.set(dut.i.valid, 1)
        for _ in range(45):
            taken.append(ctx.get(dut.i.ready))
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()
    assert taken == [1] * 33 + [0] * 12
