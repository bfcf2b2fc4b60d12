"""Device memory of a graph: how rows lie, what is kept, and whose place is free again."""

import pytest
import torch
from graphs import GraphBuilder

from transept.host.backends.gpu.memory import Memory
from transept.host.compiler.cut import Shape

CPU = torch.device("cpu")


@pytest.fixture
def graph():
    """An attention of three layers of v0, a layer of the context v4, a norm v6 of it and v0, and
    two outputs: a layer of the norm and its sum with v0."""
    build = GraphBuilder(1)
    x = build.value(6)
    q, k, v = build.linear(x, 4, 8), build.linear(x, 4, 8), build.linear(x, 8, 8)
    context = build.attention(q, k, v, 2)
    h = build.norm(build.linear(context, 6), x)
    return build.graph([x], [build.linear(h, 3), build.add(h, x)])


@pytest.fixture
def memory(graph):
    return Memory(graph, Shape(2, {"rows": 5}), CPU)


def names(graph, ask):
    return [name for name in graph.values if ask(name)]


def test_products_read_int16_values_as_operands(graph, memory):
    """A value that products alone read is not kept itself."""
    assert names(graph, memory.operand) == ["v0", "v4", "v6"]
    assert names(graph, lambda name: not memory.kept(name)) == ["v4"]


def test_every_sequence_has_its_keys(memory):
    assert memory.count("v0") == 10
    assert memory.keys("v1") is memory.dim("rows")
    assert (memory.dim("rows").tolist(), memory.dim("rows").dtype) == ([5, 5], torch.int32)
    assert memory.whole is False


@pytest.mark.parametrize(
    ("width", "dtype", "stride"),
    [
        (1, torch.int8, 16),
        (16, torch.int8, 16),
        (17, torch.int8, 32),
        (8, torch.int16, 8),
        (9, torch.int16, 16),
        (3, torch.int32, 3),
    ],
)
def test_rows_are_padded_to_16_bytes(memory, width, dtype, stride):
    found = memory.tensor(3, width, dtype)
    assert (found.shape, found.dtype, found.stride()) == ((3, width), dtype, (stride, 1))
    assert not found.any()


def test_values_are_rows_of_their_type(memory):
    assert memory.value("v1") is memory.value("v1")
    assert (memory.value("v1").shape, memory.value("v1").dtype) == ((10, 4), torch.int8)
    assert (memory.value("v4").shape, memory.value("v4").dtype) == ((10, 8), torch.int16)
    sequences = memory.sequences("v4")
    assert sequences.shape == (2, 5, 8)
    assert sequences.data_ptr() == memory.value("v4").data_ptr()


def test_operands_have_multipliers_of_their_own(memory):
    rows = memory.rows("v0")
    assert rows is memory.rows("v0")
    assert (rows.elements.shape, rows.elements.dtype) == ((10, 16), torch.int8)
    assert (rows.multiplier.shape, rows.multiplier.dtype) == ((10,), torch.int32)
    assert not rows.multiplier.any()
    assert rows.elements.data_ptr() != memory.value("v0").data_ptr()
    narrow = memory.rows("v1")
    assert narrow.multiplier.tolist() == [1 << 15] * 10
    assert narrow.elements.data_ptr() == memory.value("v1").data_ptr()
    assert narrow.elements.shape == (10, 16)
    assert {x.elements.stride() for x in (rows, narrow)} == {(16, 1)}


def test_neighbouring_columns_share_a_tensor(graph, memory):
    whole = memory.tensor(10, 16, torch.int8)
    whole[:] = torch.arange(16, dtype=torch.int8)
    memory.share(["v1", "v2", "v3"], whole)
    columns = [memory.value(name)[0].tolist() for name in ("v1", "v2", "v3")]
    assert columns == [[0, 1, 2, 3], [4, 5, 6, 7], list(range(8, 16))]
    done = {op.name for op in graph.ops[:4]}
    attention = graph.ops[3]
    memory.release(graph.ops[0], done - {attention.name})
    assert memory.tensor(10, 16, torch.int8) is not whole
    memory.release(attention, done)
    assert memory.tensor(10, 16, torch.int8) is whole
    assert memory.tensor(10, 16, torch.int8) is not whole  # it is given back once
    assert memory.value("v1").data_ptr() != whole.data_ptr()


def test_what_nobody_reads_any_more_makes_room(graph, memory):
    """Neither inputs nor outputs; values and operands, each where one of its size is needed."""
    order = [op.name for op in graph.ops]
    held = {name: memory.value(name) for name in ("v0", "v4", "v5", "v6", "v7", "v8")}
    rows = {name: memory.rows(name) for name in ("v0", "v4", "v6")}
    done = set()
    for op in graph.ops[:6]:
        done.add(op.name)
        memory.release(op, done)
    assert memory.tensor(10, 8, torch.int16) is held["v4"]
    assert memory.tensor(10, 6, torch.int16) is held["v5"]
    assert memory.tensor(10, 6, torch.int16) is not held["v6"]
    assert memory.tensor(10, 8, torch.int8).data_ptr() == rows["v4"].elements.data_ptr()
    assert memory.tensor(10, 1, torch.int32).data_ptr() == rows["v4"].multiplier.data_ptr()
    memory.release(graph.ops[6], set(order[:7]))
    assert memory.tensor(10, 6, torch.int16) is not held["v6"]  # another operator reads it
    for op in graph.ops[6:]:
        memory.release(op, set(order))
    assert memory.tensor(10, 6, torch.int16) is held["v6"]
    assert memory.tensor(10, 6, torch.int8).data_ptr() == rows["v6"].elements.data_ptr()
    assert memory.tensor(10, 6, torch.int16).data_ptr() not in {x.data_ptr() for x in held.values()}
    assert all(memory.value(name) is held[name] for name in ("v0", "v7", "v8"))


def test_what_is_still_read_is_kept_alone():
    """An input, or what another operator reads, beside what nobody does."""
    build = GraphBuilder(1)
    x = build.value(6)
    h, g, f = (build.linear(x, 6) for _ in range(3))
    graph = build.graph([x], [build.add(x, h), build.add(g, f), build.linear(g, 3)])
    memory = Memory(graph, Shape(2, {"rows": 5}), CPU)
    held = {name: memory.value(name) for name in (g, h, f)}
    for op, free in zip(graph.ops[3:5], (h, f), strict=True):
        memory.release(op, {op.name for op in graph.ops[:5]})
        assert memory.tensor(10, 6, torch.int16) is held[free]
