"""LOAD and STORE."""

from __future__ import annotations

import numpy as np

from transept.golden.emulator.memory import Dram, EmulatorError, OnChip, addresses
from transept.golden.isa import Instruction, Memory

__all__ = ["load", "store"]


def load(chip: OnChip, dram: Dram, i: Instruction) -> int:
    """``memory[addr + m * stride + w] = DRAM[offset + m * pitch + w]``; returns the bytes read.

    A word is ``tile`` bytes in DRAM, with ``wide`` (ACT only) ``2 * tile``; offset counts bytes and
    pitch units of ``tile`` bytes whatever the element is. int8 elements are sign-extended on their
    way to ACT. STAT, VPARAM and TABLE take bytes as they are: parameters lie between weights, so
    -128 passes here, and MATMUL refuses it as an operand. With ``stats`` (ACT only)
    ``rowstat[rowstat + m]`` becomes the maximum magnitude of row m. Without rows or words nothing
    happens.

    Raises
    ------
    EmulatorError
        If the access leaves its window or the memory, or brings an int8 element of -128 to ACT.
    """
    rows, words, tile = i.rows, i.words, chip.tile
    if i.memory != Memory.ACT and (i.wide or i.stats):
        raise EmulatorError(f"wide and stats are for ACT, not {i.memory.name}")
    if not rows or not words:
        return 0
    size = tile * (1 + i.wide)
    data = dram.rows(i.window, i.offset, i.pitch * tile, rows, words * size, align=tile)
    target = chip.memory(i.memory)
    index = addresses(i.addr, (rows, i.stride), (words, 1))
    chip.check(i.memory.name, index, target)
    elements = np.ascontiguousarray(data)
    if i.memory in (Memory.ACT, Memory.STAT):
        elements = elements.view("<i2" if i.wide else np.int8)
    if i.memory == Memory.ACT and not i.wide and (elements == -128).any():
        raise EmulatorError("an int8 operand is -128")
    target[index] = elements.reshape(rows, words, tile)
    if i.stats:
        magnitude = np.abs(elements.astype(np.int64)).max(1)
        chip.rowstat[chip.stat_rows(i.rowstat, rows)] = magnitude
    return data.size


def store(chip: OnChip, dram: Dram, i: Instruction) -> int:
    """``DRAM[offset + m * pitch + w] = ACT[addr + m * stride + w]``; returns the bytes written.

    Raises
    ------
    EmulatorError
        If the access leaves its window or ACT.
    """
    rows, words = i.rows, i.words
    if not rows or not words:
        return 0
    size = chip.tile * (1 + i.wide)
    data = dram.rows(i.window, i.offset, i.pitch * chip.tile, rows, words * size, align=chip.tile)
    elements = chip.read_act(i.addr, i.stride, rows, words)
    data[:] = elements.astype("<i2" if i.wide else np.int8).view(np.uint8)
    return data.size
