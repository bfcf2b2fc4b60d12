"""Executables are checked before they start: what they may do, and that they do all of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from transept.golden import isa
from transept.golden.graph import Lengths
from transept.golden.isa import INSTRUCTION_BYTES, Opcode, Window
from transept.golden.verify import verify
from transept.host.compiler.cut import Shape
from transept.host.compiler.executable import Executable
from transept.host.runtime.errors import ProgramError
from transept.host.runtime.region import Region

__all__ = ["check_executable"]

_WITH_KEYS = (Opcode.SCORES, Opcode.SOFTMAX, Opcode.CONTEXT)


def check_executable(region: Region, executable: Executable) -> None:
    """Look whether a device may run an executable, and whether it computes every output.

    Raises
    ------
    ProgramError
        If an instruction is not legal or reaches beyond its window, something follows END, keys do
        not follow the lengths of sequences, or some row of an output is never written.
    """
    try:
        _check(region, executable)
    except ValueError as error:
        raise ProgramError(f"{region.name} of {executable.shape} rows: {error}") from None


def _check(region: Region, executable: Executable) -> None:
    windows = {
        Window.PROGRAM: len(executable.instructions),
        Window.WEIGHTS: region.weights.size,
        Window.IO: executable.io_bytes,
        Window.SCRATCH: executable.scratch_bytes,
    }
    whole, short, mixed = (executable.linked(lengths) for lengths in _probes(executable.shape))
    for program in (whole, short, mixed):
        for finding in verify(program, region.config, windows):
            raise ValueError(finding)
    opcodes = whole[::INSTRUCTION_BYTES]
    if (end := opcodes.index(Opcode.END)) + 1 < len(opcodes):
        raise ValueError(f"END is instruction {end} of {len(opcodes)}")
    if whole != executable.instructions:
        raise ValueError("its patches change instructions where every row is real")
    _check_keys(short)
    _check_outputs(region, executable)


def _probes(shape: Shape) -> Iterator[Lengths]:
    """All rows of every sequence, one row, and other lengths for neighbours.

    What is patched into instructions grows with a length, so that those in between are as legal;
    instructions that should have the length of one sequence but have that of another are not.
    """
    sequences = range(shape.batch)
    lengths = shape.lengths.items()
    yield {dim: [length for _ in sequences] for dim, length in lengths}
    yield {dim: [1 for _ in sequences] for dim, _ in lengths}
    yield {dim: [length - index % length for index in sequences] for dim, length in lengths}


def _check_keys(program: bytes) -> None:
    """Sequences of one row have one key."""
    for at in range(0, len(program), INSTRUCTION_BYTES):
        if program[at] in _WITH_KEYS:
            instruction = isa.decode(program[at : at + INSTRUCTION_BYTES])
            if instruction.keys:
                raise ValueError(
                    f"instruction {at // INSTRUCTION_BYTES} ({instruction.opcode.name}) "
                    f"has {instruction.keys + 1} keys for sequences of one row"
                )


def _check_outputs(region: Region, executable: Executable) -> None:
    written = _written(executable, region.config.tile)
    for name in region.graph.outputs:
        tensor = executable.tensors[name]
        first, end = (
            n // region.config.tile for n in (tensor.offset, tensor.offset + tensor.nbytes)
        )
        missing = ~written[first:end].reshape(tensor.rows, -1).all(1)
        if missing.any():
            row = int(missing.argmax())
            raise ValueError(f"no instruction writes all of row {row} of {name}")


def _written(executable: Executable, tile: int) -> np.ndarray:
    """Which words of ``tile`` bytes of window IO some STORE writes."""
    written = np.zeros(-(-executable.io_bytes // tile), bool)
    for at in range(0, len(executable.instructions), INSTRUCTION_BYTES):
        if executable.instructions[at] != Opcode.STORE:
            continue
        store = isa.decode(executable.instructions[at : at + INSTRUCTION_BYTES])
        if store.window != Window.IO:
            continue
        words, first = store.words << store.wide, store.offset // tile
        touched = written[first : first + (store.rows - 1) * store.pitch + words]
        if store.pitch > words:
            strides = (store.pitch, 1)
            touched = np.lib.stride_tricks.as_strided(touched, (store.rows, words), strides)
        touched[...] = True
    return written
