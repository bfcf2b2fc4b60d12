"""Parts of a graph: what enters and leaves them, in names and bytes, and where they end."""

import pytest
from graphs import GraphBuilder

from transept.host.compiler.cut import Shape
from transept.host.placement.parts import (
    Boundary,
    Work,
    boundaries,
    boundary,
    part_graph,
    transfers,
    weight_bytes,
)


@pytest.fixture
def graph():
    """Queries of 5 rows and keys of 7; what the first layer makes is read twice, and leaves."""
    build = GraphBuilder(1, dims=("rows", "memory"))
    x, memory = build.value(6), build.value(3, dim="memory")
    y = build.linear(x, 6)
    q, k, v = build.linear(y, 8, 8), build.linear(memory, 4, 8), build.linear(memory, 4, 8)
    z = build.add(build.linear(build.attention(q, k, v, 4, 2), 6), y)
    return build.graph([x, memory], [y, z])


SHAPE = Shape(2, {"rows": 5, "memory": 7})
#: Bytes of each value in this shape.
X, MEMORY, Y, Q, K, C, Z = 120, 84, 120, 80, 56, 160, 120


def test_what_enters_and_leaves(graph):
    spans = {
        (0, 7): Boundary(("v0", "v1"), ("v2", "v8")),
        (0, 1): Boundary(("v0",), ("v2",)),
        (1, 4): Boundary(("v2", "v1"), ("v3", "v4", "v5")),
        (4, 5): Boundary(("v3", "v4", "v5"), ("v6",)),
        (4, 7): Boundary(("v3", "v4", "v5", "v2"), ("v8",)),
    }
    assert {span: boundary(graph, *span) for span in spans} == spans


def test_a_part_has_its_values_and_dimensions(graph):
    part = part_graph(graph, 2, 4)
    assert ([dim.name for dim in part.dims], list(part.values)) == (["memory"], ["v1", "v4", "v5"])
    assert (part.inputs, part.outputs) == (("v1",), ("v4", "v5"))
    assert part.ops == graph.ops[2:4]
    work = Work(graph, SHAPE).part(2, 4)
    assert (work.shape, work.graph.ops) == (Shape(2, {"memory": 7}), graph.ops[2:4])
    assert work.moved == MEMORY + 2 * K
    assert Work(graph, SHAPE).moved == X + MEMORY + Y + Z


def test_bytes_of_parts_that_grow(graph):
    """A value leaves until its last reader is inside, and one that is an output always."""
    assert transfers(graph, SHAPE, 0) == [
        0,
        X + Y,
        X + Y + Q,
        X + Y + Q + MEMORY + K,
        X + Y + Q + MEMORY + 2 * K,
        X + Y + MEMORY + C,
        X + Y + MEMORY + Y,
        X + Y + MEMORY + Z,
    ]
    assert transfers(graph, SHAPE, 4) == [
        0,
        Q + 2 * K + C,
        Q + 2 * K + Y,
        Q + 2 * K + Y + Z,
    ]


def test_graphs_are_cut_where_no_int8_value_passes_and_where_pins_differ(graph):
    names = [op.name for op in graph.ops]
    assert boundaries(graph, {}) == [0, 1, 5, 6, 7]
    assert boundaries(graph, {names[3]: "a"}) == [0, 1, 3, 4, 5, 6, 7]
    assert boundaries(graph, dict.fromkeys(names, "a")) == [0, 1, 5, 6, 7]


def test_weights_are_bytes(graph):
    assert [weight_bytes(op) for op in graph.ops] == [36, 48, 12, 12, 0, 48, 0]
