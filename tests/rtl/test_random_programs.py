"""Random programs, legal ones and spoilt ones, with stalls on every channel of the bus.

One machine runs many, so that each finds what others have left on chip. What the verifier passes
ends as in the emulator; what it refuses is named by the hardware or ended by the watchdog.
"""

import itertools

import hardware
import numpy as np
import pytest
from hazards import unordered, unwritten
from mixtures import mixture, spoilt

from transept.golden import isa, registers
from transept.golden.config import TINY
from transept.golden.emulator import Emulator, EmulatorError
from transept.golden.isa import Opcode, Window
from transept.golden.registers import ErrorCode
from transept.golden.verify import verify
from transept.sim.native import NativeSimulation

#: Programs of one machine.
RUNS = 25
#: Machines of the tests that are slow.
MACHINES = 80
#: Cycles without progress until the watchdog ends a program that is illegal.
LIMIT = 20_000
#: Emulations, of other leftovers on chip and in other orders, that a result must not depend on.
EMULATIONS = 4

FAST = [*range(2), *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, MACHINES))]


def machine(rng):
    """A simulation with other memory and other stalls each."""
    return NativeSimulation(
        TINY,
        str(rng.choice(["default", "board"])),
        seed=int(rng.integers(1, 1 << 31)),
        backpressure=float(rng.choice([0, 0.2, 0.5])),
        dram_bytes=1 << 20,
    )


def draw(rng):
    return mixture(TINY, rng, int(rng.integers(1, 4)))


@pytest.mark.parametrize("seed", FAST)
def test_legal_programs_end_as_in_the_emulator(seed):
    rng = np.random.default_rng([seed, 1])
    with machine(rng) as sim:
        for _ in range(RUNS):
            hardware.check(sim, draw(rng))


@pytest.mark.parametrize("seed", FAST)
def test_spoilt_programs_end(seed):
    rng = np.random.default_rng([seed, 2])
    with machine(rng) as sim:
        for _ in range(RUNS):
            case = draw(rng)
            wrong = spoilt(case, TINY, rng)
            findings = found(wrong)
            if findings:
                assert_named(sim, wrong, findings)
            else:
                assert_emulated(sim, wrong)
            assert_nothing_outside(sim, wrong)
            reset(sim)
        hardware.check(sim, case)


def found(case):
    """What the verifier says of what is in the window of a program."""
    base, size = case.windows[Window.PROGRAM]
    sizes = {window: limit for window, (_, limit) in case.windows.items()}
    return verify(case.dram[base : base + size].tobytes(), TINY, sizes)


def run(sim, case, limit):
    """Run a case to its end, good or bad; the code of its error, and whether the watchdog fired."""
    sim.dram[: len(case.dram)] = case.dram
    hardware.configure(sim, case.windows)
    hardware.write(sim, "WATCHDOG_LIMIT", value=limit)
    hardware.start(sim)
    sim.run_until_irq(10 * registers.watchdog_default(TINY))
    hardware.write(sim, "IRQ", done=1, error=1)
    return hardware.read(sim, "ERROR")["code"], hardware.read(sim, "WATCHDOG")["fired"]


def reset(sim):
    hardware.write(sim, "CONTROL", soft_reset=1, irq_enable=1)
    sim.step(1000)
    assert [name for name, bit in hardware.read(sim, "STATUS").items() if bit] == ["idle"]


def assert_named(sim, case, findings):
    """Several things may be wrong, and which the hardware meets first is a matter of time; data
    that nothing has written may be wrong too."""
    code, fired = run(sim, case, LIMIT)
    names = {finding.code for finding in findings} | {ErrorCode.ILLEGAL_OPERAND}
    assert fired or code in names - {ErrorCode.NONE}, (code, findings[0])


def assert_emulated(sim, case):
    """The image of DRAM is the emulator's, if it depends neither on time nor on what was on chip
    before: no operand says so, and other emulations give the same."""
    images = list(emulations(case))
    code, fired = run(sim, case, registers.watchdog_default(TINY))
    assert not fired
    assert code in (ErrorCode.NONE, ErrorCode.ILLEGAL_OPERAND)
    if len(images) == EMULATIONS and determined(decoded(case)):
        assert code == ErrorCode.NONE
        if all(np.array_equal(image, images[0]) for image in images):
            assert np.array_equal(sim.dram[: len(images[0])], images[0])


def decoded(case):
    """The instructions before END."""
    base, size = case.windows[Window.PROGRAM]
    text = case.dram[base : base + size].tobytes()
    places = range(0, size, isa.INSTRUCTION_BYTES)
    program = (isa.decode(text[at : at + isa.INSTRUCTION_BYTES]) for at in places)
    return list(itertools.takewhile(lambda i: i.opcode != Opcode.END, program))


def determined(program):
    return not unwritten(program, TINY) and not unordered(program, TINY)


def emulations(case):
    """Images of DRAM after emulations in which nothing ended in an error or was left over."""
    for seed in range(EMULATIONS):
        image = case.dram.copy()
        order = np.random.default_rng(seed) if seed else None
        try:
            facts = Emulator(TINY, image, case.windows, seed=seed).run(order=order)
        except EmulatorError:
            return
        if facts.tokens_left:
            return
        yield image


def assert_nothing_outside(sim, case):
    """Every byte that no window holds is what it was."""
    outside = np.ones(len(case.dram), bool)
    for base, limit in case.windows.values():
        outside[base : base + limit] = False
    assert np.array_equal(sim.dram[: len(outside)][outside], case.dram[outside])
