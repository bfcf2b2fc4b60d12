"""The CPU backend has the bits of the golden model: every operator, whatever the inputs."""

import dataclasses

import numpy as np
import pytest
import torch
from graphs import (
    attention_alone,
    mlp,
)
from operators import (
    INPUTS,
    add,
    alone,
    attention,
    channel,
    inputs,
    linear,
    multiply,
    norm,
    rotary,
    same_bits,
    table,
)

from transept.golden.filters import Causal, Dense, TileThreshold, Window
from transept.golden.graph import Dim, Graph, Value
from transept.golden.ops import Append
from transept.host.backends.cpu import arrays, product
from transept.host.backends.cpu.cache import AppendKernel
from transept.host.backends.cpu.graph import kernel_of
from transept.host.backends.cpu.kernel import GoldenKernel
from transept.host.bench.gpu import attention_op, linear_op

FILTERS = [Dense(), Causal(), Window(5, 3), TileThreshold(40)]


@pytest.fixture(params=["int8", "float32"])
def way(request, monkeypatch):
    """How int8 is multiplied: as this CPU can, and as any other."""
    if request.param == "float32":
        monkeypatch.setattr(product, "has_int8_products", lambda: False)
        monkeypatch.delattr(torch, "_int_mm")
    return request.param


@pytest.fixture
def small_blocks(monkeypatch):
    """Kernels work on few elements at a time."""
    monkeypatch.setattr(arrays, "BLOCK", 100)


# --- linear layers
@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize(("x_bits", "y_bits"), [(16, 16), (16, 8), (8, 16), (8, 8)])
@pytest.mark.parametrize("activated", [False, True])
def test_linear_layers(kind, x_bits, y_bits, activated, way):
    rng = np.random.default_rng(7)
    for n, k in ((1, 1), (3, 17), (48, 3), (17, 384)):
        constants = channel(
            n,
            rng.integers(0, 1 << 16, n),
            rng.integers(0, 32, n),
            rng.integers(-1 << 20, 1 << 20, n),
        )
        for parameters in (constants, channel(n, 50_000, 10 + k.bit_length())):
            graph = linear(
                rng.integers(-127, 128, (n, k)),
                parameters,
                x_bits=x_bits,
                y_bits=y_bits,
                activation=table(rng) if activated else None,
            )
            same_bits(graph, inputs(graph, 2, 5, kind))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("n", "k"), [(70, 50), (140, 300), (40, 1100)])
def test_layers_as_quantisation_makes_them(n, k, bits, way):
    op = linear_op(n, k, bits)
    graph = linear(
        op.weight, op.channel, row_shift=op.row_shift, out_shift=op.out_shift, y_bits=bits
    )
    rng = np.random.default_rng(k)
    for spread in (10, 6000, 1e6):  # small rows, usual ones, and such that everything saturates
        x = rng.normal(0, spread, (2, 20, k)).clip(-32767, 32767).astype(np.int16)
        y = same_bits(graph, {"x": x})["y"]
        assert spread > 6000 or len(np.unique(y)) > 5


@pytest.mark.parametrize("k", [3072, 4096])
def test_the_deepest_products(k, way):
    """Sums of up to 66,064,384, some beyond 25 bits."""
    rng = np.random.default_rng(0)
    weight = np.concatenate(
        [np.full((2, k), 127), np.full((2, k), -127), rng.choice([-127, 127], (3, k))]
    )
    for bits in (8, 16):
        for shift in (16, 20, 27):
            graph = linear(weight, channel(7, 65535, shift, -5), row_shift=17, x_bits=bits)
            for kind in INPUTS:
                same_bits(graph, inputs(graph, 1, 4, kind))


@pytest.mark.parametrize("halves", [False, True])
@pytest.mark.parametrize("k", [1040, 1041])
def test_sums_that_25_bits_just_hold(k, halves):
    """16,774,160, or 13,074 more than they do; beside a channel of small ones."""
    weight = np.stack([np.full(k, x) for x in (1, 127, -127)])
    graph = linear(weight, channel(3, 65535, 27), out_shift=0)
    (op,) = graph.ops
    graph = alone(dataclasses.replace(op, halves=halves), *graph.values.values())
    found = same_bits(graph, {"x": np.full((1, 2, k), 32767, np.int16)})["y"]
    assert abs(found).max() < 8193


@pytest.mark.parametrize("order", [(False, True), (True, False), (True, True)])
def test_layers_of_the_same_rows_in_halves_and_not(order):
    rng = np.random.default_rng(0)
    weight = rng.integers(-127, 128, (5, 40))
    (op,) = linear(weight, channel(5, 50_000, 16)).ops
    ops = [
        dataclasses.replace(op, name=name, y=name, halves=halves)
        for name, halves in zip("yz", order, strict=True)
    ]
    values = {"x": Value("x", "rows", 40)} | {name: Value(name, "rows", 5) for name in "yz"}
    graph = Graph((Dim("rows", 99),), values, ("x",), ("y", "z"), tuple(ops))
    found = same_bits(graph, inputs(graph, 2, 9, "real"))
    assert np.array_equal(found["y"], found["z"]) is (order[0] == order[1])


@pytest.mark.parametrize("row_shift", [0, 5, 14, 28, 29, 40, 63])
@pytest.mark.parametrize("bias", [0, 77, -(1 << 23) + 1])
def test_layers_whose_steps_saturate(row_shift, bias):
    rng = np.random.default_rng(1)
    weight = rng.integers(-127, 128, (20, 30))
    for shift in (0, 4, 8, 12, 16, 31):
        for out_shift in (0, 1, 8, 15):
            parameters = channel(20, rng.integers(1 << 15, 1 << 16, 20), shift, bias)
            graph = linear(weight, parameters, row_shift=row_shift, out_shift=out_shift)
            x = rng.choice([-32767, -300, 300, 32767], (1, 6, 1)) * rng.random((1, 6, 30))
            same_bits(graph, {"x": x.astype(np.int16)})


def test_blocks_of_rows(small_blocks):
    graph = mlp(3, [12, 20, 9], bits=8)
    same_bits(graph, inputs(graph, 2, 19, "real"))


# --- norms and sums
@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("width", [2, 3, 17, 48, 384, 1024])
def test_norms_and_sums(kind, width):
    rng = np.random.default_rng(width)
    for most in (0, 3, 15):
        for centre in (True, False):
            graph = norm(width, rng, centre=centre, most=most)
            same_bits(graph, inputs(graph, 2, 3, kind))
        same_bits(graph := add(width, rng, most), inputs(graph, 2, 3, kind))
    for epsilon, out_shift in ((0, 0), (1, 30), ((1 << 32) - 1, 63)):
        graph = norm(width, rng, residual=False, kept=False, epsilon=epsilon, out_shift=out_shift)
        same_bits(graph, inputs(graph, 1, 3, kind))


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("shift", [0, 1, 7, 15])
def test_products_and_rotary_embeddings(kind, shift):
    for bits in (8, 16):
        same_bits(graph := multiply(17, shift, bits), inputs(graph, 2, 3, kind))
    for heads, d in ((1, 2), (3, 8)):
        same_bits(graph := rotary(heads, d, shift), inputs(graph, 2, 3, kind))


@pytest.mark.parametrize("width", [2048, 2049])
def test_the_widest_norms(width):
    graph = norm(width, np.random.default_rng(0), most=8)
    (op,) = graph.ops
    assert isinstance(kernel_of(op, graph.values), GoldenKernel) == (width > 2048)
    for kind in ("real", "extreme", "largest"):
        same_bits(graph, inputs(graph, 1, 3, kind))


def test_norms_of_rows_far_from_zero():
    """Sums of 32 bits, whose last ones decide about the mean, and deviations of a few units."""
    rng = np.random.default_rng(0)
    graph = norm(384, rng)
    (op,) = graph.ops
    scale, none = np.full(384, 7), np.zeros(384, np.int64)
    parameters = dataclasses.replace(op.parameters, y_shift=scale, x_shift=none)
    graph = alone(dataclasses.replace(op, parameters=parameters), *graph.values.values())
    noise = rng.integers(-3, 4, (4, 50, 384)).astype(np.int16)
    for sign in (1, -1):
        same_bits(graph, {"y": np.full_like(noise, sign * 30_001), "x": noise})


def test_blocks_of_norms(small_blocks):
    graph = norm(17, np.random.default_rng(0))
    same_bits(graph, inputs(graph, 2, 19, "real"))


# --- attention
@pytest.mark.parametrize("rule", FILTERS, ids=lambda rule: rule.kind.name)
@pytest.mark.parametrize(("length", "lengths"), [(9, [9, 4]), (90, [90, 61]), (130, [130, 130])])
def test_attention_of_any_parameters(rule, length, lengths, way):
    for heads, width in ((2, 16), (3, 72), (1, 1)):
        graph = attention_alone(3, width, heads, rule)
        for kind in INPUTS:
            same_bits(graph, inputs(graph, 2, length, kind), {"rows": lengths})


@pytest.mark.parametrize("rule", FILTERS, ids=lambda rule: rule.kind.name)
@pytest.mark.parametrize("spread", [3, 30, 1000])
def test_attention_as_quantisation_makes_it(rule, spread, way):
    """spread: scores of one level, usual ones, and such that they saturate."""
    op = attention_op(4, 64, 200, rule, kv_heads=2)
    graph = attention(op, 64, 64)
    rng = np.random.default_rng(spread)
    given = {
        name: rng.normal(0, spread, (3, 75, graph.values[name].width))
        .clip(-127, 127)
        .astype(np.int8)
        for name in op.inputs
    }
    for lengths in (None, {"rows": [75, 17, 1]}):
        found = same_bits(graph, given, lengths)[op.out]
        assert len(np.unique(found)) > 100


@pytest.mark.parametrize(("low", "high"), [(-127, -100), (-127, -80), (-90, 20), (90, 127)])
def test_scores_that_saturate(low, high):
    """Below, where the maximum of a row does so or nearly; above, where many are the maximum."""
    op = attention_op(1, 64, 300)
    rng = np.random.default_rng(0)
    keys = np.repeat(rng.integers(low, high, (1, 256, 1)), 64, 2).astype(np.int8)
    values = rng.integers(-127, 128, keys.shape).astype(np.int8)
    given = dict(zip(op.inputs, (np.full_like(keys, 127), keys, values), strict=True))
    for short in (0, 3, 12):  # products that fit 25 bits, and such that do not
        loud = dataclasses.replace(op, score_shift=op.score_shift - short)
        same_bits(attention(loud, 64, 64), given)


@pytest.mark.parametrize("bias", [0, 1000])
def test_a_context_of_many_keys(bias, way):
    """Sums beyond 25 bits, and more than float32 holds."""
    op = attention_op(2, 16, 900)
    context = dataclasses.replace(op.context, bias=op.context.bias + bias)
    graph = attention(dataclasses.replace(op, context=context), 16, 16, "keys")
    for kind in ("extreme", "largest", "zeros", "random"):
        given = inputs(graph, 2, {"rows": 5, "keys": 900}, kind)
        same_bits(graph, given, {"keys": [900, 777]})


def test_a_context_whose_steps_saturate():
    op = attention_op(2, 16, 40)
    for shift in (0, 3, 9):
        for row_shift in (0, 2, 7):
            for out_shift in (0, 8, 15):
                loud = dataclasses.replace(op.context, shift=op.context.shift * 0 + shift)
                changes = {"context_row_shift": row_shift, "context_out_shift": out_shift}
                graph = attention(dataclasses.replace(op, context=loud, **changes), 16, 16)
                for kind in INPUTS:
                    same_bits(graph, inputs(graph, 1, 40, kind))


@pytest.mark.parametrize("rule", FILTERS, ids=lambda rule: rule.kind.name)
def test_parts_of_attention(rule, small_blocks):
    """Sequences, queries and heads one by one."""
    graph = attention(attention_op(4, 8, 200, rule, kv_heads=2), 8, 8)
    for length in (3, 9, 40):
        given = inputs(graph, 3, length, "real")
        for lengths in (None, {"rows": [length, 1, 2]}):
            same_bits(graph, given, lengths)


def test_rows_without_a_key():
    graph = attention(attention_op(2, 8, 40, Window(2, 0)), 8, 8)
    found = same_bits(graph, inputs(graph, 1, 20, "real"), {"rows": [5]})
    assert not found["out"][0, 8:].any()


def test_kept_rows_are_not_written_to():
    values = {
        name: Value(name, dim, 3, 8)
        for name, dim in (("cache", "context"), ("rows", "tokens"), ("out", "context"))
    }
    kernel = AppendKernel(Append("append", "cache", "rows", "out"), values)
    cache = torch.zeros(1, 4, 3, dtype=torch.int8)
    rows = torch.ones(1, 2, 3, dtype=torch.int8)
    out = kernel({"cache": cache, "rows": rows}, {"tokens": [2], "context": [3]})["out"]
    assert not cache.any()
    assert out[0].sum(1).tolist() == [0, 3, 3, 0]
