"""The weight image of a graph: every constant once, in the form that LOAD brings on chip.

The image depends on graph and configuration alone, not on how the work is cut, so that the programs
of all shapes share one. A column of a linear layer (one n tile) is contiguous: its k tiles, then
its channel parameters; a LOAD may bring any run of its tiles.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from transept.golden import layouts
from transept.golden.config import Config
from transept.golden.graph import Graph
from transept.golden.layouts import RECORD_BYTES, packed_words
from transept.golden.numerics.four_bit import GROUP, FourBitWeights
from transept.golden.numerics.requantise import ChannelParameters
from transept.golden.ops import Add, Attention, Linear, Norm
from transept.host.compiler.layout import Layouts, Segments

__all__ = ["Block", "ColumnTile", "WeightImage", "block_tiles", "column_words"]

#: Blocks of weights that fit the ring at least.
BLOCKS = 4
#: Tiles of a block at most; for less than two tiles of rows, which are soon done with a block, so
#: that instructions are not too many; but not at the beginning and the end of a program, where
#: nothing else is done while a block arrives.
LARGEST_BLOCK, FEW_ROWS_BLOCK = 24, 48
#: Every column and block starts at a multiple of this: bursts of DRAM like it.
ALIGN = 64


def block_tiles(ring_words: int, tile: int, rows: int, *, fine: bool) -> int:
    """Tiles of one weight block at most, for products of so many rows: it is one LOAD, and at least
    four fit the ring. fine: at the beginning or the end of a program."""
    largest = FEW_ROWS_BLOCK if rows < 2 * tile and not fine else LARGEST_BLOCK
    return max(1, min(largest, (ring_words // BLOCKS - RECORD_BYTES) // tile))


def column_words(k_tiles: int, tile: int) -> int:
    """Stationary words of a column, its channel parameters included."""
    return k_tiles * tile + RECORD_BYTES


class Block(NamedTuple):
    """Consecutive words of window WEIGHTS, from byte ``offset``; ``words``: on chip, of which with
    ``packed`` all whole blocks of 32 are four-bit weights."""

    offset: int
    words: int
    packed: bool = False

    @property
    def stored(self) -> int:
        """Words in DRAM."""
        return int(packed_words(self.words)) if self.packed else self.words


@dataclass(frozen=True)
class ColumnTile:
    """One n tile of a linear layer: ``k_tiles`` tiles from byte ``offset``, then its parameters;
    ``packed``: of four-bit weights, whose words are outputs."""

    offset: int
    k_tiles: int
    tile: int
    packed: bool = False

    def blocks(self, largest: int) -> list[tuple[int, int, Block]]:
        """(first k tile, k tiles, words) of the fewest nearly equal blocks of at most ``largest``
        tiles (if packed, of whole groups of inputs); the last one ends with the channel parameters.
        """
        step = GROUP // self.tile if self.packed else 1
        pieces = self.k_tiles // step
        parts = -(-pieces // max(1, largest // step))
        starts = [index * pieces // parts * step for index in range(parts + 1)]
        return [
            (start, stop - start, self.block(start, stop))
            for start, stop in itertools.pairwise(starts)
        ]

    def block(self, start: int, stop: int) -> Block:
        """The tiles from ``start`` to ``stop``, parameters included if they are the last ones."""
        words = (stop - start) * self.tile + (RECORD_BYTES if stop == self.k_tiles else 0)
        before = Block(0, start * self.tile, self.packed).stored * self.tile
        return Block(self.offset + before, words, self.packed)

    @property
    def words(self) -> int:
        """All words of the column."""
        return column_words(self.k_tiles, self.tile)


class WeightImage:
    """Constants of every operator of a graph: ``columns``, ``blocks`` and ``tables`` by its name.

    What has the same bytes has the same place: weights that operators share are there once.

    columns: {linear: n tiles}; blocks: channel parameters of a context, or parameters of a norm or
    sum; tables: activation tables of linear layers.
    """

    def __init__(self, graph: Graph, config: Config) -> None:
        self._tile, self._unpacks = config.tile, config.blocks.packed
        self._parts: list[np.ndarray] = []
        self._size = 0
        self._offsets: dict[bytes, int] = {}  # by the digest of what lies there
        self.columns: dict[str, list[ColumnTile]] = {}
        self.blocks: dict[str, Block] = {}
        self.tables: dict[str, Block] = {}
        layouts_of = Layouts(graph, config)
        for op in graph.ops:
            if isinstance(op, Linear):
                self._linear(op, layouts_of[op.x], layouts_of[op.y])
            elif isinstance(op, Attention):
                self._context(op, layouts_of[op.out])
            elif isinstance(op, Norm | Add):
                packed = layouts.pack_norm_parameters(op.parameters, self._tile)
                self.blocks[op.name] = self._block(packed)

    @property
    def column_words(self) -> int:
        """Stationary words of all linear layers, those that share their place counted once."""
        columns = {column for columns in self.columns.values() for column in columns}
        return sum(column.words for column in columns)

    @property
    def k_tiles(self) -> int:
        """Tiles along k of the longest column."""
        return max((c.k_tiles for some in self.columns.values() for c in some), default=0)

    def image(self) -> np.ndarray:
        """uint8[:], the whole window."""
        return np.concatenate(self._parts) if self._parts else np.zeros(ALIGN, np.uint8)

    def _append(self, data: np.ndarray) -> int:
        """Where the bytes lie; at the end if they were nowhere yet."""
        digest = hashlib.blake2b(data.tobytes(), digest_size=32).digest()
        if digest not in self._offsets:
            self._offsets[digest] = self._size
            padded = np.zeros(-(-data.size // ALIGN) * ALIGN, np.uint8)
            padded[: data.size] = data
            self._parts.append(padded)
            self._size += padded.size
        return self._offsets[digest]

    def _linear(self, op: Linear, x: Segments, y: Segments) -> None:
        channel = _pad_channel(op.channel, y)
        if op.packed is not None and self._unpacks and not x.gaps:
            packed, k_tiles = _pad_outputs(op.packed, y), x.total
            tiles = layouts.pack_four_bit(packed, self._tile)
        else:
            packed, weight = None, x.pad(y.pad(op.weight, 0), 1)
            tiles = layouts.pack_weights(np.ascontiguousarray(weight.T), self._tile)
            k_tiles = -(-weight.shape[1] // self._tile)
        self.columns[op.name] = self._columns(tiles, channel, k_tiles, packed is not None)
        if op.table is not None:
            self.tables[op.name] = self._block(layouts.pack_table(op.table, self._tile))

    def _columns(
        self, tiles: np.ndarray, channel: ChannelParameters, k_tiles: int, packed: bool
    ) -> list[ColumnTile]:
        tile, n_tiles = self._tile, -(-len(channel.multiplier) // self._tile)
        parameters = layouts.pack_channel_parameters(channel, tile)
        columns = np.concatenate(
            [tiles.reshape(n_tiles, -1), parameters.reshape(n_tiles, -1)], axis=1
        )
        return [ColumnTile(self._append(column), k_tiles, tile, packed) for column in columns]

    def _context(self, op: Attention, out: Segments) -> None:
        channel = _pad_channel(op.context, out)
        packed = layouts.pack_channel_parameters(channel, self._tile)
        self.blocks[op.name] = self._block(packed)

    def _block(self, data: np.ndarray) -> Block:
        return Block(self._append(data), data.size // self._tile)


def _pad_outputs(weights: FourBitWeights, segments: Segments) -> FourBitWeights:
    """Zeros for the outputs that only fill their words."""
    parts = (weights.codes, weights.scale, weights.minimum)
    return FourBitWeights(*(segments.pad(part, 0) for part in parts))


def _pad_channel(channel: ChannelParameters, segments: Segments) -> ChannelParameters:
    parts: Sequence[np.ndarray] = (channel.multiplier, channel.shift, channel.bias)
    return ChannelParameters(*(segments.pad(part, 0) for part in parts))
