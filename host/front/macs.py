"""Multiply-accumulates of torch's operators, whoever computes them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from transept.host.front.export import Values
from transept.host.front.nodes import operands

__all__ = ["BIASED", "CONVOLUTIONS", "PRODUCTS", "node_macs"]

aten = torch.ops.aten

#: Products of two operands; the same with a third one in front, which is added.
PRODUCTS = {aten.mm.default, aten.bmm.default, aten.matmul.default, aten.linear.default}
BIASED = {aten.addmm.default, aten.baddbmm.default}
CONVOLUTIONS = {
    aten.conv1d.default,
    aten.conv1d.padding,
    aten.conv2d.default,
    aten.conv2d.padding,
    aten.conv3d.default,
    aten.conv3d.padding,
    aten.convolution.default,
}
_TRANSPOSED = {
    aten.conv_transpose1d.default,
    aten.conv_transpose2d.input,
    aten.conv_transpose3d.input,
}
_RECURRENT = {
    overload
    for operator in (aten.lstm, aten.gru, aten.rnn_tanh, aten.rnn_relu)
    for overload in (operator.input, operator.data)
}


def node_macs(node: fx.Node, values: Values) -> int:
    """Multiply-accumulates of one torch operator; 0 of those that do not multiply matrices."""
    if node.op != "call_function" or node not in values:
        return 0
    count = _COUNTS.get(node.target)
    return 0 if count is None else count(node, values)


def _product(node: fx.Node, values: Values) -> int:
    return values[node].numel() * values[operands(node)[0]].shape[-1]


def _tensordot(node: fx.Node, values: Values) -> int:
    """Every result is a sum over the dimensions that the operands share."""
    x, _, dims = operands(node)[:3]
    return values[node].numel() * math.prod(values[x].shape[dim] for dim in dims)


def _biased(node: fx.Node, values: Values) -> int:
    return values[node].numel() * values[operands(node)[1]].shape[-1]


def _convolution(node: fx.Node, values: Values) -> int:
    """Every result is the product of one filter."""
    weight = values[operands(node)[1]]
    return values[node].numel() * (weight.numel() // weight.shape[0])


def _transposed(node: fx.Node, values: Values) -> int:
    """Every operand is multiplied by one filter."""
    x, weight = (values[part] for part in operands(node)[:2])
    return x.numel() * (weight.numel() // weight.shape[0])


def _attention(node: fx.Node, values: Values) -> int:
    q, k, v = (values[part] for part in operands(node)[:3])
    return math.prod(q.shape[:-1]) * k.shape[-2] * (q.shape[-1] + v.shape[-1])


def _bilinear(node: fx.Node, values: Values) -> int:
    """Every result is one quadratic form, row by row."""
    weight = values[operands(node)[2]]
    rows = values[node].numel() // weight.shape[0]
    return rows * weight.numel() + values[node].numel() * weight.shape[2]


def _recurrent(node: fx.Node, values: Values) -> int:
    """Every weight once a step of every sequence."""
    x = values[operands(node)[0]]
    lists = [part for part in operands(node) if isinstance(part, list | tuple)]
    weights = [values[part] for parts in lists for part in parts if isinstance(part, fx.Node)]
    return math.prod(x.shape[:-1]) * sum(w.numel() for w in weights if w.ndim == 2)


def _einsum(node: fx.Node, values: Values) -> int:
    """The product of the sizes of all indices, for every pair of operands."""
    equation, parts = operands(node)
    terms = equation.replace(" ", "").split("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, part in zip(terms, parts, strict=True):
        sizes.update(_indices(term, values[part].shape))
    return math.prod(sizes.values()) * (len(terms) - 1)


def _indices(term: str, shape: tuple[int, ...]) -> dict[str, int]:
    """Sizes by index; those that dots stand for are counted from the right."""
    before, dots, after = term.partition("...")
    hidden = len(shape) - len(before) - len(after) if dots else 0
    names = [*before, *(f"...{n}" for n in range(hidden, 0, -1)), *after]
    return dict(zip(names, shape, strict=True))


_COUNTS: dict[Any, Callable[[fx.Node, Values], int]] = {
    **dict.fromkeys(PRODUCTS, _product),
    **dict.fromkeys(BIASED, _biased),
    **dict.fromkeys(CONVOLUTIONS, _convolution),
    **dict.fromkeys(_TRANSPOSED, _transposed),
    **dict.fromkeys(_RECURRENT, _recurrent),
    aten.scaled_dot_product_attention.default: _attention,
    aten.inner.default: _product,
    aten.dot.default: _product,
    aten.mv.default: _product,
    aten.tensordot.default: _tensordot,
    aten.bilinear.default: _bilinear,
    aten.einsum.default: _einsum,
}
