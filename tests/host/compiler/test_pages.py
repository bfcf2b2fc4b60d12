"""Pages of keys and values: where states lie in them, and what every run is told of them."""

from types import SimpleNamespace

import pytest
from graphs import attentive, gated, norms_in_front, sharing

from transept.golden.config import TINY
from transept.golden.filters import Causal
from transept.golden.ops import CachedAttention
from transept.host.compiler.compile import compile_graph
from transept.host.compiler.cut import Shape
from transept.host.compiler.errors import CompileError
from transept.host.compiler.layout import Layouts
from transept.host.compiler.lower.cached import _merged
from transept.host.compiler.pages import (
    Kept,
    PageLayout,
    chunk_parts,
    first_new_chunk,
    kept_symbols,
    page_layout,
    pages_touched,
)
from transept.host.language.cached import cached


@pytest.mark.parametrize(
    ("graph", "layout"),
    [
        (gated(1, 32, 4, 2, [12]), {"v7.cached": Kept(0, 2, 8), "v8.cached": Kept(256, 2, 8)}),
        (
            norms_in_front(2, 12, 3, [20], Causal()),
            {"v3.cached": Kept(0, 3, 4), "v4.cached": Kept(192, 3, 4)},
        ),
    ],
    ids=["gated", "norms in front"],
)
def test_states_follow_each_other_head_by_head(graph, layout):
    """16 rows of every head: its keys are contiguous."""
    kept = cached(attentive(graph), 64)
    nbytes = sum(16 * state.heads * state.row_bytes for state in layout.values())
    assert page_layout(kept, Layouts(kept, TINY)) == PageLayout(layout, nbytes)


def test_where_a_head_begins():
    assert [Kept(64, 3, 8).head(index) for index in range(3)] == [64, 192, 320]


def test_pages_that_new_rows_lie_in_at_most():
    found = {rows: pages_touched(rows) for rows in (1, 2, 16, 17, 18, 32, 33, 34)}
    assert found == {1: 1, 2: 2, 16: 2, 17: 2, 18: 3, 32: 3, 33: 3, 34: 4}


def test_parts_of_new_rows_in_a_chunk_at_most():
    rows = (1, 2, 17, 18, 34)
    assert [chunk_parts(n, 16) for n in rows] == [1] * 5
    assert [chunk_parts(n, 32) for n in rows] == [1, 2, 2, 2, 2]
    assert [chunk_parts(n, 64) for n in rows] == [1, 2, 2, 3, 4]


@pytest.mark.parametrize(
    ("context", "rows", "first"),
    [
        (64, 1, 1),
        (64, 2, 0),
        (64, 40, 0),
        (65, 1, 2),
        (65, 2, 1),
        (96, 33, 1),
        (96, 34, 0),
        (9, 9, 0),
    ],
)
def test_new_rows_of_a_sequence_that_is_alone_are_in_the_last_chunks(context, rows, first):
    """It has a row in the last chunk of 32 at least; sequences of a batch may be shorter."""
    assert first_new_chunk(1, context, rows, 32) == first
    assert first_new_chunk(2, context, rows, 32) == 0


SYMBOLS = {
    "two pages, two chunks": (
        (21, 13, [1000, 2000, 3000]),
        {"batch": 1, "most_rows": 16, "context": 48, "chunk": 32, "row_bytes": [4, 8]},
        {
            "kept.start": [21],
            "chunk.keys": [32, 2],
            "chunk.base": [0, 32],
            "kept.page": [1000, 2000, 1000],
            "kept.rows": [16, 5, 1],
            "stored.row": [0, 11],
            "stored.rows": [11, 2],
            "stored.at.4": [2020, 3000],
            "stored.at.8": [2040, 3000],
            "new.row": [21, 21, 0, 0],
            "new.rows": [11, 1, 2, 1],
            "new.at.4": [2020, 2020, 3000, 3000],
            "new.at.8": [2040, 2040, 3000, 3000],
        },
    ),
    "shorter than others": (
        (3, 2, [1000, 2000]),
        {"batch": 2, "most_rows": 5, "context": 64, "chunk": 16, "row_bytes": [8]},
        {
            "kept.start": [3],
            "chunk.keys": [5, 1, 1, 1],
            "chunk.base": [0, 1 << 15, 1 << 15, 1 << 15],  # no query sees their row
            "kept.page": [1000] * 4,
            "kept.rows": [3, 1, 1, 1],
            "stored.row": [0, 0],
            "stored.rows": [2, 1],
            "stored.at.8": [1024, 1024],
            "new.row": [3, 0, 0, 0],
            "new.rows": [2, 1, 1, 1],
            "new.at.8": [1024, 1000, 1000, 1000],
        },
    ),
    "old chunks have no new rows": (
        (63, 2, [1000, 2000, 3000, 4000, 5000]),
        {"batch": 1, "most_rows": 2, "context": 80, "chunk": 16, "row_bytes": [8]},
        {
            "kept.start": [63],
            "chunk.keys": [16, 16, 16, 16, 1],
            "chunk.base": [0, 16, 32, 48, 64],
            "kept.page": [1000, 2000, 3000, 4000, 1000],
            "kept.rows": [16, 16, 16, 15, 1],
            "stored.row": [0, 1],
            "stored.rows": [1, 1],
            "stored.at.8": [4120, 5000],
            "new.row": [15, 0],
            "new.rows": [1, 1],
            "new.at.8": [4120, 5000],
        },
    ),
    "a page of one row": (
        (17, 1, [1000, 2000]),
        {"batch": 1, "most_rows": 1, "context": 32, "chunk": 32, "row_bytes": [8]},
        {
            "kept.start": [17],
            "chunk.keys": [18],
            "chunk.base": [0],
            "kept.page": [1000, 2000],
            "kept.rows": [16, 1],
            "stored.row": [0],
            "stored.rows": [1],
            "stored.at.8": [2008],
            "new.row": [17],
            "new.rows": [1],
            "new.at.8": [2008],
        },
    ),
    "the first rows": (
        (0, 3, [640]),
        {"batch": 1, "most_rows": 16, "context": 16, "chunk": 16, "row_bytes": [8]},
        {
            "kept.start": [0],
            "chunk.keys": [3],
            "chunk.base": [0],
            "kept.page": [640],
            "kept.rows": [1],
            "stored.row": [0, 0],
            "stored.rows": [3, 1],
            "stored.at.8": [640, 640],
            "new.row": [0],
            "new.rows": [3],
            "new.at.8": [640],
        },
    ),
}


@pytest.mark.parametrize("name", SYMBOLS)
def test_what_a_run_is_told_of_a_sequence(name):
    """Parts that it does not have are those of another one again."""
    sequence, shape, symbols = SYMBOLS[name]
    assert kept_symbols(*sequence, **shape) == symbols


def test_contexts_that_no_accumulators_hold_from_chunk_to_chunk():
    graph = cached(attentive(gated(1, 64, 2, 1, [12])), 64)
    config = TINY.replace(name="other", acc_slots=2)
    message = (
        "^attention6 adds up 64 keys chunk by chunk in 8 accumulators a tile of rows, other has 4$"
    )
    with pytest.raises(CompileError, match=message):
        compile_graph(graph, config, Shape(1, {"rows": 5, "context": 64}))


@pytest.mark.parametrize(("words", "together"), [(255, True), (256, False)])
def test_heads_go_together_while_the_vector_unit_takes_a_row_of_all(words, together):
    graph = cached(attentive(sharing(gated(5, 64, 8, 2, [12]))), 64)
    (op,) = (op for op in graph.ops if isinstance(op, CachedAttention))
    scope = SimpleNamespace(config=TINY, places=SimpleNamespace(words={op.out: words}.get))
    assert _merged(scope, op, 1, 4) == together
    assert not _merged(scope, op, 2, 4)
