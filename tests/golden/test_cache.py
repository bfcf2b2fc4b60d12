"""Keys and values that a sequence keeps, and attention of its last rows on them."""

import dataclasses

import numpy as np
import pytest
from graphs import GraphBuilder

from transept.golden.filters import Causal, TileThreshold
from transept.golden.graph import GraphError, Value
from transept.golden.ops import Append, CachedAttention
from transept.golden.ops.cache import starts

VALUES = {
    "cache": Value("cache", "context", 3, 8),
    "rows": Value("rows", "tokens", 3, 8),
    "out": Value("out", "context", 3, 8),
}
APPEND = Append("append", "cache", "rows", "out")


def test_new_rows_end_their_sequence():
    cache = np.arange(2 * 6 * 3).reshape(2, 6, 3)
    rows = -1 - np.arange(2 * 2 * 3).reshape(2, 2, 3)
    for second in (1, 4):
        lengths = {"tokens": [2, 1], "context": [5, second]}
        out = APPEND.evaluate(VALUES, {"cache": cache, "rows": rows}, lengths)["out"]
        wanted = cache.copy()
        wanted[0, 3:5], wanted[1, second - 1] = rows[0], rows[1, 0]
        assert (out == wanted).all()
    assert APPEND.macs([2, 1], [5, 4]) == 0


def test_without_lengths_every_row_is_real():
    cache, rows = np.zeros((1, 4, 3), np.int64), np.ones((1, 2, 3), np.int64)
    out = APPEND.evaluate(VALUES, {"cache": cache, "rows": rows}, {})["out"]
    assert out[0].sum(1).tolist() == [0, 0, 3, 3]


def test_starts():
    assert starts([1, 3], [1, 8]) == [0, 5]
    with pytest.raises(GraphError, match=r"^4 new rows of a sequence of 3$"):
        starts([1, 4], [1, 3])


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("rows", {"width": 4}, "append has cache of 3 x 8 bits and rows of 4 x 8 bits"),
        ("out", {"bits": 16}, "append has cache of 3 x 8 bits and out of 3 x 16 bits"),
        ("out", {"dim": "tokens"}, "append: cache, rows and out are rows of context, tokens and"),
        ("rows", {"dim": "context"}, "append: cache, rows and out are rows of context, context"),
    ],
)
def test_what_does_not_fit_is_named(name, changes, message):
    values = VALUES | {name: dataclasses.replace(VALUES[name], **changes)}
    with pytest.raises(GraphError, match=f"^{message}"):
        APPEND.check(values)


def attention(key_filter=Causal(), dim="context", kind=CachedAttention):  # noqa: B008
    """An attention of rows on those of ``dim``."""
    build = GraphBuilder(1, dims=("rows", "context"))
    q = build.value(8, 8)
    k, v = (build.value(8, 8, dim=dim) for _ in "kv")
    out = build.attention(q, k, v, 2, key_filter=key_filter)
    op = build.ops[-1]
    fields = {field.name: getattr(op, field.name) for field in dataclasses.fields(op)}
    return kind(**fields), build.values, out


def test_the_last_query_has_the_position_of_the_last_key():
    op, values, out = attention()
    rng = np.random.default_rng(1)
    q, k, v = (rng.integers(-127, 128, (1, n, 8)) for n in (3, 9, 9))
    whole, _, _ = attention()
    arrays = {op.q: q, op.k: k, op.v: v}
    found = op.evaluate(values, arrays, {"rows": [2], "context": [7]})[out]
    for row, keys in ((0, 6), (1, 7)):
        alone = {op.q: q[:, row : row + 1], op.k: k, op.v: v}
        assert (whole.evaluate(values, alone, {"context": [keys]})[out] == found[:, row]).all()


def test_without_lengths_every_query_and_key_is_real():
    op, values, out = attention()
    rng = np.random.default_rng(2)
    arrays = {name: rng.integers(-127, 128, (1, 20, 8)) for name in (op.k, op.v)}
    arrays[op.q] = rng.integers(-127, 128, (1, 3, 8))
    every = op.evaluate(values, arrays, {"rows": [3], "context": [20]})[out]
    assert (op.evaluate(values, arrays, {})[out] == every).all()
    assert (op.evaluate(values, arrays, {"context": [19]})[out] != every).any()


def test_attention_that_cannot_be_cached():
    op, values, _ = attention(dim="rows")
    with pytest.raises(GraphError, match=r"have the same rows, rows$"):
        op.check(values)
    op, values, _ = attention()
    wide = {op.k: dataclasses.replace(values[op.k], bits=16)}
    with pytest.raises(GraphError, match=f"takes {op.k} of 8 bits, not 16"):
        op.check(values | wide)
    op, values, _ = attention(TileThreshold(5))
    with pytest.raises(GraphError, match="has filter tile_threshold, must be one of positions"):
        op.check(values)
