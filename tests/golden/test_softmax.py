"""Softmax in base 2 against float64, and its independence of blocks."""

import numpy as np
import pytest

from transept.golden.numerics.softmax import (
    DITHER,
    FLOAT_LEVELS,
    LEVELS,
    MASKED,
    OFFSET,
    levels,
    softmax_rows,
)


def _scores(rng: np.random.Generator, shape: tuple[int, ...], spread: float) -> np.ndarray:
    return (rng.normal(size=shape) * spread * 256).astype(np.int64).clip(-32767, 32767)


@pytest.mark.parametrize("spread", [0.1, 1, 4, 30])
def test_levels_are_within_rounding_of_the_exact_ones(spread):
    score = _scores(np.random.default_rng(0), (200, 64), spread)
    maximum = score.max(-1, keepdims=True)
    exact = LEVELS * np.exp2((score - maximum) / 256.0)
    level = levels(score, maximum)
    assert level.max() == LEVELS
    assert np.abs(level - exact).max() < 0.9


@pytest.mark.parametrize("error", [-1e-6, 0, 1e-6])
@pytest.mark.parametrize("place", range(4))
def test_levels_are_those_of_a_float_that_is_good_to_a_millionth(place, error):
    """At every distance, so that a machine with an exponential of its own has the same bits."""
    distance = np.arange(1 << 16)
    score = np.full((len(distance), 4), MASKED)
    score[:, place] = 16384 - distance // 2
    maximum = score[:, place] + distance
    power = np.exp2(-distance / 256.0) * (1 + error)
    level = np.floor(FLOAT_LEVELS * power + DITHER[place] / 8)
    assert (levels(score, maximum[:, None])[:, place] == level).all()


@pytest.mark.parametrize(("period", "off"), [(1, 1 / 8), (2, 3 / 8)])
@pytest.mark.parametrize("probability", [0.0011, 0.002, 0.004, 0.0049])
def test_many_small_equal_probabilities_are_not_lost(probability, period, off):
    """One key has nearly all, every ``period``-th other one the same little; off: levels of each
    at most, where rounding to nearest is off by half a level."""
    score = np.full((1, 128), MASKED)
    score[0, 3 - period :: period] = round(256 * np.log2(probability))
    score[0, 0] = 0
    others = (score[0, 1:] != MASKED).sum()
    level = levels(score, np.array([[0]]))
    assert abs(level[0, 1:].sum() / LEVELS - others * probability) < others * off / LEVELS + 0.01


@pytest.mark.parametrize("spread", [0.1, 1, 4, 30])
def test_probabilities(spread):
    score = _scores(np.random.default_rng(1), (200, 128), spread)
    operand, total = softmax_rows(score, score.max(-1))
    exact = np.exp2(score / 256.0 - (score / 256.0).max(-1, keepdims=True))
    exact /= exact.sum(-1, keepdims=True)
    error = np.abs((operand + OFFSET) / total[:, None] - exact)
    # every level is off by at most 0.9, and so is each term of the sum
    assert (error <= 0.9 * (1 + exact * score.shape[-1]) / total[:, None]).all()


def test_masked_scores_get_nothing():
    rng = np.random.default_rng(2)
    score = _scores(rng, (50, 32), 2)
    kept = rng.random(score.shape) < 0.5
    kept[:, 0] = True
    masked = np.where(kept, score, MASKED)
    operand, total = softmax_rows(masked, masked.max(-1))
    assert (operand[~kept] == -OFFSET).all()
    assert (total == ((operand + OFFSET) * kept).sum(-1)).all()


def test_a_row_without_keys_is_empty():
    operand, total = softmax_rows(np.full((2, 8), MASKED), np.full(2, MASKED))
    assert (operand == -OFFSET).all()
    assert (total == 0).all()


def test_blocks_of_a_row_give_the_same_bits():
    rng = np.random.default_rng(3)
    score = _scores(rng, (20, 96), 3)
    maximum = score.max(-1)
    whole, total = softmax_rows(score, maximum)
    cuts = np.sort(rng.choice(np.arange(4, 96, 4), 5, replace=False))
    parts = [softmax_rows(part, maximum) for part in np.split(score, cuts, axis=1)]
    assert (np.concatenate([part for part, _ in parts], axis=1) == whole).all()
    assert (sum(part for _, part in parts) == total).all()


@pytest.mark.parametrize("shape", [(96,), (2, 5, 12), (2, 3, 4, 5)])
def test_rows_of_any_shape(shape):
    score = _scores(np.random.default_rng(4), shape, 3)
    operand, total = softmax_rows(score, score.max(-1))
    rows = score.reshape(-1, shape[-1])
    expected = [softmax_rows(row[None], row[None].max(-1)) for row in rows]
    assert operand.reshape(rows.shape).tolist() == [part[0].tolist() for part, _ in expected]
    assert np.ravel(total).tolist() == [int(part[0]) for _, part in expected]


def test_a_score_above_the_maximum_counts_as_one_far_below():
    """Sixteen bits of distance: nobody asks for it, but every machine gives the same."""
    operand, total = softmax_rows(np.array([[5, 4, 6, 5 + 256]]), np.array([5]))
    assert operand.tolist() == [[127, 254 - OFFSET, -OFFSET, -OFFSET]]
    assert total.tolist() == [LEVELS + 254]


def test_extremes():
    score = np.array([[32767, -32767]])
    operand, total = softmax_rows(score, np.array([32767]))
    assert operand.tolist() == [[127, -127]]
    assert total.tolist() == [LEVELS]
