"""The weight image: blocks of stationary tiles and channel parameters, in the order they stream."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from transept.golden import layouts
from transept.golden.config import Config
from transept.golden.numerics.norm import NormParameters
from transept.golden.numerics.requantise import ActivationTable, ChannelParameters

__all__ = ["Block", "ColumnTile", "WeightImage"]


@dataclass(frozen=True)
class Block:
    """Words of window WEIGHTS: ``k_tiles`` stationary tiles from tile ``k_start``; the last block
    of a column ends with 8 words of channel parameters."""

    offset: int
    words: int
    k_start: int
    k_tiles: int


@dataclass(frozen=True)
class ColumnTile:
    """One n tile of a linear layer: its blocks along k."""

    blocks: tuple[Block, ...]
    k_tiles: int


class WeightImage:
    """Grows one image for window WEIGHTS; every block starts at a multiple of 64 bytes."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._parts: list[np.ndarray] = []
        self._size = 0

    def _append(self, data: np.ndarray) -> int:
        offset = self._size
        padded = np.zeros(-(-data.size // 64) * 64, np.uint8)
        padded[: data.size] = data
        self._parts.append(padded)
        self._size += padded.size
        return offset

    def linear(
        self, weight: np.ndarray, channel: ChannelParameters, chunk_tiles: int
    ) -> list[ColumnTile]:
        """Blocks of at most chunk_tiles tiles for ``x . weight^T``; weight: int8[n, k]."""
        tile = self._config.tile
        n, k = weight.shape
        packed = layouts.pack_weights(np.ascontiguousarray(weight.T), tile)
        parameters = layouts.pack_channel_parameters(channel, tile)
        n_tiles, k_tiles = -(-n // tile), -(-k // tile)
        tiles = packed.reshape(n_tiles, k_tiles, tile * tile)
        parameters = parameters.reshape(n_tiles, layouts.RECORD_BYTES * tile)
        starts = _even_cuts(k_tiles, chunk_tiles)
        return [
            ColumnTile(tuple(self._blocks(tiles[j], parameters[j], starts)), k_tiles)
            for j in range(n_tiles)
        ]

    def _blocks(self, tiles: np.ndarray, parameters: np.ndarray, starts: list[int]) -> list[Block]:
        tile = self._config.tile
        blocks = []
        for start, stop in zip(starts, [*starts[1:], len(tiles)], strict=True):
            data = tiles[start:stop].reshape(-1)
            if stop == len(tiles):
                data = np.concatenate([data, parameters])
            blocks.append(Block(self._append(data), data.size // tile, start, stop - start))
        return blocks

    def parameters(self, channel: ChannelParameters) -> Block:
        """Channel parameters alone, 8 words for each n tile (CONTEXT)."""
        data = layouts.pack_channel_parameters(channel, self._config.tile)
        return Block(self._append(data), data.size // self._config.tile, 0, 0)

    def norm(self, parameters: NormParameters) -> Block:
        """LayerNorm parameters, 8 words for each tile of channels."""
        data = layouts.pack_norm_parameters(parameters, self._config.tile)
        return Block(self._append(data), data.size // self._config.tile, 0, 0)

    def table(self, table: ActivationTable) -> Block:
        """An activation table."""
        data = layouts.pack_table(table, self._config.tile)
        return Block(self._append(data), data.size // self._config.tile, 0, 0)

    def zeros(self, words: int) -> Block:
        """Zero words."""
        return Block(self._append(np.zeros(words * self._config.tile, np.uint8)), words, 0, 0)

    def raw(self, data: np.ndarray) -> int:
        """Offset of bytes appended as they are."""
        return self._append(data)

    def image(self) -> np.ndarray:
        """uint8[:], the whole window."""
        return np.concatenate(self._parts) if self._parts else np.zeros(64, np.uint8)


def _even_cuts(total: int, largest: int) -> list[int]:
    """Starts of the fewest nearly equal parts of at most ``largest``."""
    parts = -(-total // largest)
    return [index * total // parts for index in range(parts)]
