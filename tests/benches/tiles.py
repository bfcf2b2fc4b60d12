"""Random passes of stationary tiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from draws import int8

from transept.golden.config import Config

__all__ = ["Pass", "random_passes"]


@dataclass
class Pass:
    """A tile descriptor and the rows that stream against it."""

    tile: dict[str, int]
    rows: np.ndarray


def random_passes(
    cfg: Config,
    rng: np.random.Generator,
    memory: np.ndarray,
    *,
    groups: int,
    lengths: list[int],
    kind: str = "random",
) -> tuple[list[Pass], np.ndarray, np.ndarray]:
    """Passes of random groups on the words of ``memory``; expected row sums and column sums."""
    passes, sums, columns = [], [], []
    for _ in range(groups):
        size, summed = rng.integers(1, 4), rng.integers(0, 2)
        column = 0
        for k in range(size):
            stride, transposed = rng.integers(1, 5), rng.integers(0, 2)
            addr = rng.integers(0, len(memory) - stride * cfg.tile)
            tile = memory[addr : addr + stride * cfg.tile : stride]
            tile = tile.T if transposed else tile
            fields = {
                "addr": addr,
                "row_stride": stride,
                "transposed": transposed,
                "first": k == 0,
                "last": k == size - 1,
                "sums": summed,
            }
            rows = int8(rng, (rng.choice(lengths), cfg.tile), kind)
            passes.append(Pass({name: int(value) for name, value in fields.items()}, rows))
            sums.append(rows @ tile)
            column = column + tile.sum(0)
        if summed:
            columns.append(column)
    return passes, np.concatenate(sums), np.array(columns)
