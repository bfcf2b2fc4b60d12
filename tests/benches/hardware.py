"""Run a program on the simulated accelerator and compare DRAM with the emulator's, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from bench import Case

from transept.golden import registers
from transept.golden.emulator import Emulator
from transept.golden.isa import Window
from transept.sim.native import NativeSimulation

__all__ = ["Failure", "check", "configure", "execute", "read", "start", "wait", "write"]


class Failure(Exception):  # noqa: N818
    """The accelerator ended a run with an error; the message has its registers."""


def read(sim: NativeSimulation, name: str) -> Mapping[str, int]:
    """The fields of a register."""
    return registers.decode(name, sim.read32(registers.offset(name)))


def write(sim: NativeSimulation, name: str, **fields: int) -> None:
    """Write the fields of a register, others 0."""
    sim.write32(registers.offset(name), registers.encode(name, **fields))


def configure(sim: NativeSimulation, windows: Mapping[Window, tuple[int, int]]) -> None:
    """Set the windows, given as (offset in DRAM, size)."""
    for window, (base, limit) in windows.items():
        write(sim, f"WINDOW_BASE_{window.name}", value=sim.dram_base + base)
        write(sim, f"WINDOW_LIMIT_{window.name}", value=limit)


def start(sim: NativeSimulation) -> None:
    """Start the program at the beginning of its window."""
    write(sim, "CONTROL", start=1, irq_enable=1)


def wait(sim: NativeSimulation, max_cycles: int = 1_000_000) -> int:
    """Run to the end and clear the interrupt; returns the cycles of the run.

    Raises
    ------
    Failure
        If the run ended with an error.
    """
    sim.run_until_irq(max_cycles)
    write(sim, "IRQ", done=1, error=1)
    status = read(sim, "STATUS")
    if status["error"]:
        facts = {name: read(sim, name) for name in ("ERROR", "ERROR_OFFSET", "WATCHDOG")}
        raise Failure(str(facts))
    assert status == {"idle": 1, "busy": 0, "done": 1, "error": 0, "resetting": 0}
    return sim.read32(registers.offset("RUN_CYCLES_LO"))


def execute(sim: NativeSimulation, case: Case) -> int:
    """Put the case into DRAM and run it; returns the cycles of the run."""
    sim.dram[: len(case.dram)] = case.dram
    configure(sim, case.windows)
    start(sim)
    return wait(sim)


def check(sim: NativeSimulation, case: Case) -> int:
    """Run the case on ``sim`` and on the emulator; returns the cycles of the run.

    Raises
    ------
    AssertionError
        If any byte of DRAM differs, or the counters of the run are not those of the program.
    """
    expected = case.dram.copy()
    facts = Emulator(sim.config, expected, case.windows).run()
    cycles = execute(sim, case)
    wrong = np.flatnonzero(sim.dram[: len(expected)] != expected)
    if wrong.size:
        at = int(wrong[0])
        where = {
            window.name: at - base
            for window, (base, limit) in case.windows.items()
            if base <= at < base + limit
        }
        raise AssertionError(f"{wrong.size} bytes differ, the first at {at} {where}")
    assert read(sim, "INSTRUCTIONS")["value"] == sum(facts.instructions.values())
    assert read(sim, "BYTES_WRITTEN_LO")["value"] == facts.bytes_written
    clipped = tuple(sim.read32(at) for at in registers.find("CLIPPED").offsets)
    assert clipped == facts.clipped
    return cycles
