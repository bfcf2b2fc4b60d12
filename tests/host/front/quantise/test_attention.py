"""Attention as integers, worked out by hand."""

import math

import numpy as np
import pytest
from matches import attention

from transept.golden.filters import Window
from transept.host.front.quantise.attention import quantise_attention

WIDE = (1 << 24) - 1  # largest product


def quantised(op, q, k, v, out, *, most_keys=64):
    return quantise_attention(
        op,
        *(np.asarray(part, np.float64) for part in (q, k, v, out)),
        block=16,
        most_keys=most_keys,
    )


def factors(multiplier, shift):
    return multiplier / 2.0**shift


def test_every_constant_of_an_attention():
    """Four heads of two elements, two of them to each of keys and values."""
    q, k = np.array([0.5, 0.25, 0.125, 1.0]) / 64, np.array([0.5, 1.0]) / 64
    v, out = np.array([1.0, 2, 3, 4, 5, 6]) / 128, np.array([1.0, 2, 3, 4, 5, 6] * 2) / 4096
    op = attention(4, 2, scale=0.25, filter=Window(1, 2))
    found = quantised(op, q.repeat(2), k.repeat(2), v, out)
    assert (found.name, found.inputs, found.outputs) == (
        *("attention", ("q", "k", "v"), ("attention",)),
    )
    assert (found.heads, found.kv_heads, found.block, found.filter) == (4, 2, 16, Window(1, 2))
    # log2 units with 8 fractional bits, the largest product of two elements within 25 bits
    scores = q * k[[0, 0, 1, 1]] * 0.25 * math.log2(math.e) * 256
    room = math.floor(math.log2(WIDE / (127 * 127 * 2 * scores.max())))
    assert found.score_row_shift == 15 + room == 29
    wanted = np.ldexp(scores, room)
    assert factors(found.score_multiplier, found.score_shift) == pytest.approx(wanted, rel=2**-16)
    # a value over a result, 8 fractional bits; 64 keys of 254 levels times 127 within 25 bits
    levels = np.concatenate([v[:3], v[:3], v[3:], v[3:]]) / out * 256
    shift = 16 + math.floor(math.log2(WIDE / (127 * 254 * 64 * levels.max())))
    assert found.context_row_shift == shift == 4
    wanted = np.ldexp(levels, shift - 16)
    assert factors(found.context.multiplier, found.context.shift) == pytest.approx(
        wanted, rel=2**-16
    )
    assert found.context.bias.tolist() == [0] * 12
    assert found.context_out_shift == 8


@pytest.mark.parametrize(
    ("step", "score_shift", "context_shift"),
    [(1.0, 15, 9), (1e-3, 25, 4), (1e-9, 40, 0)],
)
def test_shifts_of_rows_end_at_0_and_40(step, score_shift, context_shift):
    q, out = np.array([step, step / 4]), np.array([4.0, 3, 2, 1]) * step**0.5
    found = quantised(attention(2, 1), q.repeat(2), [1, 1], [1, 3], out)
    assert (found.score_row_shift, found.context_row_shift) == (score_shift, context_shift)
    scores = q * math.log2(math.e) * 256 * 2.0 ** (score_shift - 15)
    assert factors(found.score_multiplier, found.score_shift) == pytest.approx(scores, rel=2**-15)
    levels = np.array([1, 3, 1, 3]) / out * 2.0 ** (8 + context_shift - 16)
    got = factors(found.context.multiplier, found.context.shift)
    assert got == pytest.approx(levels, rel=2**-15)


def test_a_context_of_very_small_values_has_a_row_shift_of_40():
    found = quantised(attention(1, 1), [1], [1], [1e-9], [1])
    assert found.context_row_shift == 40


def test_more_keys_leave_fewer_bits_for_each():
    shifts = [
        quantised(attention(1, 1), [1], [1], [1], [1], most_keys=keys).context_row_shift
        for keys in (2, 520, 521, 1041)
    ]
    assert shifts == [16, 8, 7, 6]
