"""The quantised graph: what it refuses, and that its interpreter is the operators one by one."""

import dataclasses

import numpy as np
import pytest
import torch
from graphs import GraphBuilder, cross, evaluated, gated, mlp, post_norm, pre_norm, random_inputs

from transept.golden.filters import (
    Causal,
    TileThreshold,
    Window,
)
from transept.golden.graph import Dim, Graph, GraphError, State, Value
from transept.golden.ops import Attention, Norm


# --- the same bits, whatever holds them ----------------------------------------------------------
@pytest.mark.parametrize(
    "graph",
    [
        post_norm(1, 16, 2, [32, 8]),
        pre_norm(2, 16, 4, 2, [24]),
        mlp(3, [12, 20, 9], bits=8),
        post_norm(4, 16, 2, [8], Causal()),
        post_norm(5, 16, 2, [8], Window(2, 1)),
        post_norm(6, 16, 2, [8], TileThreshold(500)),
        gated(7, 32, 4, 2, [24]),
    ],
    ids=["post-norm", "pre-norm", "mlp", "causal", "window", "threshold", "gated"],
)
def test_numpy_and_torch_agree(graph):
    lengths = {"rows": [9, 4]}
    inputs, found = evaluated(graph, lengths=lengths)
    tensors = {name: torch.as_tensor(rows) for name, rows in inputs.items()}
    other = graph.evaluate(tensors, lengths)
    for name in graph.outputs:
        assert np.array_equal(found[name], other[name].numpy())


def test_every_value_stays_within_its_bits():
    for seed in range(4):
        graph = pre_norm(seed, 16, 4, 2, [24])
        _, found = evaluated(graph)
        for name, value in graph.values.items():
            assert np.abs(found[name]).max() <= value.limit


def test_rows_of_padding_change_no_other_row():
    graph = post_norm(1, 16, 2, [32])
    inputs, found = evaluated(graph, 1, 9, {"rows": [5]})
    (name,) = inputs
    inputs[name][:, 5:] = 77
    again = graph.evaluate(inputs, {"rows": [5]})
    for out in graph.outputs:
        assert np.array_equal(found[out][:, :5], again[out][:, :5])


# --- what does not fit together ------------------------------------------------------------------
def parts(graph):
    return {field.name: getattr(graph, field.name) for field in dataclasses.fields(graph)}


def changed(**changes):
    graph = mlp(1, [6, 10, 4])
    found = parts(graph)
    return found | {name: make(found[name]) for name, make in changes.items()}


def without(name):
    return lambda values: {key: value for key, value in values.items() if key != name}


def plain(**changes):
    """What a value becomes."""
    return {"scale": None, **changes}


BROKEN = {
    "two operators are called linear0": {"ops": lambda ops: (*ops, ops[0])},
    "the graph defines v0 a second time": {"inputs": lambda names: (*names, "v0")},
    "reads v., which nothing before it defines": {"ops": lambda ops: ops[::-1]},
    "which is no value": {"values": without("v0")},
    "value v1 is called v0": {"values": lambda values: values | {"v0": values["v1"]}},
    "has an unknown dimension rows": {"dims": lambda _: ()},
    "the output reads nothing": {"outputs": lambda _: ("nothing",)},
    "a state goes from an output to an input": {"states": lambda _: (State("v1", "v0"),)},
    "to an input, not .*input='v0', output='v1'": {"states": lambda _: (State("v0", "v1"),)},
    r"weights of linear\d are int8\[10, 6\], must be int8\[10, 7\]": {
        "values": lambda values: (
            values | {"v0": dataclasses.replace(values["v0"], **plain(width=7))}
        )
    },
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_graph_that_is_none(message):
    with pytest.raises(GraphError, match=message):
        Graph(**changed(**BROKEN[message]))


@pytest.mark.parametrize(
    "change",
    [{"width": 5, "scale": None}, {"bits": 8}, {"dim": "other"}, {"scale": np.full(6, 0.5)}],
    ids=lambda change: next(iter(change)),
)
def test_a_state_of_two_kinds(change):
    dims, states = (Dim("rows", 9), Dim("other", 9)), (State("before", "after"),)
    after = Value("after", "rows", 6, 16, np.full(6, 0.25))

    def graph(before):
        values = {"before": before, "after": after}
        return Graph(dims, values, ("before", "after"), ("after",), (), states)

    same = dataclasses.replace(after, name="before")
    assert graph(same).states == states
    with pytest.raises(GraphError, match="state before and after differ in type or scale"):
        graph(dataclasses.replace(same, **change))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Dim("rows", 0), "dimension rows has limit 0"),
        (lambda: Value("x", "rows", 4, 12), "value x has 12 bits, must be 8 or 16"),
        (lambda: Value("x", "rows", 0), "value x has width 0"),
        (lambda: Value("x", "rows", 2, 16, np.ones(3)), r"scale of x is float64\[3\]"),
        (lambda: Value("x", "rows", 2, 16, np.array([1, np.nan])), "scale of x holds nan"),
        (lambda: Value("x", "rows", 2, 16, np.array([1.0, -2.0])), r"scale of x holds -2\.0"),
        (lambda: Value("x", "rows", 2, 16, np.array([1.0, np.inf])), "scale of x holds inf"),
        (lambda: Value("x", "rows", 2, 16, np.array([1.0, 0.0])), r"scale of x holds 0\.0"),
    ],
)
def test_parts_that_are_none(make, message):
    with pytest.raises(GraphError, match=message):
        make()


def test_what_is_meant_if_nothing_is_said():
    value = Value("x", "rows", 4)
    assert (value.bits, value.limit, value.scale) == (16, 32767, None)
    build = GraphBuilder(0)
    x = build.value(4)
    build.linear(x, 2)
    linear, norm = build.ops[0], Norm("norm", x, None, "out", None, 0, 0)
    assert (linear.halves, linear.packed, linear.table) == (False, None, None)
    assert (norm.centre, norm.sum) == (True, None)


def test_the_least_parts():
    assert Dim("rows", 1).limit == 1
    assert Value("x", "rows", 1, 8, np.array([0.5])).limit == 127


@pytest.mark.parametrize("scales", [(None, None), (None, 0.5), (0.5, None)])
def test_a_state_without_a_scale(scales):
    values = {
        name: Value(name, "rows", 1, scale=scale and np.array([scale]))
        for name, scale in zip(("before", "after"), scales, strict=True)
    }
    parts = (Dim("rows", 9),), values, ("before", "after"), ("after",), ()
    states = (State("before", "after"),)
    if scales == (None, None):
        assert Graph(*parts, states).states == states
    else:
        with pytest.raises(GraphError, match="state before and after differ in type or scale"):
            Graph(*parts, states)


def test_parts_are_found_by_name():
    graph = cross(1, 16, 2, 32)
    for dim in graph.dims:
        assert graph.dim(dim.name) is dim
    for name in graph.values:
        readers, writers = (
            [op for op in graph.ops if name in names(op)]
            for names in (lambda op: op.inputs, lambda op: op.outputs)
        )
        assert list(graph.consumers(name)) == readers
        assert [graph.producer(name)] == (writers or [None])


def test_inputs_are_checked():
    graph = mlp(1, [6, 10, 4])
    inputs = random_inputs(graph, 1, 3)
    first, second = graph.inputs
    with pytest.raises(GraphError, match=f"input {second} is missing"):
        graph.evaluate({first: inputs[first]})
    with pytest.raises(GraphError, match=rf"value {first} has shape \[1, 3, 5\], must be"):
        graph.evaluate(inputs | {first: inputs[first][..., :5]})
    for lowest in (-32768, 32768):
        rows = np.zeros((1, 3, 6), np.int64)
        rows[0, 2, 1] = lowest
        with pytest.raises(GraphError, match="holds 32768, its limit is 32767"):
            graph.evaluate(inputs | {first: rows})


def test_work_is_counted_by_real_rows():
    graph = post_norm(1, 16, 2, [32])
    found = graph.macs({"rows": [5, 3]})
    assert found["linear1"] == 8 * 16 * 16
    assert found["attention4"] == 2 * 16 * (25 + 9)
    assert sum(graph.macs({"rows": [8]}).values()) == 8 * (4 * 256 + 2 * 512) + 2 * 64 * 16


def test_elements_are_no_work_of_the_array():
    build = GraphBuilder(1)
    x, cos, sin = build.value(16), build.value(8), build.value(8)
    outputs = [build.norm(x), build.add(x, x), build.multiply(x, x), build.rotary(x, cos, sin, 2)]
    graph = build.graph([x, cos, sin], outputs)
    assert graph.macs({"rows": [5, 3]}) == dict.fromkeys((op.name for op in build.ops), 0)


def test_a_sum_has_shifts_of_its_own():
    build = GraphBuilder(2)
    y, x = build.value(2), build.value(2)
    total = build.add(y, x)
    shifts = {"y_shift": [3, 0], "x_shift": [1, 4], "sum_shift": [2, 1]}
    (op,) = build.ops
    shifts = {name: np.array(numbers) for name, numbers in shifts.items()}
    op = dataclasses.replace(op, parameters=dataclasses.replace(op.parameters, **shifts))
    graph = dataclasses.replace(build.graph([y, x], [total]), ops=(op,))
    rows = {y: np.array([[[101, -7], [32767, 5]]]), x: np.array([[[-9, 3], [32767, 32767]]])}
    assert graph.evaluate(rows)[total].tolist() == [[[198, 21], [32767, 32767]]]


def test_queries_meet_the_keys_of_other_rows():
    graph = cross(1, 16, 2, 32)
    queries, keys = graph.dims
    (attention,) = (op for op in graph.ops if isinstance(op, Attention))
    found = graph.macs({queries.name: [5, 3], keys.name: [7, 2]})
    assert found[attention.name] == 2 * 16 * (5 * 7 + 3 * 2)
