"""Illegal programs on the hardware, with no verifier in front of it.

Each is named by ERROR, as the verifier would, or ended by the watchdog within its limit; nothing
outside a window changes, and after a soft reset the machine is as good as new.
"""

import hardware
import numpy as np
import pytest
from illegal import illegal, legal

from transept.golden.config import TINY
from transept.golden.isa import Window
from transept.golden.registers import ErrorCode
from transept.golden.verify import verify
from transept.sim.native import NativeSimulation

KINDS = {kind.name: kind for kind in illegal(TINY)}
#: Cycles without progress; above those of the longest instruction of these programs.
LIMIT = 3000
#: Cycles until every instruction before the illegal one has run, at most.
RUN = 20_000


def simulation(**options):
    return NativeSimulation(TINY, dram_bytes=1 << 20, **options)


def run(sim, case):
    """Run a case to its error; the registers that say what happened."""
    sim.dram[: len(case.dram)] = case.dram
    hardware.configure(sim, case.windows)
    hardware.write(sim, "WATCHDOG_LIMIT", value=LIMIT)
    hardware.start(sim)
    with pytest.raises(hardware.Failure):
        hardware.wait(sim, RUN + LIMIT)
    names = ("ERROR", "ERROR_OFFSET", "WATCHDOG")
    return {name: hardware.read(sim, name) for name in names}


def recover(sim):
    """Soft reset; everything reads as after power-on."""
    hardware.write(sim, "CONTROL", soft_reset=1, irq_enable=1)
    sim.step(1000)
    assert hardware.read(sim, "STATUS")["idle"]
    for name in ("ERROR", "ERROR_OFFSET", "WATCHDOG"):
        assert not any(hardware.read(sim, name).values()), name
    hardware.write(sim, "IRQ", done=1, error=1)


def outside(case):
    """Which bytes of DRAM no window holds."""
    mask = np.ones(len(case.dram), bool)
    for base, limit in case.windows.values():
        mask[base : base + limit] = False
    return mask


def first_finding(case):
    base, size = case.windows[Window.PROGRAM]
    sizes = {window: limit for window, (_, limit) in case.windows.items()}
    return verify(case.dram[base : base + size].tobytes(), TINY, sizes)[0]


@pytest.fixture(scope="module")
def machine():
    """One machine for all: each case finds what the ones before have left."""
    with simulation(backpressure=0.2) as sim:
        yield sim


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_named_or_ended(name, machine):
    kind, finding = KINDS[name], first_finding(KINDS[name].case)
    said = run(machine, kind.case)
    error = said["ERROR"]
    if kind.code is None:
        assert said["WATCHDOG"]["fired"]
    elif kind.code == ErrorCode.ILLEGAL_INSTRUCTION:
        expected = {"code": kind.code, "engine": finding.unit, "window": 0, "rule": finding.rule}
        assert error == expected
        assert said["ERROR_OFFSET"]["value"] == kind.index
    else:
        assert error["code"] == finding.code == kind.code
        assert (error["engine"], error["window"]) == (finding.unit, finding.window)
    untouched = outside(kind.case)
    assert np.array_equal(machine.dram[: len(untouched)][untouched], kind.case.dram[untouched])
    recover(machine)


def test_the_machine_is_as_good_as_new(machine):
    hardware.check(machine, legal(TINY))
