"""Graphs of one operator, inputs of every kind, and the CPU backend against the golden model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from draws import int8, int16_rows

from transept.golden.graph import Dim, Graph, Lengths, Operator, Value
from transept.golden.numerics.norm import NormParameters
from transept.golden.numerics.requantise import SEGMENTS, ActivationTable, ChannelParameters
from transept.golden.ops import Add, Attention, Linear, Multiply, Norm, Rotary
from transept.host.backends.cpu import CpuGraph

__all__ = [
    "INPUTS",
    "add",
    "alone",
    "attention",
    "channel",
    "inputs",
    "linear",
    "multiply",
    "norm",
    "rotary",
    "same_bits",
    "table",
]

#: Kinds of inputs: ``draws.KINDS``, nothing at all, and the largest of one sign.
INPUTS = ("random", "extreme", "real", "zeros", "largest", "least")


def alone(op: Operator, *values: Value) -> Graph:
    """A graph of one operator; its inputs are those of the graph."""
    dims = tuple(Dim(name, 1 << 16) for name in dict.fromkeys(value.dim for value in values))
    named = {value.name: value for value in values}
    return Graph(dims, named, op.inputs, op.outputs, (op,))


def inputs(
    graph: Graph, batch: int, length: int | Mapping[str, int], kind: str, seed: int = 0
) -> dict[str, np.ndarray]:
    """Inputs [batch, length, width] of their types, of a kind of ``INPUTS``; length: of all
    dimensions, or of each by its name."""
    rng = np.random.default_rng(seed)
    found = {}
    for name in graph.inputs:
        value = graph.values[name]
        rows = length if isinstance(length, int) else length[value.dim]
        drawn = _drawn(rng, batch * rows, value, kind)
        found[name] = drawn.reshape(batch, rows, value.width).astype(f"int{value.bits}")
    return found


def _drawn(rng: np.random.Generator, rows: int, value: Value, kind: str) -> np.ndarray:
    fixed = {"zeros": 0, "largest": value.limit, "least": -value.limit}
    if kind in fixed:
        return np.full((rows, value.width), fixed[kind])
    if value.bits == 8:
        return int8(rng, (rows, value.width), kind)
    return int16_rows(rng, rows, value.width, kind)


def same_bits(
    graph: Graph, given: Mapping[str, np.ndarray], lengths: Lengths | None = None
) -> dict[str, np.ndarray]:
    """The CPU backend's outputs, which are the golden model's."""
    found = CpuGraph(graph).run(given, lengths)
    tensors = {name: torch.as_tensor(x) for name, x in given.items()}
    for name, y in graph.evaluate(tensors, lengths).items():
        assert found[name].dtype == np.dtype(f"int{graph.values[name].bits}")
        assert np.array_equal(found[name], y), name
    return found


# --- operators
def channel(n: int, multiplier: Any = 40_000, shift: Any = 16, bias: Any = 0) -> ChannelParameters:
    """Parameters of n channels, each a number or one for every channel."""
    return ChannelParameters(
        *(np.broadcast_to(x, n).astype(np.int64) for x in (multiplier, shift, bias))
    )


def table(rng: np.random.Generator) -> ActivationTable:
    """An activation that is no function of note, and saturates here and there."""
    draw = rng.integers
    return ActivationTable(
        -32768,
        10,
        int(draw(0, 12)),
        int(draw(6, 9)),
        draw(-1 << 16, 1 << 16, SEGMENTS),
        draw(-1 << 10, 1 << 10, SEGMENTS),
        draw(-1 << 6, 1 << 6, SEGMENTS),
    )


def linear(
    weight: np.ndarray,
    parameters: ChannelParameters,
    *,
    row_shift: int = 15,
    out_shift: int = 8,
    x_bits: int = 16,
    y_bits: int = 16,
    activation: ActivationTable | None = None,
) -> Graph:
    """A layer alone."""
    n, k = weight.shape
    op = Linear(
        "linear", "x", "y", weight.astype(np.int8), parameters, row_shift, out_shift, activation
    )
    return alone(op, Value("x", "rows", k, x_bits), Value("y", "rows", n, y_bits))


def norm(
    width: int,
    rng: np.random.Generator,
    *,
    residual: bool = True,
    centre: bool = True,
    kept: bool = True,
    epsilon: int = 1000,
    out_shift: int = 18,
    most: int = 15,
) -> Graph:
    """A norm alone, with any parameters and shifts of at most ``most``."""
    parameters = norm_parameters(width, rng, most)
    names = ["y", *["x"] * residual, "out", *["sum"] * kept]
    x, total = "x" if residual else None, "sum" if kept else None
    op = Norm("norm", "y", x, "out", parameters, epsilon, out_shift, centre, total)
    return alone(op, *(Value(name, "rows", width) for name in names))


def norm_parameters(width: int, rng: np.random.Generator, most: int) -> NormParameters:
    """Any parameters, shifts of at most ``most``."""
    return NormParameters(
        rng.integers(-1 << 17, 1 << 17, width),
        rng.integers(-1 << 23, 1 << 23, width),
        *(rng.integers(0, most + 1, width) for _ in range(3)),
    )


def add(width: int, rng: np.random.Generator, most: int = 15) -> Graph:
    """A sum alone."""
    op = Add("add", "y", "x", "sum", norm_parameters(width, rng, most))
    return alone(op, *(Value(name, "rows", width) for name in ("y", "x", "sum")))


def multiply(width: int, shift: int, bits: int) -> Graph:
    """A product of elements alone."""
    op = Multiply("multiply", "y", "x", "out", shift)
    return alone(
        op, *(Value(name, "rows", width) for name in "yx"), Value("out", "rows", width, bits)
    )


def rotary(heads: int, d: int, shift: int) -> Graph:
    """A rotary embedding alone; cosines and sines may be any numbers."""
    op = Rotary("rotary", "x", "cos", "sin", "out", heads, shift)
    return alone(
        op,
        Value("x", "rows", heads * d),
        *(Value(name, "rows", d) for name in ("cos", "sin")),
        Value("out", "rows", heads * d, 8),
    )


def attention(op: Attention, d: int, e: int, keys: str = "rows") -> Graph:
    """An attention of heads of d and e elements alone; keys: their dimension, queries are rows."""
    return alone(
        op,
        Value(op.q, "rows", op.heads * d, 8),
        Value(op.k, keys, op.kv_heads * d, 8),
        Value(op.v, keys, op.kv_heads * e, 8),
        Value(op.out, "rows", op.heads * e),
    )
