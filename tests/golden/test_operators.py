"""Operators of a graph, against real numbers and to the bit."""

import dataclasses
import itertools

import numpy as np
import pytest
from graphs import GraphBuilder, attention_alone, evaluated

from transept.golden.filters import (
    Causal,
    Dense,
    QueryBlock,
    TileThreshold,
    Window,
    kept_tiles,
    key_sums,
)
from transept.golden.graph import Value
from transept.golden.numerics.elementwise import ROTARY_SHIFT, rotate
from transept.golden.numerics.norm import normalise, residual_sum, rounded_sum
from transept.golden.numerics.polynomial import reciprocal
from transept.golden.numerics.requantise import ONE, activation, quantise_halves, quantise_row
from transept.golden.numerics.softmax import LEVELS, MASKED, levels


@pytest.mark.parametrize("rule", [None, Causal(), Window(2, 1)], ids=["dense", "causal", "window"])
def test_attention_is_softmax_times_values(rule):
    graph = attention_alone(0, 16, 2, rule, kv_heads=1)
    (op,) = graph.ops
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
    graph = attention_alone(0, 4 * d, 4, rule, kv_heads=2)
    (op,) = graph.ops
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
    graph = attention_alone(0, 32, 4, kv_heads=2)
    (op,) = graph.ops
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


def test_a_filter_that_looks_is_asked_once_for_each_block_and_tile():
    asked = []

    class Noting(TileThreshold):
        def keeps(self, block, tile):
            asked.append((block.position, block.first_key(tile)))
            return super().keeps(block, tile)

    graph = attention_alone(0, 8, 1, Noting(100))
    (op,) = graph.ops
    evaluated(graph, 1, 2 * op.block + 1)
    places = range(0, 2 * op.block + 1, op.block)
    assert asked == list(itertools.product(places, places))
