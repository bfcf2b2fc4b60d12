"""The quantised graph: what it refuses, and that its interpreter is the operators one by one."""

import dataclasses

import numpy as np
import pytest
import torch
from graphs import GraphBuilder, cross, gated, mlp, post_norm, pre_norm, random_inputs

from transept.golden.filters import (
    Causal,
    Dense,
    QueryBlock,
    TileThreshold,
    Window,
    kept_tiles,
    key_sums,
)
from transept.golden.graph import Dim, Graph, GraphError, State, Value
from transept.golden.numerics.elementwise import ROTARY_SHIFT, rotate
from transept.golden.numerics.four_bit import FourBitWeights
from transept.golden.numerics.norm import normalise, residual_sum, rounded_sum
from transept.golden.numerics.polynomial import reciprocal
from transept.golden.numerics.requantise import ONE, activation, quantise_halves, quantise_row
from transept.golden.numerics.softmax import LEVELS, MASKED, levels
from transept.golden.ops import Attention, Multiply, Norm, Rotary


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
def attention(key_filter=None, heads=2, kv_heads=1, d=8):
    """Scores of a few units of log2, context in its own units: (graph, operator)."""
    build = GraphBuilder(0)
    q = build.value(d * heads, 8)
    k, v = (build.value(d * kv_heads, 8) for _ in "kv")
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


def rounded(x, shift):
    return (2 * int(x) + (1 << int(shift))) // (2 << int(shift))


def limited(x, bits):
    limit = (1 << bits - 1) - 1
    return max(-limit, min(limit, x))


def attended(op, q, k, v, head):
    """One head of one sequence of real keys by integers alone; and which keys it keeps."""
    multiplier, shift = op.score_multiplier[head], op.score_shift[head]
    channels = op.context.multiplier, op.context.shift, op.context.bias
    channels = [part.reshape(op.heads, -1)[head] for part in channels]
    out, kept = [], []
    for row, query in enumerate(q):
        first = row // op.block * op.block
        block = QueryBlock(
            op.block,
            first,
            len(k),
            query_sum=q[first : first + op.block].sum(0),
            key_sums=key_sums(k, op.block),
        )
        tiles = kept_tiles(op.filter, block)
        scores = np.full(len(k), MASKED)
        for key in range(len(k)):
            if key // op.block in tiles and op.filter.sees(row, key):
                product = rounded(query @ k[key] * multiplier, shift)
                scores[key] = limited(rounded(product << 15, op.score_row_shift), 16)
        level = levels(scores, scores.max(keepdims=True))
        mantissa, exponent = reciprocal(level.sum())
        words = []
        for total, by, down, bias in zip(level @ v, *channels, strict=True):
            total = limited(rounded(total * by, down), 25) * int(mantissa)
            total = limited(rounded(total, op.context_row_shift + exponent), 25)
            words.append(limited(rounded(total + bias, op.context_out_shift), 16))
        out.append(words)
        kept.append((scores != MASKED).tolist())
    return out, kept


@pytest.mark.parametrize(
    ("d", "shift", "row_shift", "out_shift"),
    [(8, 14, 8, 2), (8, 22, 12, 1), (1, 20, 12, 1)],
    ids=["clipped", "every key counts", "heads of one element"],
)
@pytest.mark.parametrize(
    "rule",
    [Dense(), Causal(), Window(2, 1), TileThreshold(100)],
    ids=["dense", "causal", "window", "threshold"],
)
def test_attention_to_the_bit(rule, d, shift, row_shift, out_shift):
    graph, op = attention(rule, heads=4, kv_heads=2, d=d)
    context = {"context_row_shift": row_shift, "context_out_shift": out_shift}
    op = dataclasses.replace(op, score_row_shift=shift, **context)
    inputs, found = evaluated(dataclasses.replace(graph, ops=(op,)), 2, 10, {"rows": [10, 7]})
    every = set()
    for sequence, length in enumerate([10, 7]):
        for head in range(4):
            q, k, v = (
                inputs[name][sequence][:, d * n : d * n + d].astype(np.int64)
                for name, n in zip(op.inputs, (head, head // 2, head // 2), strict=True)
            )
            wanted, kept = attended(op, q, k[:length], v[:length], head)
            assert found[op.out][sequence][:, d * head : d * head + d].tolist() == wanted
            every |= set(map(tuple, kept))
    assert len(every) > 2 or rule == Dense()
    assert np.abs(found[op.out]).max() == 32767 or row_shift != 8


@pytest.mark.parametrize("bits", [16, 8])
@pytest.mark.parametrize("table", [False, True], ids=["plain", "table"])
@pytest.mark.parametrize(
    ("x_bits", "halves", "k"), [(16, False, 9), (16, True, 9), (8, False, 9), (8, False, 1)]
)
def test_linear_layers_to_the_bit(x_bits, halves, k, table, bits):
    build = GraphBuilder(5)
    x = build.value(k, x_bits)
    y = build.linear(x, 6, bits, table=table)
    row_shift, out_shift = {16: (15, 3), 8: (23, 7)}[bits]
    op = dataclasses.replace(build.ops[0], halves=halves, row_shift=row_shift, out_shift=out_shift)
    graph = dataclasses.replace(build.graph([x], [y]), ops=(op,))
    limit = 32767 if x_bits == 16 else 127
    rows = np.random.default_rng(6).integers(-limit, limit + 1, (1, 12, k))
    if x_bits == 16:
        rows[0, :4, 0] = 32767, -32767, 32766, 40
        rows[0, 3:6] = np.sign(rows[0, 3:6]) * (np.abs(rows[0, 3:6]) % 200)
    wanted = []
    for row in rows[0]:
        scale, parts = ONE, (row,)
        if x_bits == 16:
            most = np.abs(row).max()
            scale = max(256, int(most))
            parts = quantise_halves(row, most) if halves else (quantise_row(row, most),)
        words = []
        for weight, by, down, bias in zip(
            op.weight.astype(np.int64), *vars(op.channel).values(), strict=True
        ):
            sums = [int(weight @ part) for part in parts]
            total = limited(rounded(sums[0] + (sums[1] // 128 if halves else 0), 0), 25)
            total = limited(rounded(total * int(by), down), 25)
            total = rounded(limited(rounded(total * scale, row_shift), 25) + int(bias), out_shift)
            total = limited(total, 16 if table else bits)
            if table:
                total = limited(int(activation(np.array([total]), op.table)[0]), bits)
            words.append(total)
        wanted.append(words)
    assert graph.evaluate({x: rows})[y][0].tolist() == wanted
    assert len(set(np.abs(wanted).ravel().tolist())) > 12


@pytest.mark.parametrize("centre", [True, False], ids=["layer norm", "RMS norm"])
def test_a_norm_is_one_of_its_sum(centre):
    build = GraphBuilder(7)
    y, x = build.value(9), build.value(9)
    outputs = build.norm_and_sum(y, x, centre=centre)
    op = build.ops[0]
    inputs, found = evaluated(build.graph([y, x], outputs))
    z = residual_sum(inputs[y].astype(np.int64), inputs[x].astype(np.int64), op.parameters)
    normed = normalise(z, op.parameters, epsilon=1000, out_shift=18, centre=centre)
    assert np.array_equal(found[outputs[0]], normed)
    assert np.array_equal(found[outputs[1]], rounded_sum(z, op.parameters))


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


@pytest.mark.parametrize(
    ("x", "partner", "cos", "sin", "shift", "expected"),
    [
        (32767, 0, 32767, 0, 9, 64),  # 65532 without the limit of 16 bits
        (0, -32767, 0, 32767, 9, -64),
        (32767, 32767, 16384, 16384, 9, 127),
        (100, 7, 8192, -16384, 1, 22),  # 50 - 7, halves are rounded up
        (3, 1, 8192, 8192, 0, 3),
        (-3, -1, 8192, 8192, 0, -1),
    ],
)
def test_each_part_of_a_turned_element_has_16_bits(x, partner, cos, sin, shift, expected):
    assert rotate(x, partner, cos, sin, shift=shift) == expected


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


def turned(
    heads=2, width=16, d=8, bits=8, x_bits=16, cos_bits=16, dim="rows", shift=7, out_width=None
):
    """A rotary embedding with one thing that is not as it must be."""
    values = {
        "x": Value("x", "rows", width, x_bits),
        "cos": Value("cos", dim, d, cos_bits),
        "sin": Value("sin", dim, d),
        "out": Value("out", "rows", out_width or width, bits),
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
        (lambda: turned(out_width=15), "turn has x of rows x 16 and out of rows x 15"),
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
    turned(heads=1, width=8, shift=15)
    multiplied()
    multiplied(shift=0)


def put(name, *numbers):
    """An operator whose parameter ``name`` begins with other numbers."""

    def make(op):
        array = getattr(op, name).copy()
        array[: len(numbers)] = numbers
        return dataclasses.replace(op, **{name: array})

    return make


def inside(part, name, *numbers):
    """The same of a parameter of ``part``."""

    def make(op):
        return dataclasses.replace(op, **{part: put(name, *numbers)(getattr(op, part))})

    return make


def checked(op, values, change, others):
    """Check an operator with one thing changed, of it or of its values."""
    op = change(op) if callable(change) else dataclasses.replace(op, **change)
    op.check(values | {name: dataclasses.replace(values[name], **o) for name, o in others.items()})


@pytest.mark.parametrize(
    ("change", "others", "message"),
    [
        ({"heads": 0}, {}, "has heads 0, at least 1 is due"),
        ({"kv_heads": -1}, {}, "has kv_heads -1, at least 1 is due"),
        ({"block": 0}, {}, "has block 0, at least 1 is due"),
        ({}, {"v0": {"bits": 16}}, "takes v0 of 8 bits, not 16"),
        ({}, {"v1": {"bits": 16}}, "takes v1 of 8 bits, not 16"),
        ({}, {"v2": {"bits": 16}}, "takes v2 of 8 bits, not 16"),
        ({}, {"v3": {"bits": 8}}, "takes v3 of 16 bits, not 8"),
        ({"heads": 5}, {}, "has 5 heads for 2 key-value heads"),
        ({}, {"v0": plain(width=30)}, "4 heads do not divide the 30 of v0"),
        ({}, {"v1": plain(width=15)}, "2 heads do not divide the 15 of v1"),
        ({}, {"v2": plain(width=17)}, "2 heads do not divide the 17 of v2"),
        ({}, {"v0": plain(width=28)}, "heads of v0 and v1 differ in width"),
        ({}, {"v3": plain(width=36)}, "v3 has 36 elements for its heads"),
        ({}, {"v2": plain(width=18)}, "v3 has 32 elements for its heads"),
        ({}, {"v1": {"dim": "keys"}}, "v1, v2 or v0, v3 differ in rows"),
        ({}, {"v2": {"dim": "keys"}}, "v1, v2 or v0, v3 differ in rows"),
        ({}, {"v3": {"dim": "keys"}}, "v1, v2 or v0, v3 differ in rows"),
        (put("score_multiplier", 1 << 16, 0), {}, "holds 65536, outside 0 to 65535"),
        (put("score_shift", 0, -1), {}, "holds -1, outside 0 to 31"),
        ({"score_shift": np.zeros(2, np.int64)}, {}, r"is int64\[2\], must be int64\[4\]"),
        ({"score_shift": np.zeros(4)}, {}, r"is float64\[4\], must be int64\[4\]"),
        ({"score_row_shift": 64}, {}, "field row_shift=64 is outside 0 to 63"),
        (inside("context", "bias", -1, -1 - (1 << 23)), {}, "holds -8388609, outside -8388608 to"),
        ({"context_row_shift": -1}, {}, "field row_shift=-1 is outside 0 to 63"),
        ({"context_out_shift": 16}, {}, "field out_shift=16 is outside 0 to 15"),
    ],
)
def test_attention_that_does_not_fit(change, others, message):
    graph, op = attention(heads=4, kv_heads=2)
    with pytest.raises(GraphError, match=f"^(.* of )?attention0:? {message}"):
        checked(op, graph.values, change, others)


@pytest.mark.parametrize(
    ("change", "others"),
    [
        ({"block": 1, "score_row_shift": 63, "context_row_shift": 63, "context_out_shift": 15}, {}),
        ({"score_row_shift": 0, "context_row_shift": 0, "context_out_shift": 0}, {}),
        (put("score_multiplier", 65535, 0), {}),
        (put("score_shift", 31, 0), {}),
        (inside("context", "bias", (1 << 23) - 1, -(1 << 23)), {}),
        ({}, {"v1": {"dim": "keys"}, "v2": {"dim": "keys"}}),
    ],
)
def test_attention_at_its_limits(change, others):
    graph, op = attention(heads=4, kv_heads=2)
    checked(op, graph.values, change, others)


def linear(total=100, halves=False, k=4224):
    """A linear layer whose first output has weights of this sum of magnitudes."""
    build = GraphBuilder(0, dims=("rows", "keys"))
    x = build.value(k)
    build.linear(x, 2)
    weight = np.zeros((2, k), np.int8)
    weight[0, : total // 127], weight[0, total // 127] = -127, total % 127
    return dataclasses.replace(build.ops[0], weight=weight, halves=halves), build.values


@pytest.mark.parametrize(
    ("halves", "most", "reach"), [(False, 528416, 67108959), (True, 526344, 67108988)]
)
def test_sums_that_an_accumulator_holds(halves, most, reach):
    """``127 * most`` is less than ``2**26``, with half of it once more for the lower halves."""
    op, values = linear(most, halves)
    op.check(values)
    op, values = linear(most + 1, halves)
    with pytest.raises(GraphError, match=f"may reach {reach}, accumulators have 27 bits"):
        op.check(values)


def four_bit(n, k, code=3):
    """Weights of four bits, each of them ``code``."""
    groups = np.full((n, k // 32), 128, np.uint16), np.zeros((n, k // 32), np.int16)
    return FourBitWeights(np.full((n, k), code, np.uint8), *groups)


THREES = {"weight": np.full((2, 64), 3, np.int8)}


@pytest.mark.parametrize(
    ("change", "others", "message"),
    [
        ({"weight": np.zeros((2, 64))}, {}, r"weights of linear0 are float64\[2, 64\], must be"),
        ({}, {"v1": plain(width=3)}, r"are int8\[2, 64\], must be int8\[3, 64\]"),
        (inside("channel", "shift", 0, 32), {}, "shift of linear0 holds 32, outside 0 to 31"),
        ({"row_shift": 64}, {}, "linear0: field row_shift=64 is outside 0 to 63"),
        ({"out_shift": 16}, {}, "linear0: field out_shift=16 is outside 0 to 15"),
        (
            lambda op: dataclasses.replace(op, table=dataclasses.replace(op.table, width=16)),
            {},
            "width of the table of linear0 holds 16, outside 0 to 15",
        ),
        (inside("table", "c2", 1 << 15), {}, "c2 of the table of linear0 holds 32768, outside"),
        ({}, {"v1": {"dim": "keys"}}, "linear0 reads rows of rows and writes rows of keys"),
        (
            {"weight": np.eye(2, 64, dtype=np.int8) * -128},
            {},
            "linear0 hold -128, operands are -127",
        ),
        ({"halves": True}, {"v0": {"bits": 8}}, "linear0 has halves of rows of 8 bits, must be 16"),
        (
            {"packed": four_bit(2, 32)},
            {},
            r"four-bit weights of linear0: codes is uint8\[2, 32\], must be uint8\[2, 64\]",
        ),
        (
            {"packed": four_bit(2, 64, 4), **THREES},
            {},
            "weights of linear0 are not those of its four bits",
        ),
    ],
)
def test_linear_layers_that_do_not_fit(change, others, message):
    op, values = linear(k=64)
    op = dataclasses.replace(op, table=GraphBuilder(0).table())
    checked(op, values, {"packed": four_bit(2, 64), **THREES}, {})
    checked(op, values, {"halves": True, "row_shift": 63, "out_shift": 15}, {})
    with pytest.raises(GraphError, match=message):
        checked(op, values, change, others)


def normed(width=4):
    """A norm of a sum that is kept."""
    build = GraphBuilder(0, dims=("rows", "keys"))
    build.norm_and_sum(build.value(width), build.value(width))
    return build.ops[0], build.values


@pytest.mark.parametrize(
    ("change", "others", "message"),
    [
        *(
            ({}, {f"v{n}": {"bits": 8}}, f"norm0 takes int16 rows, v{n} has 8 bits")
            for n in range(4)
        ),
        *(
            ({}, {f"v{n}": plain(width=5)}, f"norm0 has v0 of rows x 4 and v{n} of rows x 5")
            for n in range(1, 4)
        ),
        ({}, {"v3": {"dim": "keys"}}, "norm0 has v0 of rows x 4 and v3 of keys x 4"),
        (inside("parameters", "sum_shift", 16), {}, "sum_shift of norm0 holds 16, outside 0 to 15"),
        ({"epsilon": 1 << 32}, {}, "norm0: field epsilon=4294967296 is outside 0 to 4294967295"),
        ({"out_shift": -1}, {}, "norm0: field out_shift=-1 is outside 0 to 63"),
    ],
)
def test_norms_that_do_not_fit(change, others, message):
    op, values = normed()
    checked(op, values, {"epsilon": (1 << 32) - 1, "out_shift": 63}, {})
    with pytest.raises(GraphError, match=message):
        checked(op, values, change, others)


def test_the_shortest_norm_has_two_elements():
    op, values = normed(2)
    op.check(values)
    op, values = normed(1)
    with pytest.raises(GraphError, match="norm0 needs rows of at least 2 elements, got 1"):
        op.check(values)


@pytest.mark.parametrize(
    ("change", "others", "message"),
    [
        ({}, {"v1": {"bits": 8}}, "add0 takes int16 rows, v1 has 8 bits"),
        ({}, {"v2": {"bits": 8}}, "add0 takes int16 rows, v2 has 8 bits"),
        ({}, {"v2": plain(width=5)}, "add0 has v0 of rows x 4 and v2 of rows x 5"),
        (inside("parameters", "y_shift", -1), {}, "y_shift of add0 holds -1, outside 0 to 15"),
    ],
)
def test_sums_that_do_not_fit(change, others, message):
    build = GraphBuilder(0)
    build.add(build.value(4), build.value(4))
    with pytest.raises(GraphError, match=message):
        checked(build.ops[0], build.values, change, others)


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
