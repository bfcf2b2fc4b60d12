"""Random passes of stationary tiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from draws import int8

from transept.golden.config import Config

__all__ = ["Pass", "finished_slots", "random_passes"]


@dataclass
class Pass:
    """A tile descriptor and the rows that stream against it."""

    tile: dict[str, int]
    rows: np.ndarray


def finished_slots(passes: list[Pass]) -> list[int]:
    """Slots whose column sums are complete, in order."""
    complete = ("ends", "finishes", "sums")
    return [p.tile["slot"] for p in passes if all(p.tile[name] for name in complete)]


def random_passes(
    cfg: Config,
    rng: np.random.Generator,
    memory: np.ndarray,
    *,
    groups: int,
    lengths: list[int],
    kind: str = "random",
    aside: bool = True,
    sums: bool | None = None,
) -> tuple[list[Pass], np.ndarray, np.ndarray]:
    """Passes of at least ``groups`` groups on the words of ``memory``; expected row sums and column
    sums. With ``aside`` some groups are open side by side and get their tiles in several turns.
    ``sums``: whether column sums are made, of some groups if not told."""
    slots, opened = 2 * cfg.geometry.acc_slots, 0
    passes, products, columns = [], [], []
    while opened < groups:
        summed = rng.integers(0, 2) if sums is None else sums
        width = int(rng.choice([1, 1, 2, rng.integers(1, slots + 1)])) if aside else 1
        turns = int(rng.choice([1, 1, 2, 3])) if aside else 1
        totals = np.zeros((width, cfg.tile), np.int64)
        for turn in range(turns):
            for group in range(width):
                size = rng.integers(1, 4)
                for k in range(size):
                    fields, tile = _random_tile(cfg, rng, memory)
                    fields |= {
                        "slot": (opened + group) % slots,
                        "begins": k == 0,
                        "ends": k == size - 1,
                        "first": turn == 0 and k == 0,
                        "finishes": turn == turns - 1,
                        "sums": summed,
                    }
                    rows = int8(rng, (rng.choice(lengths), cfg.tile), kind)
                    passes.append(Pass({name: int(value) for name, value in fields.items()}, rows))
                    products.append(rows @ tile)
                    totals[group] += tile.sum(0)
        columns += [total for total in totals if summed]
        opened += width
    return passes, np.concatenate(products), np.array(columns)


def _random_tile(
    cfg: Config, rng: np.random.Generator, memory: np.ndarray
) -> tuple[dict[str, int], np.ndarray]:
    """Where a tile is, and its words."""
    stride, transposed = rng.integers(1, 5), rng.integers(0, 2)
    addr = rng.integers(0, len(memory) - stride * cfg.tile)
    tile = memory[addr : addr + stride * cfg.tile : stride]
    fields = {"addr": addr, "row_stride": stride, "transposed": transposed}
    return fields, tile.T if transposed else tile
