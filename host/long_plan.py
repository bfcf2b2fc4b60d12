"""Where an encoder with spilled activations keeps what it works on, in each phase of a layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from transept.golden.layouts import RECORD_BYTES
from transept.host.emitter import ActRows, Ring
from transept.host.lowering import CompileError, EncoderShape, check_limits

__all__ = [
    "AttentionPlan",
    "FeedForwardPlan",
    "StationaryPlan",
    "check_shape",
    "plan_attention",
    "plan_feed_forward",
    "plan_stationary",
]

Rows = tuple[int, int]  # first row, rows


@dataclass(frozen=True)
class StationaryPlan:
    """K and V of one head, or of two that take turns; context parameters; the weight ring."""

    k: tuple[int, ...]
    v: tuple[int, ...]
    context_param: int
    ring: Ring


@dataclass(frozen=True)
class AttentionPlan:
    """Activation memory while heads are projected and attended to.

    x: buffers for ``blocks`` of rows; q: queries of one head, all rows, one buffer for each head on
    chip; scores, out: scores and context of a group of queries, two groups take turns.
    """

    blocks: list[Rows]
    groups: list[Rows]
    x: tuple[ActRows, ...]
    q: tuple[ActRows, ...]
    scores: tuple[ActRows, ActRows]
    out: tuple[ActRows, ActRows]


@dataclass(frozen=True)
class FeedForwardPlan:
    """Activation memory from the output projection to the end of the layer.

    x: rows of three blocks, because one is normalised and stored, one multiplied and one loaded.
    """

    blocks: list[Rows]
    context: ActRows
    x: tuple[ActRows, ActRows, ActRows]
    y: ActRows
    hidden: ActRows


def _cut(total: int, largest: int, step: int = 1) -> list[Rows]:
    """The fewest nearly equal parts of at most ``largest`` rows, all but the last a multiple of
    ``step``, which divides ``largest``."""
    parts = -(-total // largest)
    rows = -(-total // (parts * step)) * step
    return [(start, min(rows, total - start)) for start in range(0, total, rows)]


def check_shape(shape: EncoderShape) -> None:
    """Compare the sizes of one sequence with the limits of the configuration.

    Raises
    ------
    CompileError
        If a size exceeds its limit.
    """
    config = shape.config
    limits = {
        "sequence length": (
            shape.tokens,
            min(config.geometry.max_tokens, config.geometry.max_keys),
        ),
        "hidden size": (shape.hidden, config.geometry.max_hidden),
        "hidden tiles": (max(shape.ffn_tiles, shape.context_tiles), 255),
        "score, query and other areas": (4, len(config.memories.act_banks)),
    }
    check_limits(limits, config)


def plan_stationary(shape: EncoderShape) -> StationaryPlan:
    """K and V of two heads if a useful weight ring is left, else of one.

    Raises
    ------
    CompileError
        If K and V of one head leave no room for weights.
    """
    config = shape.config
    words = shape.key_tiles * config.tile * shape.d_tiles
    for heads, ring_tiles in ((2, 4), (1, 1)):
        parameters = 2 * heads * words
        ring = Ring(parameters + RECORD_BYTES * shape.context_tiles, config.memories.stat_words)
        if ring.words >= 4 * (ring_tiles * config.tile + RECORD_BYTES):
            k = tuple(2 * head * words for head in range(heads))
            return StationaryPlan(k, tuple(addr + words for addr in k), parameters, ring)
    raise CompileError(
        f"K and V of {shape.tokens} tokens need {2 * words} stationary words, "
        f"{config.name} has {config.memories.stat_words}"
    )


def _group_rows(shape: EncoderShape) -> int:
    """Queries whose scores fit one bank; half of ``max_rows`` at most, to have room for others."""
    config = shape.config
    bank = min(config.memories.act_banks[-3:-1])
    rows = min(bank // shape.key_tiles, config.geometry.max_rows // 2) // config.tile * config.tile
    if not rows:
        raise CompileError(
            f"scores of {config.tile} x {shape.tokens} tokens need "
            f"{config.tile * shape.key_tiles} words, a bank of {config.name} has {bank}"
        )
    return rows


def plan_attention(shape: EncoderShape, heads: int) -> AttentionPlan:
    """Scores in two banks of their own, because the array reads and the softmax writes them at
    the same time; Q of ``heads`` heads in the last bank if it fits; x in what is left.

    Raises
    ------
    CompileError
        If the rows of a sequence do not fit.
    """
    config, tokens, d_tiles = shape.config, shape.tokens, shape.d_tiles
    ends = np.cumsum(config.memories.act_banks).tolist()
    groups = _cut(tokens, _group_rows(shape), config.tile)
    group = groups[0][1]
    tops = {ends[-2]: ends[-1], 0: ends[-4]}  # areas, filled from their end

    def place(rows: int, stride: int, rowstat: int = 0) -> ActRows:
        area = next((low for low in tops if tops[low] - rows * stride >= low), 0)
        tops[area] -= rows * stride
        return ActRows(tops[area], stride, rowstat)

    stats = config.memories.rowstat_entries - 3 * group
    q = tuple(place(tokens, d_tiles) for _ in range(heads))
    out = (place(group, d_tiles, stats + 2 * group), place(group, d_tiles, stats + 2 * group))
    room = min(tops[0] // shape.hidden_tiles, stats)
    if room < 2:
        raise CompileError(
            f"attention of {tokens} tokens leaves {max(0, tops[0])} words for its input, two rows "
            f"need {2 * shape.hidden_tiles} on {config.name}"
        )
    blocks = _cut(tokens, max(1, min(config.geometry.max_rows, room // 3)))
    block = blocks[0][1]
    buffers = min(len(blocks), room // block)
    scores = (
        ActRows(ends[-4], shape.key_tiles, stats),
        ActRows(ends[-3], shape.key_tiles, stats + group),
    )
    x = tuple(
        ActRows(index * block * shape.hidden_tiles, shape.hidden_tiles, index * block)
        for index in range(buffers)
    )
    return AttentionPlan(blocks, groups, x, q, scores, out)


def plan_feed_forward(shape: EncoderShape) -> FeedForwardPlan:
    """Blocks as large as the activation memory allows.

    Raises
    ------
    CompileError
        If not even one row fits.
    """
    config = shape.config
    widths = (shape.context_tiles, *(shape.hidden_tiles,) * 4, shape.ffn_tiles)
    limit = min(
        config.geometry.max_rows,
        config.act_words // sum(widths),
        config.memories.rowstat_entries // 6,
    )
    if not limit:
        raise CompileError(
            f"feed-forward of one row needs {sum(widths)} activation words, "
            f"{config.name} has {config.act_words}"
        )
    blocks = _cut(shape.tokens, limit)
    block = blocks[0][1]
    starts = [0, *np.cumsum(widths).tolist()]
    context, x0, x1, x2, y, hidden = (
        ActRows(start * block, width, index * block)
        for index, (start, width) in enumerate(zip(starts, widths, strict=False))
    )
    return FeedForwardPlan(blocks, context, (x0, x1, x2), y, hidden)
