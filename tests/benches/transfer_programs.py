"""Random LOADs and STOREs that stay inside one window."""

from __future__ import annotations

import random
from collections.abc import Iterator

from bench import instruction

from transept.golden.config import Config
from transept.golden.isa import Instruction, Memory, Opcode, Window
from transept.golden.layouts import BLOCK_WORDS, RECORD_BYTES, packed_words

__all__ = ["random_loads", "random_stores"]

MOST_WORDS = 12
MOST_ROWS = 12


def _shape(rng: random.Random, cfg: Config, limit: int, wide: int) -> dict[str, int]:
    """Random rows, words and pitch of a transfer that fits its window."""
    rows, words = rng.choice([1, rng.randint(1, MOST_ROWS)]), rng.randint(1, MOST_WORDS)
    pitch = rng.choice([words << wide, (words << wide) + rng.randint(0, 5)])
    span = rows * max(pitch, words << wide) * cfg.tile
    offset = rng.randrange((limit - span) // cfg.tile) * cfg.tile
    return {"rows": rows, "words": words, "pitch": pitch, "offset": offset, "wide": wide}


def random_loads(
    rng: random.Random, cfg: Config, window: Window, limit: int, count: int
) -> Iterator[Instruction]:
    """LOADs from a window of ``limit`` bytes to every memory."""
    limits = {
        Memory.ACT: cfg.act_words,
        Memory.STAT: cfg.memories.stat_words,
        Memory.VPARAM: cfg.geometry.max_hidden * 8 // cfg.tile,
        Memory.TABLE: 65 * 8 // cfg.tile,
    }
    for _ in range(count):
        packed = int(cfg.blocks.packed and rng.random() < 0.3)
        memory = Memory.STAT if packed else rng.choice([Memory.ACT, Memory.ACT, *Memory])
        to_act = int(memory == Memory.ACT)
        shape = _shape(rng, cfg, limit, rng.randrange(2) * to_act)
        if packed:
            shape |= _packed(rng, cfg, limit)
        stride = shape["words"] + rng.randint(0, 3)
        if shape["rows"] * stride > limits[memory]:
            shape["rows"] = 1
        observed = {}
        if memory == Memory.STAT and not packed:
            observed = _observed(rng, cfg, shape["rows"], shape["words"], stride)
        yield instruction(
            Opcode.LOAD,
            window=window,
            memory=memory,
            stats=rng.randrange(2) * to_act,
            addr=rng.randrange(limits[memory] - max(1, shape["rows"] * stride) + 1),
            stride=stride,
            rowstat=rng.randrange(cfg.memories.rowstat_entries - shape["rows"] + 1),
            packed=packed,
            **observed,
            **shape,
        )


def _packed(rng: random.Random, cfg: Config, limit: int) -> dict[str, int]:
    """Rows with blocks of four-bit weights, and words behind them."""
    rows, blocks = rng.choice([0, 1, 1, 2, 2, 3]), rng.choice([0, 1, 1, 2, 3])
    behind = rng.choice([0, RECORD_BYTES, rng.randint(1, BLOCK_WORDS - 1)])
    words = max(1, BLOCK_WORDS * blocks + behind)
    units = packed_words(words)
    pitch = units + rng.choice([0, rng.randint(0, 5)])
    offset = rng.randrange((limit - rows * pitch * cfg.tile) // cfg.tile) * cfg.tile
    return {"rows": rows, "words": words, "pitch": pitch, "offset": offset}


def _observed(
    rng: random.Random, cfg: Config, rows: int, words: int, stride: int
) -> dict[str, int]:
    """Rows that are keys, or not."""
    phase = rng.randrange(cfg.tile)
    extent = (phase + rows - 1) // cfg.tile * stride + words
    if extent > cfg.key_summaries or rng.random() < 0.3:
        return {}
    return {"observe": 1, "phase": phase, "summary": rng.randrange(cfg.key_summaries - extent + 1)}


def random_stores(
    rng: random.Random, cfg: Config, window: Window, limit: int, count: int
) -> Iterator[Instruction]:
    """STOREs to a window of ``limit`` bytes."""
    for _ in range(count):
        memory = rng.choice([Memory.ACT, Memory.STAT])
        size = cfg.act_words if memory == Memory.ACT else cfg.memories.stat_words
        shape = _shape(rng, cfg, limit, rng.randrange(2) * (memory == Memory.ACT))
        stride = shape["words"] + rng.randint(0, 3)
        addr = rng.randrange(size - max(1, shape["rows"] * stride) + 1)
        where = {"memory": memory, "addr": addr, "stride": stride}
        yield instruction(Opcode.STORE, window=window, **where, **shape)
