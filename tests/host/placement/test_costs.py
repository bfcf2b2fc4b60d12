"""What is known of an operator and of a device: features, signatures, costs as data."""

import dataclasses

import numpy as np
import pytest
from graphs import GraphBuilder, four_bits, linear_alone, mlp
from placements import SHAPE

from transept.golden.filters import Causal
from transept.host.compiler.cut import Shape
from transept.host.placement.costs import (
    DeviceCosts,
    Sample,
    features,
    fitted,
    kind_of,
    signature,
)


def attention():
    """Two sequences of 5 rows that look at 7: linear layers, an attention, a linear layer with an
    activation, and a sum."""
    build = GraphBuilder(1, dims=("rows", "memory"))
    x, memory = build.value(6), build.value(3, dim="memory")
    q, k, v = build.linear(x, 8, 8), build.linear(memory, 4, 8), build.linear(memory, 4, 8)
    context = build.attention(q, k, v, 4, 2, Causal())
    y = build.linear(context, 6, table=True)
    total = build.add(y, x)
    return build.graph([x, memory], [total]), Shape(2, {"rows": 5, "memory": 7})


def test_features_are_work_and_elements():
    """One launch; multiply-accumulates; elements in and out; scores or activations."""
    graph, shape = attention()
    rows, memory, scores = 2 * 5, 2 * 7, 2 * 4 * 5 * 7
    assert {op.name: features(graph, shape, op) for op in graph.ops} == {
        "linear0": [1.0, rows * 6 * 8, rows * (6 + 8), 0.0],
        "linear1": [1.0, memory * 3 * 4, memory * (3 + 4), 0.0],
        "linear2": [1.0, memory * 3 * 4, memory * (3 + 4), 0.0],
        "attention3": [1.0, 2 * 2 * 5 * 7 * 8, rows * (8 + 8) + memory * (4 + 4), scores],
        "linear4": [1.0, rows * 8 * 6, rows * (8 + 6), rows * 6],
        "add5": [1.0, 0, rows * (6 + 6 + 6), 0.0],
    }


def test_signatures_are_of_what_decides_the_time():
    graph, shape = attention()
    assert {op.name: signature(graph, shape, op) for op in graph.ops} == {
        "linear0": '["linear", 2, [5, 6, 16], [5, 8, 8], ""]',
        "linear1": '["linear", 2, [7, 3, 16], [7, 4, 8], ""]',
        "linear2": '["linear", 2, [7, 3, 16], [7, 4, 8], ""]',
        "attention3": '["attention", 2, [5, 8, 8], [7, 4, 8], [7, 4, 8], [5, 8, 16], 4, 2, '
        '"Causal()"]',
        "linear4": '["linear", 2, [5, 8, 16], [5, 6, 16], "activation"]',
        "add5": '["add", 2, [5, 6, 16], [5, 6, 16], [5, 6, 16]]',
    }
    assert [kind_of(op) for op in graph.ops[2:4]] == ["linear", "attention"]


def test_signatures_of_four_bits_are_their_own():
    graph, shape = linear_alone(1, 32, 8), Shape(1, {"rows": 5})
    packed = four_bits(graph)
    halves = dataclasses.replace(packed.ops[0], packed=None)
    found = [signature(graph, shape, op) for op in (graph.ops[0], halves, packed.ops[0])]
    assert found == [
        f'["linear", 1, [5, 32, 16], [5, 8, 16], ""{more}]'
        for more in ("", ', "halves"', ', "halves", "packed"')
    ]


# --- devices
GRAPH = mlp(1, [4, 8])
LINEAR = GRAPH.ops[0]


def sample(rows, seconds, kind="linear"):
    return Sample(kind, features(GRAPH, Shape(1, {"rows": rows}), LINEAR), seconds)


def test_an_operator_takes_what_was_measured_or_what_fits_its_kind():
    known = DeviceCosts(0.5, 4.0)
    with pytest.raises(KeyError, match="linear"):
        known.operator(GRAPH, SHAPE, LINEAR)
    one, other = Shape(1, {"rows": 10}), Shape(1, {"rows": 30})
    known.add(signature(GRAPH, one, LINEAR), sample(10, 7.0))
    assert known.operator(GRAPH, one, LINEAR) == 7.0
    known.add("another", sample(50, 35.0))
    known.add("of another kind", sample(50, 1e6, "norm"))
    assert known.operator(GRAPH, other, LINEAR) == pytest.approx(21.0)
    known.add("one more", sample(50, 1e-3))
    assert known.operator(GRAPH, other, LINEAR) < 20
    assert known.kinds == {"linear", "norm"}
    assert known.transfer(10) == 2.5


def test_costs_are_data():
    known = DeviceCosts(0.5, 4.0, {"key": Sample("norm", [1.0, 2.0], 3.0)})
    told = {"launch": 0.5, "bytes_per_second": 4.0, "samples": {"key": ["norm", [1.0, 2.0], 3.0]}}
    assert known.told() == told
    assert DeviceCosts.read(told) == known
    assert known.scaled(3.0) == DeviceCosts(1.5, 4.0, {"key": Sample("norm", [1.0, 2.0], 9.0)})


def test_later_samples_come_before_earlier_ones():
    old = DeviceCosts(1.0, 2.0, {"a": Sample("norm", [1], 1.0), "b": Sample("norm", [1], 2.0)})
    new = DeviceCosts(3.0, 4.0, {"b": Sample("norm", [1], 5.0), "c": Sample("add", [1], 6.0)})
    samples = {"a": Sample("norm", [1], 1.0), **new.samples}
    assert new.joined(old) == DeviceCosts(3.0, 4.0, samples)


def test_factors_of_all_features_are_found():
    """The last one too; one that would be negative is left out."""
    rows = [[1, 5, 2, 3], [1, 2, 7, 1], [1, 9, 4, 6], [1, 3, 3, 8], [1, 6, 1, 2]]
    samples = [Sample("x", row, 1 + 2 * row[1] + 3 * row[2] + 4 * row[3]) for row in rows]
    assert fitted(samples) == pytest.approx([1, 2, 3, 4])
    falling = [Sample("x", [1.0, n, 0, 0], 10 - n) for n in (1.0, 2.0, 4.0)]
    seconds = np.array([9.0, 8.0, 6.0])
    mean = (1 / seconds).sum() / (1 / seconds**2).sum()  # of the least relative errors
    assert fitted(falling) == pytest.approx([mean, 0, 0, 0])


def test_one_factor_is_left_however_it_fits():
    """Features that are nothing in every sample have none, and the last is not below zero."""
    assert fitted([Sample("x", [0.0, 2.0, 0.0], 4.0)]) == [0.0, pytest.approx(2.0), 0.0]
    negative = [Sample("x", [-1.0, 0.0], 1.0), Sample("x", [-2.0, 0.0], 2.0)]
    assert fitted(negative) == [0.0, 0.0]
