"""Memories of the emulated accelerator: DRAM windows and on-chip state.

Nothing is checked here: what runs has passed the verifier.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from transept.golden.config import ROWSTAT_BITS, Config
from transept.golden.filters import summary_bits
from transept.golden.isa import TALLIES, Instruction, Memory, Window
from transept.golden.layouts import RECORD_BYTES, table_words
from transept.golden.numerics.fixed import wrap
from transept.golden.verify import Finding, State

__all__ = ["Dram", "EmulatorError", "OnChip", "addresses"]


class EmulatorError(RuntimeError):
    """The program does what the accelerator does not allow; ``finding`` is the verifier's, if it is
    not the data that are wrong."""

    def __init__(self, text: str, finding: Finding | None = None) -> None:
        super().__init__(text)
        self.finding = finding


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
        self, window: Window, offset: int, pitch: int, rows: int, row_bytes: int
    ) -> np.ndarray:
        """A writable view uint8[rows, row_bytes], rows ``pitch`` bytes apart."""
        base, _ = self.windows[window]
        size = (rows - 1) * pitch + row_bytes
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
    vparam, table: uint8[units, tile]; selection: bool[query block, key tile]; summaries:
    int64[key summaries, tile], what the filters saw of the keys; sums: int64 of the
    accumulators that are open (MATMUL: [halves, rows, n], CONTEXT: [rows, n]), None if there are
    none; state: what the verifier knows of all that;
    tallies: int64[TALLIES], clipped elements. ``quantised`` is no state of the hardware: it spares
    the emulator the same quantisation twice. The memories start with random bits, as those of the
    hardware do, so that no program can rely on their first contents.
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
        half = 1 << (summary_bits(tile) - 1)
        self.summaries = rng.integers(-half, half, (config.key_summaries, tile))
        self.sums: np.ndarray | None = None
        self.state = State()
        self.tallies = np.zeros(TALLIES, np.int64)
        self.quantised: tuple = (None, None, None, [])  # rows, their maxima, halves, int8 values

    def forget(self) -> None:
        """What a soft reset does: nothing is open, nothing recorded."""
        self.sums, self.state = None, State()

    def memory(self, memory: Memory) -> np.ndarray:
        """The array behind a destination of LOAD."""
        return (self.act, self.stat, self.vparam, self.table)[memory]

    def tally(self, i: Instruction, clipped: np.ndarray) -> None:
        """Count the elements that an instruction clipped."""
        self.tallies[i.tally] += np.count_nonzero(clipped)

    def observe(self, i: Instruction, words: np.ndarray, stride: int) -> None:
        """Add words int8[rows, words of a row, tile] that are written to STAT to the summaries."""
        rows, count, _ = words.shape
        starts = range(-i.phase, rows, self.tile)
        for number, start in enumerate(starts):
            first = i.summary + number * stride
            entries = slice(first, first + count)
            total = words[max(0, start) : start + self.tile].sum(0, dtype=np.int64)
            if start < 0:  # the tile was begun before
                total += self.summaries[entries]
            self.summaries[entries] = wrap(total, summary_bits(self.tile))

    def act_rows(self, addr: int, stride: int, rows: int, words: int) -> np.ndarray:
        """ACT addresses int64[rows, words]."""
        return addresses(addr, (rows, stride), (words, 1))

    def read_act(self, addr: int, stride: int, rows: int, words: int) -> np.ndarray:
        """int16[rows, words * tile]."""
        return self.act[self.act_rows(addr, stride, rows, words)].reshape(rows, -1)

    def read_stat(self, addr: int, *axes: tuple[int, int]) -> np.ndarray:
        """int8[count of each axis, tile]."""
        return self.stat[addresses(addr, *axes)]

    def stat_rows(self, entry: int, rows: int) -> slice:
        """Rowstat entries of consecutive rows."""
        return slice(entry, entry + rows)

    def blocks(self, select: int, rows: int) -> slice:
        """Entries of the selection memory, one for each block of ``tile`` rows."""
        return slice(select, select + -(-rows // self.tile))

    def kept(self, select: int, rows: int, keys: int) -> np.ndarray:
        """The recorded key tiles of each row, bool[rows, key tiles of ``keys``]."""
        recorded = self.selection[self.blocks(select, rows)]
        return recorded[:, : self.key_tiles(keys)].repeat(self.tile, 0)[:rows]

    def key_tiles(self, keys: int) -> int:
        """Key tiles of a row."""
        return -(-keys // self.tile)
