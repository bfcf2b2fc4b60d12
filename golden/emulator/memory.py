"""Memories of the emulated accelerator: DRAM windows and on-chip state, all accesses checked."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from transept.golden.config import Config
from transept.golden.isa import Instruction, Memory, Window
from transept.golden.layouts import RECORD_BYTES, table_words

__all__ = ["Dram", "EmulatorError", "OnChip", "addresses"]

ROWSTAT_BITS = 24


class EmulatorError(RuntimeError):
    """The program does what the accelerator does not allow."""


class Dram:
    """Windows ``{window: (base, limit)}`` into a byte array; both in bytes.

    Raises
    ------
    ValueError
        If the array is not one-dimensional uint8, or a window does not fit into it.
    """

    def __init__(self, data: np.ndarray, windows: Mapping[Window, tuple[int, int]]) -> None:
        if data.dtype != np.uint8 or data.ndim != 1:
            raise ValueError(f"DRAM must be uint8[n], got {data.dtype}{list(data.shape)}")
        for window, (base, limit) in windows.items():
            if base < 0 or limit < 0 or base + limit > len(data):
                raise ValueError(
                    f"window {Window(window).name}: base {base} + limit {limit} exceeds "
                    f"{len(data)} bytes of DRAM"
                )
        self.data = data
        self.windows = dict(windows)

    def rows(
        self, window: Window, offset: int, pitch: int, rows: int, row_bytes: int, align: int = 1
    ) -> np.ndarray:
        """A writable view uint8[rows, row_bytes], rows ``pitch`` bytes apart.

        Raises
        ------
        EmulatorError
            If the offset is no multiple of ``align``, or a row ends beyond the window's limit.
        """
        name = Window(window).name
        if offset % align:
            raise EmulatorError(f"window {name}: offset {offset} is no multiple of {align}")
        if window not in self.windows:
            raise EmulatorError(f"window {name} is not set")
        base, limit = self.windows[window]
        size = (rows - 1) * pitch + row_bytes
        if offset + size > limit:
            raise EmulatorError(
                f"window {name}: offset {offset} + {size} bytes exceeds its limit {limit}"
            )
        span = self.data[base + offset : base + offset + size]
        return np.lib.stride_tricks.as_strided(span, (rows, row_bytes), (pitch, 1))


def addresses(start: int, *axes: tuple[int, int]) -> np.ndarray:
    """``start + sum of i * stride`` for axes (count, stride): int64[count of each axis]."""
    index = np.array(start)
    for count, stride in axes:
        index = index[..., None] + np.arange(count) * stride
    return index


class OnChip:
    """Everything that an instruction can leave for the next one.

    act: int16[words, tile]; stat: int8[words, tile]; rowstat: int64[entries], signed 24-bit values;
    vparam, table: uint8[units, tile]; selection: bool[query block, key tile]; accumulators:
    int64[rows, tile] of the open group, None if there is none. ``quantised`` is no state of the
    hardware: it spares the emulator the same quantisation twice. The memories start with random
    bits, as those of the hardware do, so that no program can rely on their first contents.
    """

    def __init__(self, config: Config, seed: int) -> None:
        rng = np.random.default_rng(seed)
        tile = config.tile
        self.config = config
        self.tile = tile
        self.act = rng.integers(-(1 << 15), 1 << 15, (config.act_words, tile), np.int16)
        self.stat = rng.integers(-128, 128, (config.memories.stat_words, tile), np.int8)
        half = 1 << (ROWSTAT_BITS - 1)
        self.rowstat = rng.integers(-half, half, config.memories.rowstat_entries)
        units = config.geometry.max_hidden * RECORD_BYTES // tile
        self.vparam = rng.integers(0, 256, (units, tile), np.uint8)
        self.table = rng.integers(0, 256, (table_words(tile), tile), np.uint8)
        self.selection = rng.integers(0, 2, (config.query_blocks, config.key_tiles)) > 0
        self.accumulators: np.ndarray | None = None
        self.quantised: tuple = (None, None, None)  # rows, their maxima, int8 values

    def memory(self, memory: Memory) -> np.ndarray:
        """The array behind a destination of LOAD."""
        return (self.act, self.stat, self.vparam, self.table)[memory]

    def check(self, name: str, index: np.ndarray, array: np.ndarray) -> np.ndarray:
        """Return ``index``; EmulatorError if an address is not in ``array``."""
        last = int(index.max())
        if last >= len(array):
            raise EmulatorError(f"{name} address {last} is beyond the last one, {len(array) - 1}")
        return index

    def act_rows(self, addr: int, stride: int, rows: int, words: int) -> np.ndarray:
        """Checked ACT addresses int64[rows, words].

        Raises
        ------
        EmulatorError
            If an address is beyond ACT, or ``words`` is 0.
        """
        if not words:
            raise EmulatorError("a row has no words")
        return self.check("ACT", addresses(addr, (rows, stride), (words, 1)), self.act)

    def read_act(self, addr: int, stride: int, rows: int, words: int) -> np.ndarray:
        """int16[rows, words * tile]."""
        return self.act[self.act_rows(addr, stride, rows, words)].reshape(rows, -1)

    def read_stat(self, addr: int, *axes: tuple[int, int]) -> np.ndarray:
        """int8[count of each axis, tile]."""
        return self.stat[self.check("STAT", addresses(addr, *axes), self.stat)]

    def stat_rows(self, entry: int, rows: int) -> slice:
        """Checked rowstat entries of consecutive rows."""
        self.check("rowstat", np.array(entry + rows - 1), self.rowstat)
        return slice(entry, entry + rows)

    def blocks(self, select: int, rows: int) -> slice:
        """Checked entries of the selection memory, one for each block of ``tile`` rows."""
        count = -(-rows // self.tile)
        self.check("selection", np.array(select + count - 1), self.selection)
        return slice(select, select + count)

    def kept(self, select: int, rows: int, keys: int) -> np.ndarray:
        """The recorded key tiles of each row, bool[rows, key tiles of ``keys``].

        Raises
        ------
        EmulatorError
            If a block keeps no tile, or one beyond ``keys``.
        """
        tiles = self.key_tiles(keys)
        recorded = self.selection[self.blocks(select, rows)]
        if recorded[:, tiles:].any() or not recorded.any(1).all():
            raise EmulatorError(
                f"selection entries from {select} hold no tiles of {keys} keys: "
                "no SCORES recorded them"
            )
        return recorded[:, :tiles].repeat(self.tile, 0)[:rows]

    def key_tiles(self, keys: int) -> int:
        """Key tiles of a row; EmulatorError if there are more than the configuration allows."""
        if keys > self.config.geometry.max_keys:
            raise EmulatorError(f"keys={keys} exceeds max_keys={self.config.geometry.max_keys}")
        return -(-keys // self.tile)

    def rows(self, instruction: Instruction) -> int:
        """Operand ``rows`` (minus one); EmulatorError if there are more than max_rows."""
        rows = instruction.rows + 1
        if rows > self.config.geometry.max_rows:
            raise EmulatorError(f"rows={rows} exceeds max_rows={self.config.geometry.max_rows}")
        return rows
