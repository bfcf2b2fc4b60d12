"""LOAD and STORE."""

from __future__ import annotations

import numpy as np

from transept.golden.emulator.memory import Dram, EmulatorError, OnChip, addresses
from transept.golden.isa import Instruction, Memory
from transept.golden.layouts import BLOCK_WORDS, PACKED_BLOCK, packed_words, unpack_four_bit

__all__ = ["load", "store"]


def load(chip: OnChip, dram: Dram, i: Instruction) -> int:
    """``memory[addr + m * stride + w] = DRAM[offset + m * pitch + w]``; returns the bytes read.

    A word is ``tile`` bytes in DRAM, with ``wide`` (ACT only) ``2 * tile``; offset counts bytes and
    pitch units of ``tile`` bytes whatever the element is. int8 elements are sign-extended on their
    way to ACT. STAT, VPARAM and TABLE take bytes as they are: parameters lie between weights, so
    -128 passes here, and MATMUL refuses it as an operand. With ``packed`` (STAT only) every 32
    words of a row are a block of four-bit weights in DRAM (``layouts.unpack_four_bit``), and what
    is left of the row is as it is. With ``stats`` (ACT only)
    ``rowstat[rowstat + m]`` becomes the maximum magnitude of row m. With ``observe`` (STAT only)
    word w of row m is added to key summary ``summary + w + (phase + m) // tile * stride``.

    Raises
    ------
    EmulatorError
        If it brings an int8 element of -128 to ACT.
    """
    rows, words, tile = i.rows, i.words, chip.tile
    size = tile * (packed_words(words) if i.packed else words << i.wide)
    data = dram.rows(i.window, i.offset, i.pitch * tile, rows, size)
    target = chip.memory(i.memory)
    index = addresses(i.addr, (rows, i.stride), (words, 1))
    elements = np.ascontiguousarray(data)
    if i.packed:
        elements = _unpacked(elements, words, tile)
    if i.memory in (Memory.ACT, Memory.STAT):
        elements = elements.view("<i2" if i.wide else np.int8)
    if i.memory == Memory.ACT and not i.wide and (elements == -128).any():
        raise EmulatorError("an int8 operand is -128")
    target[index] = elements.reshape(rows, words, tile)
    if i.stats:
        magnitude = np.abs(elements.astype(np.int64)).max(1)
        chip.rowstat[i.rowstat : i.rowstat + rows] = magnitude
    if i.observe:
        chip.observe(i, elements.reshape(rows, words, tile), i.stride)
    return data.size


def _unpacked(rows: np.ndarray, words: int, tile: int) -> np.ndarray:
    """Rows of packed blocks and of what is left, as bytes of STAT."""
    blocks = words // BLOCK_WORDS
    behind = blocks * PACKED_BLOCK * tile
    weights = unpack_four_bit(rows[:, :behind], tile).view(np.uint8)
    unpacked = weights.reshape(len(rows), blocks * BLOCK_WORDS * tile)
    return np.concatenate([unpacked, rows[:, behind:]], axis=1)


def store(chip: OnChip, dram: Dram, i: Instruction) -> int:
    """``DRAM[offset + m * pitch + w] = memory[addr + m * stride + w]``; returns the bytes written.

    A word of STAT is ``tile`` bytes, a word of ACT the low byte of each element or, with ``wide``,
    all of it. Rows are written in their order, so that of those that overlap the last one stays.
    """
    rows, words = i.rows, i.words
    size = chip.tile * (1 + i.wide)
    data = dram.rows(i.window, i.offset, i.pitch * chip.tile, rows, words * size)
    index = addresses(i.addr, (rows, i.stride), (words, 1))
    elements = chip.memory(i.memory)[index].reshape(rows, -1)
    written = elements.astype("<i2" if i.wide else np.int8).view(np.uint8)
    if i.pitch * chip.tile >= words * size:
        data[:] = written
    else:  # NumPy keeps no order among elements that share their memory
        for target, row in zip(data, written, strict=True):
            target[:] = row
    return data.size
