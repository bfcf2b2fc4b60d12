"""cocotb tests of the legality checker: it says what the verifier says of each instruction."""

import cocotb
import settings
from illegal import skeleton
from legality_programs import instructions, verdict
from pins import Pins

from transept.golden import isa
from transept.golden.verify import State
from transept.rtl.control.legality import LegalityChecker
from transept.sim.streams import reset

CFG = settings.config()
DESIGN = LegalityChecker(CFG)
COUNT = 1500
#: A cycle for each product and each selection, of up to 256 rows, and some more.
LIMIT_CYCLES = 60 + 256 // CFG.tile


async def ready(pins):
    for _ in range(CFG.query_blocks + 4):
        if pins.raw("ready"):
            return
        await pins.tick()
    raise AssertionError("the checker does not get ready")


async def check(pins, raw):
    """The first verdict on an instruction, if there is any: (engine, rule, index)."""
    said, start, read = [], pins.cycle, False
    pins.set("instr", int.from_bytes(raw, "little"))
    pins.set("start", 1)
    while not (read and pins.raw("idle")):
        await pins.tick()
        pins.set("start", 0)
        read = read or pins.raw("last")
        illegal = pins.get("illegal")
        if illegal["valid"]:
            said.append((illegal["engine"], illegal["rule"], illegal["index"]))
        assert pins.cycle - start < LIMIT_CYCLES, "no verdict"
    return said[0] if said else None


@cocotb.test()
@cocotb.parametrize(case=range(3))
async def agrees_with_the_verifier(dut, case):
    pins, rng, state = Pins(dut, DESIGN), settings.generator(case), State()
    index = legal = 0
    await pins.start()
    await ready(pins)
    for raw in instructions(CFG, rng, COUNT):
        expected, state = verdict(CFG, raw, state)
        assert await check(pins, raw) == (expected and (*expected, index)), raw.hex()
        index, legal = index + 1, legal + (expected is None)
        if expected:  # as after every error
            await reset(dut)
            await ready(pins)
            index = 0
    assert COUNT // 4 < legal < COUNT, legal


@cocotb.test()
async def instructions_are_counted_from_the_start(dut):
    pins = Pins(dut, DESIGN)
    await pins.start()
    await ready(pins)
    for number, i in enumerate(skeleton(CFG).values(), 1):
        assert await check(pins, isa.encode(i)) is None
        assert pins.get("index") == number
    pins.set("clear", 1)
    await pins.tick()
    pins.set("clear", 0)
    await pins.tick()
    assert pins.get("index") == 0
