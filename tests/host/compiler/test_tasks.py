"""What tasks touch, on chip and in DRAM, and what becomes one instruction."""

import dataclasses

import pytest
from graphs import GraphBuilder, gated, mlp, post_norm

from transept.golden.config import TINY
from transept.golden.isa import AMode, Engine, OutMode, RowScale, Window
from transept.host.compiler.compile import compile_graph
from transept.host.compiler.cut import Shape
from transept.host.compiler.emit import _Emitter, _merged, _WeightRing
from transept.host.compiler.hazards import Region
from transept.host.compiler.layout import Layouts
from transept.host.compiler.lowering import lower
from transept.host.compiler.order import Slot
from transept.host.compiler.stream import LoadStep, TaskStep
from transept.host.compiler.tasks import (
    ENGINES,
    Buffer,
    ContextTask,
    DramRows,
    ElementwiseTask,
    NormTask,
    Product,
    Ring,
    Rows,
    ScoresTask,
    SoftmaxTask,
    StoreRows,
    Use,
    whole,
    written_keys,
)
from transept.host.compiler.tensors import Tensor, tensors, window_bytes
from transept.host.compiler.weights import ColumnTile, WeightImage

A, STATS = Buffer("a", "act", 80), Buffer("a.max", "rowstat", 10)
ROWS = Rows(A, 8, stats=STATS)
LINEAR = mlp(1, [16, 16, 4]).ops[0]


# --- rows on chip
def test_rows_and_columns_are_offsets():
    part = ROWS.row(3).column(2)
    assert part == Rows(A, 8, 26, STATS, 3)
    assert part.row(2) == Rows(A, 8, 42, STATS, 5)
    A.addr, STATS.addr = 100, 20
    assert (part.addr, part.rowstat, Rows(A, 8).rowstat) == (126, 23, 0)


@pytest.mark.parametrize(
    ("rows", "words", "region"),
    [
        (3, 2, Region("act", 26, 44, 8, 2)),  # 26, 27, 34, 35, 42, 43
        (3, 7, Region("act", 26, 49, 8, 7)),
        (3, 8, Region("act", 26, 50)),  # whole rows leave nothing out
        (1, 2, Region("act", 26, 28)),
    ],
)
def test_words_of_some_columns(rows, words, region):
    assert ROWS.row(3).column(2).use(rows, words) == Use(A, region)


def test_maxima_are_an_entry_a_row():
    assert ROWS.row(3).maxima(4) == [Use(STATS, Region("rowstat", 3, 7))]
    assert Rows(A, 8).maxima(4) == []
    assert whole(A) == Use(A, Region("act", 0, 80))


@pytest.mark.parametrize(("key_row", "begun"), [(None, 0), (8, 0), (9, 1), (11, 3)])
def test_keys_take_their_tile_from_its_first_row_on(key_row, begun):
    expected = ROWS.row(4 - begun).use(2 + begun, 8)
    assert written_keys(ROWS.row(4), 2, 8, key_row, tile=4) == expected


def test_turns_of_a_ring_are_counted():
    ring = Ring("keys", 2)
    buffers = [Buffer(f"k{n}", "stat", 4, 1, ring) for n in range(3)]
    assert [buffer.turn for buffer in buffers] == [0, 1, 2]
    assert ring.buffers == buffers
    assert (A.turn, Buffer("b", "act", 1).addr, A.align) == (0, -1, 1)


def test_engines_of_tasks():
    assert {kind.__name__: engine for kind, engine in ENGINES.items()} == {
        "LoadRows": Engine.LOAD,
        "LoadBlock": Engine.LOAD,
        "LoadPages": Engine.LOAD,
        "LoadNew": Engine.LOAD,
        "StorePages": Engine.STORE,
        "StoreRows": Engine.STORE,
        "Product": Engine.GEMM,
        "ScoresTask": Engine.GEMM,
        "ContextTask": Engine.GEMM,
        "SoftmaxTask": Engine.SOFTMAX,
        "NormTask": Engine.VECTOR,
        "ElementwiseTask": Engine.VECTOR,
    }


def touched(task):
    """What a task reads and writes on chip, from what it is told to do."""
    if isinstance(task, Product):
        columns = len(task.columns)
        weights = [whole(buffer) for buffer in task.resident or ()]
        reads = [task.a.use(task.rows, task.columns[0][1].k_tiles), *weights]
        reads += task.a.maxima(task.rows) if task.a_mode == AMode.DYNAMIC else []
        first = task.out.column(task.columns[0][0])
        return reads, [first.use(task.rows, columns), *task.out.maxima(task.rows)]
    if isinstance(task, NormTask):
        y, *more = [part for part in (task.y, task.x) if part is not None]
        first, *rest = [part for part in (task.out, task.total) if part is not None]
        reads = [part.use(task.rows, task.words) for part in (y, *more)]
        results = [part.use(task.rows, task.words) for part in (first, *rest)]
        return [*reads, whole(task.param)], [*results, *first.maxima(task.rows)]
    if isinstance(task, ElementwiseTask):
        y, x, out = (part.use(task.rows, task.words) for part in (task.y, task.x, task.out))
        return [y, x], [out, *task.out.maxima(task.rows)]
    if isinstance(task, StoreRows):
        return [task.source.use(task.rows, task.words)], []
    key_tiles = -(-task.keys // TINY.tile)
    scores = task.p if isinstance(task, ContextTask) else task.s
    reads = [scores.use(task.rows, key_tiles), *scores.maxima(task.rows)]
    select = whole(task.select)
    if isinstance(task, SoftmaxTask):
        return [*reads, select], reads
    if isinstance(task, ScoresTask):
        operands = [task.q.use(task.rows, task.d_tiles), task.k.use(task.keys, task.d_tiles)]
        return operands, [*reads, select]
    values = task.v.use(key_tiles * TINY.tile, task.d_tiles)
    results = [task.out.use(task.rows, task.d_tiles), *task.out.maxima(task.rows)]
    return [*reads, select, values, whole(task.param)], results


ATTENTION = {Product, ScoresTask, SoftmaxTask, ContextTask, NormTask, StoreRows}


@pytest.mark.parametrize(
    ("graph", "kinds"),
    [
        (post_norm(1, 16, 2, [32]), ATTENTION),
        (post_norm(1, 24, 2, [32]), ATTENTION),
        (gated(1, 32, 4, 2, [12]), {*ATTENTION, ElementwiseTask}),
    ],
    ids=["16", "24", "gated"],
)
def test_tasks_say_what_they_touch(graph, kinds):
    shape = Shape(2, {dim.name: 9 for dim in graph.dims})
    image = WeightImage(graph, TINY)
    cut = compile_graph(graph, TINY, shape, image).cut
    tasks, _ = lower(graph, image, TINY, shape, cut)
    found = [task for task in tasks if isinstance(task, tuple(kinds))]
    assert {type(task) for task in found} == kinds
    for task in found:
        reads, writes = touched(task)
        tables = [use for use in task.reads if use.buffer.memory == "table"]
        assert set(task.reads) == {*reads, *tables}
        assert set(task.writes) == set(writes)


# --- rows in DRAM
@pytest.mark.parametrize("element", [1, 2])
def test_rows_and_words_in_dram(element):
    place = DramRows(Window.IO, 64, 48, element)
    assert place.at(2, 3, tile=4) == DramRows(Window.IO, 160 + 12 * element, 48, element)


@pytest.mark.parametrize(
    ("rows", "words", "region"),
    [
        (3, 5, Region("dram:SCRATCH", 64, 200, 48, 40)),
        (3, 6, Region("dram:SCRATCH", 64, 208)),
        (1, 5, Region("dram:SCRATCH", 64, 104)),
    ],
)
def test_bytes_of_rows_in_dram(rows, words, region):
    assert DramRows(Window.SCRATCH, 64, 48).region(rows, words, tile=4) == region


def test_tensors_follow_each_other_in_their_windows():
    """Inputs and outputs in IO, in this order and once each; what is spilled in SCRATCH."""
    build = GraphBuilder(1, dims=("rows", "memory"))
    x, keys = build.value(6), build.value(9, 8, "memory")
    y = build.linear(x, 10)
    z = build.linear(y, 5, 8)
    graph = build.graph([x, keys], [z, x])
    shape = Shape(3, {"rows": 7, "memory": 2})
    found = tensors(graph, Layouts(graph, TINY), shape, frozenset({y, z}))
    assert found == {
        x: Tensor(x, Window.IO, 0, 21, 1, 6, 16, 16),
        keys: Tensor(keys, Window.IO, 384, 6, 1, 9, 12, 8),  # behind 21 x 16 bytes
        z: Tensor(z, Window.IO, 512, 21, 1, 5, 8, 8),  # behind 6 x 12 more
        y: Tensor(y, Window.SCRATCH, 0, 21, 1, 10, 24, 16),
    }
    assert window_bytes(found, Window.IO) == 512 + 21 * 8
    assert window_bytes(found, Window.SCRATCH) == 21 * 24
    assert window_bytes(found, Window.WEIGHTS) == 0
    assert found[keys].rows_from(4) == DramRows(Window.IO, 384 + 4 * 12, 12, 1)
    assert found[y].rows_from(4) == DramRows(Window.SCRATCH, 4 * 24, 24, 2)


def test_rows_of_padded_heads():
    tensor = Tensor("v", Window.IO, 128, 5, segments=3, width=6, segment_bytes=16, bits=16)
    assert (tensor.pitch, tensor.nbytes) == (48, 240)


# --- products
OUT, COLUMN = Rows(Buffer("y", "act", 40), 4), ColumnTile(0, 2, 4)


def product(first, rows, *, a=ROWS, to=0, word=0):
    return Product(
        label="y", op=LINEAR, columns=[(word, COLUMN)], resident=None, a=a.row(first),
        out=OUT.row(to + first), rows=rows, a_mode=AMode.DYNAMIC, out_mode=OutMode.ACT16,
    )  # fmt: skip


def test_products_join_where_rows_follow_each_other_in_and_out():
    one = product(0, 3)
    assert one.joins(product(3, 2))
    assert product(3, 2).joins(one)
    assert not one.joins(product(4, 2))
    assert not one.joins(product(3, 2, to=1))
    assert not one.joins(product(3, 2, a=ROWS.column(1)))
    assert not one.joins(product(3, 2, word=1))
    assert not one.joins(dataclasses.replace(product(3, 2), op=dataclasses.replace(LINEAR)))


def test_rows_that_were_quantised_come_back_by_their_maximum():
    dynamic = product(0, 3)
    raw = dataclasses.replace(dynamic, a_mode=AMode.RAW)
    assert (dynamic.row_scale, raw.row_scale) == (RowScale.ROW_MAX, RowScale.ONE)


@pytest.mark.parametrize(
    ("parts", "merged"),
    [([(3, 2), (0, 3), (5, 4)], [(0, 9)]), ([(0, 3), (4, 2)], [(0, 3), (4, 2)])],
)
def test_rows_of_one_instruction(parts, merged):
    found = _merged([product(first, rows) for first, rows in parts])
    assert [(task.a, task.out, task.rows) for task in found] == [
        (ROWS.row(first), OUT.row(first), rows) for first, rows in merged
    ]


def test_rows_that_go_elsewhere_are_an_instruction_of_their_own():
    found = _merged([product(0, 3), product(3, 2, to=1)])
    assert [task.rows for task in found] == [3, 2]


# --- weights
def test_blocks_of_weights_take_turns():
    """10 words from 100 on: none is taken before the oldest one is released."""
    ring = _WeightRing(100, 110)
    assert ring.words == 10
    assert [ring.take(4), ring.take(4), ring.take(4)] == [100, 104, None]
    ring.release()
    assert [ring.take(4), ring.take(2)] == [100, None]
    ring.release()
    assert ring.take(4) == 104
    ring.release()
    assert [ring.take(2), ring.take(4), ring.take(1)] == [108, 100, None]


def test_no_more_than_160_blocks_go_round_the_ring_in_a_turn():
    """However small they are: each gives a token to the array and back."""
    ring = _WeightRing(100, 1100)
    for _ in range(2):
        assert [ring.take(1) for _ in range(160)] == list(range(100, 260))
        assert ring.take(1) is None
        assert ring.taken == 160
        for _ in range(160):
            ring.release()


def test_no_more_than_128_blocks_of_weights_are_loaded_ahead():
    columns = [(n, ColumnTile(0, 1, 4)) for n in range(200)]
    task = dataclasses.replace(product(0, 3), columns=columns)
    emitter = _Emitter(TINY.replace(stat_words=4096), 0, {"y": 0})
    steps = [TaskStep((Slot(task, 0, 1, 1, 0),), n) for n in range(200)]
    for step in steps:
        emitter.step(LoadStep(step))
    assert len(emitter.assembly) == 128
    for count, step in enumerate(steps[:3], 1):
        emitter.step(step)
        assert len(emitter.assembly) == 128 + 2 * count  # a product, and the next block
