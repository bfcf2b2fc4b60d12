"""Attention: scores in units of log2, and the context's own scale."""

from __future__ import annotations

import math

import numpy as np

from transept.golden.numerics.requantise import ChannelParameters
from transept.golden.ops import Attention
from transept.host.front.matches import AttentionMatch
from transept.host.front.quantise.grids import INT8, OUT_SHIFT, PRODUCT_LIMIT, multipliers

__all__ = ["quantise_attention"]

#: Largest softmax level, and fractional bits of a score.
LEVELS, SCORE_BITS = 254, 8


def quantise_attention(
    op: AttentionMatch,
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    out_scale: np.ndarray,
    *,
    block: int,
    most_keys: int,
) -> Attention:
    """q, k, v: real value of one int8 step of each channel, equal within a head of q and of k;
    out_scale: of one step of the result; block: query rows that a filter decides for at once;
    most_keys: of a sequence, bounds the sums of ``p . v``."""
    share, d = op.heads // op.kv_heads, len(q) // op.heads
    per_head = q[::d] * np.repeat(k[::d], share)
    real = per_head * op.scale * math.log2(math.e) * (1 << SCORE_BITS)
    room = math.floor(math.log2(PRODUCT_LIMIT / (INT8**2 * d * real.max())))
    row_shift = min(15 + room, 40)  # 6 bits; a product that never fills 25 bits loses nothing
    score_multiplier, score_shift = multipliers(real * 2.0 ** (row_shift - 15))
    by_query_head = np.repeat(v.reshape(op.kv_heads, -1), share, axis=0).flatten()
    per_level = by_query_head / out_scale * 2.0**OUT_SHIFT  # the context is acc / row sum of this
    largest = INT8 * LEVELS * most_keys * per_level.max()
    context_row_shift = min(max(0, 16 + math.floor(math.log2(PRODUCT_LIMIT / largest))), 40)
    multiplier, shift = multipliers(per_level * 2.0 ** (context_row_shift - 16))
    q_value, k_value, v_value = op.inputs
    return Attention(
        op.name,
        q_value,
        k_value,
        v_value,
        op.outputs[0],
        op.heads,
        op.kv_heads,
        score_multiplier,
        score_shift,
        row_shift,
        ChannelParameters(multiplier, shift, np.zeros_like(shift)),
        context_row_shift,
        OUT_SHIFT,
        block,
        op.filter,
    )
