"""cocotb tests of the legality checker: it says what the verifier says of each instruction."""

import cocotb
import settings
from bench import instruction
from illegal import skeleton
from legality_programs import instructions, verdict
from pins import Pins

from transept.golden import isa
from transept.golden.isa import Engine, Opcode
from transept.golden.registers import Unit
from transept.golden.rules import ENCODING
from transept.golden.verify import State
from transept.rtl.control.legality import LegalityChecker
from transept.sim.streams import reset

CFG = settings.config()
DESIGN = LegalityChecker(CFG)
COUNT = 1500
#: A cycle for each product and each selection, of up to 256 rows, and some more.
LIMIT_CYCLES = 60 + 256 // CFG.tile


async def check(pins, raws):
    """The first verdict on some instructions, if there is any: (engine, rule, index)."""
    said, start, waiting, taken = [], pins.cycle, list(raws), False
    while waiting or taken or not pins.raw("idle"):
        pins.set("i__valid", bool(waiting))
        if waiting:
            pins.set("i__payload", int.from_bytes(waiting[0], "little"))
        await pins.tick()
        taken = pins.moves("i")  # idle is low from the next cycle on
        if taken:
            waiting.pop(0)
        illegal = pins.get("illegal")
        if illegal["valid"]:
            said.append((illegal["engine"], illegal["rule"], illegal["index"]))
        assert pins.cycle - start < LIMIT_CYCLES * (1 + len(raws)), "no verdict"
    return said[0] if said else None


@cocotb.test()
@cocotb.parametrize(case=range(3))
async def agrees_with_the_verifier(dut, case):
    pins, rng, state = Pins(dut, DESIGN), settings.generator(case), State()
    index = legal = 0
    await pins.start()
    for raw in instructions(CFG, rng, COUNT):
        expected, state = verdict(CFG, raw, state)
        assert await check(pins, [raw]) == (expected and (*expected, index)), raw.hex()
        index, legal = index + 1, legal + (expected is None)
        if expected:  # as after every error
            await reset(dut)
            index = 0
    assert COUNT // 4 < legal < COUNT, legal


@cocotb.test()
async def many_instructions_wait(dut):
    """More than there is room for, the last one illegal; a start counts from 0 again."""
    pins, good = Pins(dut, DESIGN), [isa.encode(i) for i in skeleton(CFG).values()]
    wrong = isa.encode(instruction(Opcode.STORE))
    await pins.start()
    for rounds in (1, 5):
        expected = (Engine.STORE, 1, rounds * len(good))
        assert await check(pins, [*good * rounds, wrong]) == expected
        pins.set("clear", 1)
        await pins.tick()
        pins.set("clear", 0)


@cocotb.test()
async def end_and_unknown_opcodes_are_checked_too(dut):
    pins, end = Pins(dut, DESIGN), bytes(isa.INSTRUCTION_BYTES)
    await pins.start()
    assert await check(pins, [end, end]) is None
    assert await check(pins, [bytes([0, 1, *end[2:]])]) == (Unit.CONTROL, ENCODING, 2)
    assert await check(pins, [bytes([99, *end[1:]])]) == (Unit.CONTROL, ENCODING, 3)
