"""The quantised graph: what it refuses, and that its interpreter is the operators one by one."""

import dataclasses

import numpy as np
import pytest
import torch
from graphs import GraphBuilder, cross, gated, mlp, post_norm, pre_norm, random_inputs

from transept.golden.filters import Causal, TileThreshold, Window
from transept.golden.graph import Dim, Graph, GraphError, State, Value
from transept.golden.numerics.elementwise import ROTARY_SHIFT
from transept.golden.numerics.softmax import LEVELS
from transept.golden.ops import Attention, Multiply, Rotary


def evaluated(graph, batch=2, length=9, lengths=None):
    inputs = random_inputs(graph, batch, length)
    return inputs, graph.evaluate_all(inputs, lengths)


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


# --- operators against real numbers -------------------------------------------------------------
def attention(key_filter=None, heads=2, kv_heads=1):
    """Scores of a few units of log2, context in its own units: (graph, operator)."""
    build = GraphBuilder(0)
    q = build.value(8 * heads, 8)
    k, v = (build.value(8 * kv_heads, 8) for _ in "kv")
    out = build.attention(q, k, v, heads, kv_heads, key_filter)
    return build.graph([q, k, v], [out]), build.ops[-1]


@pytest.mark.parametrize("rule", [None, Causal(), Window(2, 1)], ids=["dense", "causal", "window"])
def test_attention_is_softmax_times_values(rule):
    graph, op = attention(rule)
    inputs, found = evaluated(graph, 2, 12, {"rows": [12, 7]})
    step = op.score_multiplier * 2.0 ** -(op.score_shift + op.score_row_shift - 15) / 256
    unit = op.context.multiplier * 2.0 ** (16 - op.context.shift - op.context_row_shift - 8)
    query, key = np.arange(12)[:, None], np.arange(12)
    for sequence, length in enumerate([12, 7]):
        seen = (key < length) & (True if rule is None else rule.sees(query, key))
        for head in range(2):
            q, k, v = (inputs[name][sequence].astype(float) for name in op.inputs)
            scores = q[:, 8 * head : 8 * head + 8] @ k.T * step[head]
            kept = np.where(seen, scores, -1e9)
            p = np.exp2(kept - kept.max(1, keepdims=True)) * seen
            own = slice(8 * head, 8 * head + 8)
            wanted = (
                p @ v / p.sum(1, keepdims=True).clip(1) * unit[own] + op.context.bias[own] / 256
            )
            got = found[op.out][sequence, :, own]
            off = 127 * unit[own].max() * 2 * length / LEVELS + 1
            assert np.abs(got - wanted)[:length].max() <= off


def test_a_product_is_one_of_elements():
    build = GraphBuilder(3)
    y, x = build.value(7), build.value(7)
    for bits in (16, 8):
        out = build.multiply(y, x, bits)
    graph = build.graph([y, x], [graph_op.out for graph_op in build.ops])
    inputs, found = evaluated(graph)
    real = inputs[y].astype(np.int64) * inputs[x]
    for op in graph.ops:
        limit = graph.values[op.out].limit
        wanted = np.clip(np.floor(real / 2.0**op.shift + 0.5), -limit, limit)
        assert np.array_equal(found[op.out], wanted)
    assert out in found


def test_a_rotary_embedding_turns_pairs():
    """Of real numbers, to half a step of each product and of the result."""
    heads, d, rng = 3, 8, np.random.default_rng(4)
    build = GraphBuilder(4)
    x, cos, sin = build.value(heads * d), build.value(d), build.value(d)
    build.rotary(x, cos, sin, heads)
    (op,) = build.ops
    graph = build.graph([x, cos, sin], [op.out])
    angle = np.tile(rng.uniform(-np.pi, np.pi, (2, 5, d // 2)), 2)
    sign = np.repeat([-1, 1], d // 2)
    one = 1 << ROTARY_SHIFT
    rows = rng.integers(-32767, 32768, (2, 5, heads * d))
    inputs = {
        x: rows,
        cos: np.rint(np.cos(angle) * one).astype(np.int64),
        sin: np.rint(np.sin(angle) * sign * one).astype(np.int64),
    }
    found = graph.evaluate(inputs)[op.out].reshape(2, 5, heads, d)
    pairs = rows.reshape(2, 5, heads, 2, d // 2)
    turned = (pairs[..., 0, :] + 1j * pairs[..., 1, :]) * np.exp(1j * angle[:, :, None, : d // 2])
    wanted = np.concatenate([turned.real, turned.imag], -1) / 2.0**op.shift
    off = np.abs(found - wanted.clip(-127, 127))
    assert off.max() <= 0.5 + 2.0 / 2**op.shift
    assert (np.abs(wanted) > 127).any()


def test_grouped_queries_share_keys():
    graph, op = attention(heads=4, kv_heads=2)
    _, found = evaluated(graph)
    single = dataclasses.replace(
        op,
        heads=4,
        kv_heads=4,
        k="wide k",
        v="wide v",
    )
    values = dict(graph.values)
    arrays = dict(found)
    for name, wide in ((op.k, "wide k"), (op.v, "wide v")):
        rows = found[name].reshape(*found[name].shape[:2], 2, 8)
        arrays[wide] = np.repeat(rows, 2, axis=2).reshape(*rows.shape[:2], 32)
        values[wide] = Value(wide, "rows", 32, 8)
    assert np.array_equal(single.evaluate(values, arrays, {})[op.out], found[op.out])


# --- what does not fit together ------------------------------------------------------------------
def parts(graph):
    return {field.name: getattr(graph, field.name) for field in dataclasses.fields(graph)}


def changed(**changes):
    graph = mlp(1, [6, 10, 4])
    found = parts(graph)
    return found | {name: make(found[name]) for name, make in changes.items()}


def without(name):
    return lambda values: {key: value for key, value in values.items() if key != name}


BROKEN = {
    "two operators are called linear0": {"ops": lambda ops: (*ops, ops[0])},
    "the graph defines v0 a second time": {"inputs": lambda names: (*names, "v0")},
    "reads v., which nothing before it defines": {"ops": lambda ops: ops[::-1]},
    "which is no value": {"values": without("v0")},
    "has an unknown dimension rows": {"dims": lambda _: ()},
    "the output reads nothing": {"outputs": lambda _: ("nothing",)},
    "a state goes from an output to an input": {"states": lambda _: (State("v1", "v0"),)},
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
    ],
)
def test_parts_that_are_none(make, message):
    with pytest.raises(GraphError, match=message):
        make()


def turned(heads=2, width=16, d=8, bits=8, x_bits=16, cos_bits=16, dim="rows", shift=7):
    """A rotary embedding with one thing that is not as it must be."""
    values = {
        "x": Value("x", "rows", width, x_bits),
        "cos": Value("cos", dim, d, cos_bits),
        "sin": Value("sin", dim, d),
        "out": Value("out", "rows", width, bits),
    }
    Rotary("turn", "x", "cos", "sin", "out", heads, shift).check(values)


def multiplied(width=4, x_bits=16, dim="rows", shift=15):
    values = {
        "y": Value("y", "rows", 4),
        "x": Value("x", dim, 4, x_bits),
        "out": Value("out", "rows", width),
    }
    Multiply("gate", "y", "x", "out", shift).check(values)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: turned(heads=0), "turn has 0 heads of 8 elements for the 16 of x"),
        (lambda: turned(heads=4), "turn has 4 heads of 8 elements for the 16 of x"),
        (lambda: turned(heads=2, width=10, d=5), "pairs are due"),
        (lambda: turned(x_bits=8), "turn takes int16 rows, x has 8 bits"),
        (lambda: turned(cos_bits=8), "turn takes int16 rows, cos has 8 bits"),
        (lambda: turned(bits=16), "turn makes 8 bits, out has 16"),
        (lambda: turned(dim="others"), "turn: x and cos differ in rows"),
        (lambda: turned(shift=16), "turn: field shift=16 is outside 0 to 15"),
        (lambda: multiplied(width=5), "gate has y of rows x 4 and out of rows x 5"),
        (lambda: multiplied(x_bits=8), "gate takes int16 rows, x has 8 bits"),
        (lambda: multiplied(dim="others"), "gate has y of rows x 4 and x of others x 4"),
        (lambda: multiplied(shift=-1), "gate: field shift=-1 is outside 0 to 15"),
    ],
)
def test_elements_that_do_not_meet(make, message):
    with pytest.raises(GraphError, match=message):
        make()


def test_what_meets_is_taken():
    turned()
    multiplied()


def test_inputs_are_checked():
    graph = mlp(1, [6, 10, 4])
    inputs = random_inputs(graph, 1, 3)
    first, second = graph.inputs
    with pytest.raises(GraphError, match=f"input {second} is missing"):
        graph.evaluate({first: inputs[first]})
    with pytest.raises(GraphError, match=rf"value {first} has shape \[1, 3, 5\], must be"):
        graph.evaluate(inputs | {first: inputs[first][..., :5]})
    with pytest.raises(GraphError, match="holds 32768, its limit is 32767"):
        graph.evaluate(inputs | {first: np.full((1, 3, 6), -32768)})


def test_work_is_counted_by_real_rows():
    graph = post_norm(1, 16, 2, [32])
    found = graph.macs({"rows": [5, 3]})
    assert found["linear1"] == 8 * 16 * 16
    assert found["attention4"] == 2 * 16 * (25 + 9)
    assert sum(graph.macs({"rows": [8]}).values()) == 8 * (4 * 256 + 2 * 512) + 2 * 64 * 16


def test_queries_meet_the_keys_of_other_rows():
    graph = cross(1, 16, 2, 32)
    queries, keys = graph.dims
    (attention,) = (op for op in graph.ops if isinstance(op, Attention))
    found = graph.macs({queries.name: [5, 3], keys.name: [7, 2]})
    assert found[attention.name] == 2 * 16 * (5 * 7 + 3 * 2)
