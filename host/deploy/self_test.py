"""Whether a device is what it should be: identification, memory, and cases bit by bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from transept.golden.isa import Window
from transept.host.deploy.cases import Case, patterns
from transept.host.devices.base import Device, DeviceError
from transept.host.runtime.driver import SMALLEST_WINDOW, Driver

__all__ = ["Finding", "difference", "self_test"]

#: Bytes in which memory is tested from the host.
TESTED_BYTES = 1 << 16
#: Bytes of memory that travel together.
BUS_BYTES = 8


@dataclass(frozen=True)
class Finding:
    """One step; error: what is wrong, empty if nothing is; cycles: that the device took."""

    step: str
    error: str = ""
    cycles: int = 0


def self_test(open_device: Callable[[], Device], cases: Sequence[Case]) -> Iterator[Finding]:
    """Every step, as it ends. The first that fails is the last: the others build on it."""
    try:
        device = open_device()
        driver = Driver(device)
    except (DeviceError, ValueError) as error:
        yield Finding("identification", str(error))
        return
    yield Finding("identification")
    steps: list[tuple[str, Callable[[], tuple[str, int]]]] = [
        ("memory, by the host", lambda: (_memory(device), 0)),
        *((case.name, lambda case=case: _run(driver, case)) for case in cases),
    ]
    for name, step in steps:
        try:
            wrong, cycles = step()
        except DeviceError as error:
            wrong, cycles = str(error), 0
        yield Finding(name, wrong, cycles)
        if wrong:
            return


def _memory(device: Device) -> str:
    """Write patterns and read them back."""
    buffer = device.allocate(TESTED_BYTES)
    wanted = patterns(TESTED_BYTES)
    try:
        for data in (wanted, ~wanted):
            buffer.array[:] = data
            device.flush(buffer)
            device.invalidate(buffer)
            if error := difference(buffer.array, data):
                return error
    finally:
        device.release(buffer)
    return ""


def _run(driver: Driver, case: Case) -> tuple[str, int]:
    device = driver.device
    sizes = {window: contents.size for window, contents in case.before.items()}
    sizes[Window.SCRATCH] = case.scratch
    windows = {}
    try:
        for window in Window:
            size = max(sizes.get(window, 0), SMALLEST_WINDOW)
            windows[window] = device.allocate(size)
            if window in case.before:
                windows[window].array[: sizes[window]] = case.before[window]
                device.flush(windows[window])
        report = driver.execute(windows, {})
        found = windows[Window.IO]
        device.invalidate(found)
        return difference(found.array[: case.after.size], case.after), report.cycles
    finally:
        for buffer in windows.values():
            device.release(buffer)


def difference(found: np.ndarray, wanted: np.ndarray) -> str:
    """Where two arrays of bytes differ, in one sentence; empty if they do not."""
    wrong = np.flatnonzero(found != wanted)
    if not wrong.size:
        return ""
    first = int(wrong[0])
    told = (
        f"{wrong.size:,} of {wanted.size:,} bytes differ, the first at {first:#x}: "
        f"{int(found[first]):#04x}, must be {int(wanted[first]):#04x}"
    )
    stuck = _stuck(found, wanted, wrong)
    return f"{stuck}: {told}" if stuck else told


def _stuck(found: np.ndarray, wanted: np.ndarray, wrong: np.ndarray) -> str:
    """The one bit of every word that is always the same, if that explains every difference."""
    bits = np.bitwise_or.reduce(found[wrong] ^ wanted[wrong])
    lanes = np.unique(wrong % BUS_BYTES)
    if lanes.size > 1 or int(bits).bit_count() > 1:
        return ""
    lane, bit = int(lanes[0]), int(bits).bit_length() - 1
    seen = np.unique(found[lane::BUS_BYTES] >> bit & 1)
    if seen.size > 1:
        return ""
    return f"data bit {8 * lane + bit} of {8 * BUS_BYTES} is stuck at {int(seen[0])}"
