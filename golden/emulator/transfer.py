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
    ``rowstat[rowstat + m]`` becomes the maximum magnitude of row m. With ``observe`` (STAT only)
    word w of row m is added to key summary ``summary + w + (phase + m) // tile * stride``. Without
    rows or words nothing happens.

    Raises
    ------
    EmulatorError
        If the access leaves its window or the memory, brings an int8 element of -128 to ACT,
        observed rows overlap, or the memory or the observation needs a block that is not built.
    """
    rows, words, tile = i.rows, i.words, chip.tile
    if i.memory != Memory.ACT and (i.wide or i.stats):
        raise EmulatorError(f"wide and stats are for ACT, not {i.memory.name}")
    if i.memory != Memory.STAT and i.observe:
        raise EmulatorError(f"observe is for STAT, not {i.memory.name}")
    blocks = chip.config.blocks
    if i.memory == Memory.VPARAM:
        chip.need("block 'norm'", blocks.norm, "VPARAM")
    if i.memory == Memory.TABLE:
        chip.need("block 'activation'", blocks.activation, "TABLE")
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
    if i.observe:
        chip.apart("stride", i.stride, words, rows)
        chip.observe(i, elements.reshape(rows, words, tile), i.stride)
    return data.size


def store(chip: OnChip, dram: Dram, i: Instruction) -> int:
    """``DRAM[offset + m * pitch + w] = memory[addr + m * stride + w]``; returns the bytes written.

    A word of STAT is ``tile`` bytes, a word of ACT the low byte of each element or, with ``wide``,
    all of it.

    Raises
    ------
    EmulatorError
        If the access leaves its window or the memory, or the memory is neither ACT nor STAT.
    """
    rows, words = i.rows, i.words
    if i.memory not in (Memory.ACT, Memory.STAT):
        raise EmulatorError(f"{i.memory.name} cannot be stored, ACT and STAT can")
    if i.memory != Memory.ACT and i.wide:
        raise EmulatorError(f"wide is for ACT, not {i.memory.name}")
    if not rows or not words:
        return 0
    size = chip.tile * (1 + i.wide)
    data = dram.rows(i.window, i.offset, i.pitch * chip.tile, rows, words * size, align=chip.tile)
    source = chip.memory(i.memory)
    index = addresses(i.addr, (rows, i.stride), (words, 1))
    elements = source[chip.check(i.memory.name, index, source)].reshape(rows, -1)
    data[:] = elements.astype("<i2" if i.wide else np.int8).view(np.uint8)
    return data.size
