"""The numerics are written once: NumPy and torch give the same bits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transept.golden import filters
from transept.golden.filters import Causal, Dense, TileThreshold, Window
from transept.golden.numerics import fixed, norm, polynomial, requantise, softmax

rng_seeds = st.integers(0, 1 << 32)


def _both(function, *arrays, **options):
    """Call with NumPy arrays and with torch tensors, compare every result."""
    first = function(*arrays, **options)
    second = function(*(_tensor(array) for array in arrays), **options)
    if not isinstance(first, tuple):
        first, second = (first,), (second,)
    for ours, theirs in zip(first, second, strict=True):
        assert isinstance(theirs, torch.Tensor)
        assert theirs.dtype == torch.int64
        assert (ours == theirs.numpy()).all()


def _tensor(value):
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value))
    if hasattr(value, "__dataclass_fields__"):
        fields = {name: _tensor(getattr(value, name)) for name in value.__dataclass_fields__}
        return type(value)(**fields)
    return value


@settings(deadline=None, max_examples=30)
@given(rng_seeds)
def test_fixed_and_polynomial(seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(-(1 << 50), 1 << 50, 100)
    _both(fixed.round_shift, x, rng.integers(0, 50, 100))
    _both(fixed.saturate, x, bits=25)
    _both(fixed.bit_length, np.abs(x) + 1)
    _both(polynomial.reciprocal, rng.integers(0, 1 << 24, 100))
    _both(polynomial.rsqrt, np.abs(x) + 1)


@settings(deadline=None, max_examples=30)
@given(rng_seeds, st.integers(0, 15), st.integers(0, 63), st.integers(0, 15))
def test_requantise(seed, pre, row_shift, out_shift):
    rng = np.random.default_rng(seed)
    channel = requantise.ChannelParameters(
        rng.integers(0, 1 << 16, 8), rng.integers(0, 32, 8), rng.integers(-(1 << 23), 1 << 23, 8)
    )
    _both(
        requantise.requantise,
        rng.integers(-(1 << 26), 1 << 26, (4, 8)),
        channel,
        rng.integers(0, (1 << 16) + 1, 4),
        rng.integers(0, 24, 4),
        pre=pre,
        row_shift=row_shift,
        out_shift=out_shift,
        bits=8,
    )
    x = rng.integers(-32767, 32768, (4, 8))
    _both(requantise.quantise_row, x, np.abs(x).max(-1))
    table = requantise.ActivationTable(
        int(rng.integers(-32768, 1)),
        int(rng.integers(0, 11)),
        int(rng.integers(0, 16)),
        int(rng.integers(0, 20)),
        rng.integers(-(1 << 23), 1 << 23, 64),
        rng.integers(-(1 << 23), 1 << 23, 64),
        rng.integers(-(1 << 15), 1 << 15, 64),
    )
    _both(requantise.activation, x, table)


@settings(deadline=None, max_examples=30)
@given(rng_seeds, st.integers(2, 64))
def test_softmax_and_norm(seed, count):
    rng = np.random.default_rng(seed)
    score = rng.integers(-32768, 32768, (4, count))
    _both(softmax.softmax_rows, score, score.max(-1))
    parameters = norm.NormParameters(
        rng.integers(-(1 << 17), 1 << 17, count),
        rng.integers(-(1 << 23), 1 << 23, count),
        rng.integers(0, 16, count),
        rng.integers(0, 16, count),
        rng.integers(0, 16, count),
    )
    y, x = rng.integers(-32768, 32768, (2, 4, count))
    options = {"epsilon": int(rng.integers(0, 1 << 32)), "out_shift": int(rng.integers(0, 20))}
    _both(norm.layer_norm, y, x, parameters, **options)
    z = norm.residual_sum(y, x, parameters)
    _both(norm.normalise, z, parameters, centre=False, **options)
    _both(norm.rounded_sum, z, parameters)
    _both(lambda z, p: _clipped(norm.rounded_sum, z, p), z, parameters)


def _clipped(function, *arguments):
    """Which elements a function clips, as 0 and 1."""
    clipping = fixed.Clipping()
    function(*arguments, clip=clipping)
    return clipping.elements * 1


@pytest.mark.parametrize("rule", [Dense(), Causal(), TileThreshold(100), Window(before=2, after=1)])
def test_filters(rule):
    rng = np.random.default_rng(0)
    queries, keys = rng.integers(-127, 128, (4, 8)), rng.integers(-127, 128, (30, 8))
    _both(filters.key_sums, keys, tile=4)
    kept = []
    for q, k in ((queries, keys), (_tensor(queries), _tensor(keys))):
        block = filters.QueryBlock(4, 9, 30, 0, q.sum(0), filters.key_sums(k, 4))
        kept.append(filters.kept_tiles(rule, block))
    assert kept[0] == kept[1]
    seen = [
        rule.sees(make(np.arange(5)[:, None]), make(np.arange(9))) for make in (np.array, _tensor)
    ]
    assert np.array_equal(seen[0], seen[1])
