"""What a device must compute to be believed: contents of its windows before, and after.

Cases are made where the emulator is, and checked where nothing but NumPy is.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from transept.golden import isa
from transept.golden.config import Config
from transept.golden.graph import Lengths
from transept.golden.isa import Engine, Memory, Opcode, Window
from transept.host.compiler.executable import Executable
from transept.host.compiler.hazards import Assembly
from transept.host.compiler.hazards import Region as Place
from transept.host.devices.emulator import EmulatorDevice
from transept.host.runtime.driver import Driver
from transept.host.runtime.region import Region

__all__ = ["Case", "copy_case", "load_cases", "patterns", "region_case", "save_cases"]

#: Words that are copied through the accelerator.
COPIED_WORDS = 512


@dataclass(frozen=True, eq=False)
class Case:
    """One program with its data.

    before: uint8 contents of the windows that the host fills; after: of IO; scratch: bytes of
    SCRATCH.
    """

    name: str
    before: Mapping[Window, np.ndarray]
    after: np.ndarray
    scratch: int


def patterns(nbytes: int) -> np.ndarray:
    """uint8[nbytes] in which each bit of each 64-bit word is 1 once among zeros, 0 once among ones,
    and which has no word twice where it counts on from there."""
    ones = np.uint64(1) << np.arange(64, dtype=np.uint64)
    words = np.concatenate([ones, ~ones])
    count = -(-nbytes // 8)
    counted = np.arange(count, dtype=np.uint64) * np.uint64(0x9E37_79B9_7F4A_7C15)
    return np.concatenate([words, counted])[:count].view(np.uint8)[:nbytes]


def copy_case(config: Config) -> Case:
    """Patterns from memory to the stationary scratchpad and back to another place."""
    tile = config.tile
    words = min(COPIED_WORDS, config.memories.stat_words)
    nbytes = words * tile
    assembly = Assembly()
    chip = Place("stat", 0, words)
    common = {"window": Window.IO, "pitch": 0, "rows": 1, "words": words, "wide": 0}
    common |= {"memory": Memory.STAT, "addr": 0, "stride": 0}
    plain = dict.fromkeys(("stats", "rowstat", "observe", "phase", "summary", "packed"), 0)
    load, store = common | plain | {"offset": 0}, common | {"offset": nbytes}
    assembly.emit(Engine.LOAD, Opcode.LOAD, "copy", load, writes=[chip])
    assembly.emit(Engine.STORE, Opcode.STORE, "copy", store, reads=[chip])
    program = np.frombuffer(isa.encode_program(assembly.program()), np.uint8)
    data = patterns(nbytes)
    return Case(
        "memory, by the accelerator",
        {Window.PROGRAM: program, Window.IO: np.concatenate([data, 0 * data])},
        np.concatenate([data, data]),
        0,
    )


def region_case(
    name: str,
    region: Region,
    executable: Executable,
    inputs: Mapping[str, np.ndarray],
    lengths: Lengths | None = None,
) -> Case:
    """One run of a region, with what the emulator makes of it.

    Raises
    ------
    ProgramError, DeviceError
        As ``Driver.run``.
    """
    emulator = EmulatorDevice(region.config)
    driver = Driver(emulator)
    loaded = driver.load(region)
    driver.place(loaded, executable, inputs, lengths)
    filled = (Window.PROGRAM, Window.WEIGHTS, Window.IO)
    before = {window: loaded.windows[window].array.copy() for window in filled}
    driver.execute(loaded.windows, executable.tallies)
    after = loaded.windows[Window.IO].array.copy()
    return Case(name, before, after, loaded.windows[Window.SCRATCH].nbytes)


def save_cases(cases: Sequence[Case]) -> bytes:
    """All cases as an ``.npz`` file."""
    arrays: dict[str, np.ndarray] = {}
    for number, case in enumerate(cases):
        arrays |= {f"{number}.{w.name}": contents for w, contents in case.before.items()}
        arrays[f"{number}.after"] = case.after
        arrays[f"{number}.name"] = np.frombuffer(case.name.encode(), np.uint8)
        arrays[f"{number}.scratch"] = np.array(case.scratch)
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def load_cases(data: bytes) -> list[Case]:
    """The cases of a file."""
    cases: list[Case] = []
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        for number in itertools.count():
            if f"{number}.name" not in arrays:
                return cases
            windows = [w for w in Window if f"{number}.{w.name}" in arrays]
            cases.append(
                Case(
                    arrays[f"{number}.name"].tobytes().decode(),
                    {window: arrays[f"{number}.{window.name}"] for window in windows},
                    arrays[f"{number}.after"],
                    int(arrays[f"{number}.scratch"]),
                )
            )
    raise AssertionError("numbers do not end")
