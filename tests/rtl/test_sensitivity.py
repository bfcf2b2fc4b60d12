"""What must be seen: one flipped bit in memory, and one changed constant of the RTL."""

import hardware
import numpy as np
import programs

from transept.golden.config import TINY
from transept.golden.emulator import Emulator
from transept.golden.isa import Opcode
from transept.rtl.softmax import exponential
from transept.rtl.top import Top
from transept.sim import build
from transept.sim.native import Faults, NativeSimulation


def case(seed=3):
    return programs.CASES["attention"](TINY, np.random.default_rng(seed))


def simulation(**options):
    return NativeSimulation(TINY, dram_bytes=1 << 20, **options)


def run_with_flip(chosen, address, bit):
    """DRAM after a run in which one bit flips just before the start."""
    with simulation() as sim:
        sim.dram[: len(chosen.dram)] = chosen.dram
        hardware.configure(sim, chosen.windows)
        sim.inject(
            Faults(flip_at=sim.cycle + 1, flip_address=sim.dram_base + address, flip_bit=bit)
        )
        hardware.start(sim)
        hardware.wait(sim)
        return sim.dram[: len(chosen.dram)].copy()


def test_a_flipped_bit_of_an_operand_is_a_mismatch():
    chosen = case()
    expected = chosen.dram.copy()
    Emulator(TINY, expected, chosen.windows).run()
    seen, flips = 0, 0
    for load in (i for i in chosen.program if i.opcode == Opcode.LOAD and i.words):
        address = chosen.windows[load.window][0] + load.offset
        after = run_with_flip(chosen, address, 6)
        after[address] ^= 1 << 6
        seen += not np.array_equal(after, expected)
        flips += 1
    # rounding, masks and operands that only fill memory hide some
    assert seen >= flips / 4
    assert seen > 0


def test_a_changed_constant_of_the_rtl_is_a_mismatch(monkeypatch):
    rows = [list(row) for row in exponential.tables.EXP2]
    rows[1][0] += 512  # one level in 254
    monkeypatch.setattr(exponential.tables, "EXP2", tuple(map(tuple, rows)))
    text = build.to_verilog(Top(TINY), build.TOP, separator="_")
    monkeypatch.undo()
    assert text != build.accelerator_verilog(TINY)
    library = build.native_library(text)
    wrong = 0
    with simulation(library=library) as sim:
        for seed in range(20):
            try:
                hardware.check(sim, programs.softmax(TINY, np.random.default_rng(seed)))
            except AssertionError:
                wrong += 1
    assert wrong > 0
