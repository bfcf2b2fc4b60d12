"""Devices that are right, and devices with one thing wrong, which is named."""

import dataclasses

import numpy as np
import pytest
from graphs import post_norm, random_inputs

from transept.golden import registers
from transept.golden.config import TINY
from transept.golden.isa import Window
from transept.host.compiler.cut import Shape
from transept.host.deploy.cases import copy_case, patterns, region_case
from transept.host.deploy.self_test import Finding, difference, self_test
from transept.host.devices.base import DeviceError
from transept.host.devices.emulator import EmulatorDevice
from transept.host.devices.rtl import RtlDevice
from transept.host.runtime.driver import SMALLEST_WINDOW
from transept.host.runtime.region import Region

STEPS = ["identification", "memory, by the host", "memory, by the accelerator", "one layer"]


@pytest.fixture(scope="module")
def cases():
    graph = post_norm(1, 8, 2, [12])
    region = Region("it", graph, TINY)
    executable = region.executable(Shape(1, {"rows": 5}))
    layer = region_case("one layer", region, executable, random_inputs(graph, 1, 5))
    return [copy_case(TINY), layer]


def test_a_simulation_is_right(cases):
    found = list(self_test(lambda: RtlDevice(TINY), cases))
    assert [(f.step, f.error) for f in found] == [(step, "") for step in STEPS]
    assert [f.cycles > 0 for f in found] == [False, False, True, True]


class Broken(EmulatorDevice):
    """A device with other constants in registers, or a stuck bit of memory."""

    def __init__(self, stuck=None, **constants):
        super().__init__(TINY)
        self._stuck = stuck
        for name, value in constants.items():
            self._values[registers.offset(name)] = value

    def flush(self, buffer):
        if self._stuck is not None:
            byte, bit = divmod(self._stuck, 8)
            buffer.array[byte::8] |= np.uint8(1 << bit)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"ID": 7}, "emulator: magic number is 0x00000007, this driver needs 0x5452414e"),
        ({"CONTRACT": 2}, "emulator: contract version is 0x00000002, this driver needs 0x00000005"),
        ({"CONFIG": 1}, "emulator: digest of tiny is 0x00000001, this driver needs "),
        ({"stuck": 0}, "data bit 0 of 64 is stuck at 1: 4,096 of 65,536 bytes differ"),
        ({"stuck": 29}, "data bit 29 of 64 is stuck at 1: 4,082 of 65,536 bytes differ"),
    ],
)
def test_what_is_wrong_is_named(cases, wrong, error):
    *right, last = self_test(lambda: Broken(**wrong), cases)
    assert last.error.startswith(error)
    assert [f.step for f in right] == STEPS[: len(right)]
    assert last.step == ("memory, by the host" if "stuck" in wrong else "identification")


def test_a_device_that_is_not_there_is_told(cases):
    def absent():
        raise DeviceError("no board answers")

    assert list(self_test(absent, cases)) == [Finding("identification", "no board answers")]


@pytest.mark.parametrize("index", [0, 1])
def test_wrong_bits_end_the_test(cases, index):
    """Of the copy, or of the layer, one byte that the emulator has otherwise."""
    after = cases[index].after.copy()
    after[70] ^= 4
    wrong = dataclasses.replace(cases[index], after=after)
    *_, last = self_test(lambda: EmulatorDevice(TINY), [wrong, *cases])
    assert last.step == STEPS[2 + index]
    right = int(cases[index].after[70])
    assert last.error == (
        f"1 of {after.size:,} bytes differ, the first at 0x46: {right:#04x}, "
        f"must be {right ^ 4:#04x}"
    )


def test_an_illegal_program_is_told(cases):
    program = np.full_like(cases[0].before[Window.PROGRAM], 255)
    wrong = dataclasses.replace(cases[0], before=cases[0].before | {Window.PROGRAM: program})
    *_, last = self_test(lambda: RtlDevice(TINY), [wrong])
    assert last.error.startswith("rtl: ILLEGAL_INSTRUCTION in ")
    assert last.cycles == 0


def test_what_reaches_a_device_and_what_is_read_of_it(cases):
    """Patterns and their opposite; then each window whole, of the size that the case has."""
    told = []

    class Watched(EmulatorDevice):
        def allocate(self, nbytes):
            told.append(("allocate", nbytes))
            return super().allocate(nbytes)

        def flush(self, buffer):
            told.append(("flush", buffer.array.tobytes()))

        def invalidate(self, buffer):
            told.append(("invalidate", buffer.nbytes))

    case = dataclasses.replace(cases[1], scratch=3 * SMALLEST_WINDOW)
    list(self_test(lambda: Watched(TINY), [case]))
    data = patterns(1 << 16)
    assert told[:5] == [
        ("allocate", 1 << 16),
        *(("flush", data.tobytes()), ("invalidate", 1 << 16)),
        *(("flush", (~data).tobytes()), ("invalidate", 1 << 16)),
    ]
    sizes = {window: contents.size for window, contents in case.before.items()}
    sizes[Window.SCRATCH] = case.scratch
    wanted = []
    for window in Window:
        wanted.append(("allocate", max(SMALLEST_WINDOW, sizes.get(window, 0))))
        if window in case.before:
            padding = bytes(max(0, SMALLEST_WINDOW - sizes[window]))
            wanted.append(("flush", case.before[window].tobytes() + padding))
    assert told[5 : 5 + len(wanted)] == wanted
    assert told[-1] == ("invalidate", max(SMALLEST_WINDOW, sizes[Window.IO]))


def test_memory_is_given_back(cases):
    device = EmulatorDevice(TINY)
    list(self_test(lambda: device, cases))
    assert device._taken == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, ""),
        ({3: 0xFF}, "1 of 64 bytes differ, the first at 0x3: 0xff, must be 0x00"),
        ({3: 1}, "1 of 64 bytes differ, the first at 0x3: 0x01, must be 0x00"),  # once, not always
        ({3: 1, 4: 1}, "2 of 64 bytes differ, the first at 0x3: 0x01, must be 0x00"),
        (dict.fromkeys(range(3, 64, 8), 3), "8 of 64 bytes differ, the first at 0x3: 0x03"),
        (dict.fromkeys([n for n in range(64) if n % 8 in (3, 4)], 2), "16 of 64 bytes differ"),
        (dict.fromkeys(range(3, 64, 8), 2), "data bit 25 of 64 is stuck at 1: 8 of 64 bytes"),
    ],
)
def test_differences_in_a_sentence(change, told):
    found = np.zeros(64, np.uint8)
    for at, value in change.items():
        found[at] = value
    assert difference(found, np.zeros(64, np.uint8)).startswith(told)
    assert bool(difference(found, np.zeros(64, np.uint8))) == bool(change)


def test_a_bit_that_is_stuck_at_zero():
    wanted = np.full(32, 0xFF, np.uint8)
    found = wanted.copy()
    found[7::8] = 0x7F
    assert difference(found, wanted).startswith("data bit 63 of 64 is stuck at 0: 4 of 32 bytes")
