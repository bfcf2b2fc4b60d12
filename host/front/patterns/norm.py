"""LayerNorm and RMSNorm, as one operator or spelled out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from transept.host.front.export import float_tensor
from transept.host.front.matches import Boundary, NormMatch
from transept.host.front.nodes import operands
from transept.host.front.views import SAME

if TYPE_CHECKING:
    from transept.host.front.matcher import Matcher


__all__ = ["match_norm"]

aten = torch.ops.aten


def match_norm(m: Matcher, node: fx.Node) -> NormMatch | None:
    """A norm over the last dimension."""
    found = _layer_norm(m, node) or _rms_norm(m, node) or _spelled_out(m, node)
    if found is None:
        return None
    x, weight, bias, epsilon, centre, weights, nodes = found
    rows = m.rows(x)
    if rows is not None and not rows.whole:
        rows = m.own_rows(x)
    if rows is None:
        return None
    width = rows.width
    if width < 2:
        return None
    weight = torch.ones(width) if weight is None else weight
    bias = torch.zeros(width) if bias is None else bias
    wanted = m.parameter(weights) if weights is not None else node.name
    name = m.name(wanted, weight, bias, epsilon, centre)
    codes = (rows.rows[:, None] * width + torch.arange(width)).reshape(m.values[node].shape)
    return NormMatch(
        name=name,
        inputs=(str(rows.value),),
        outputs=(name,),
        nodes=frozenset(nodes),
        defines={name: Boundary(node, codes, len(rows.rows), width)},
        module=m.module_of(node),
        facts=f"{epsilon} {centre}",
        weight=weight,
        bias=bias,
        epsilon=epsilon,
        centre=centre,
    )


def _layer_norm(m: Matcher, node: fx.Node) -> tuple | None:
    if node.target is not aten.layer_norm.default:
        return None
    x, shape, weight, bias, epsilon = _padded(node, (None, None, None, None, 1e-5))
    return _checked(m, x, shape, weight, bias, epsilon, True, {node})


def _rms_norm(m: Matcher, node: fx.Node) -> tuple | None:
    if node.target is not aten.rms_norm.default:
        return None
    x, shape, weight, epsilon = _padded(node, (None, None, None, None))
    if epsilon is None:
        epsilon = torch.finfo(m.values[node].dtype).eps
    return _checked(m, x, shape, weight, None, epsilon, False, {node})


def _padded(node: fx.Node, defaults: tuple) -> list:
    return [*operands(node), *defaults[len(operands(node)) :]][: len(defaults)]


def _checked(
    m: Matcher,
    x: object,
    shape: object,
    weight: object,
    bias: object,
    epsilon: float,
    centre: bool,
    nodes: set[fx.Node],
) -> tuple | None:
    """None if it is over more than the last dimension, or its parameters are computed."""
    if not isinstance(shape, list | tuple) or len(shape) != 1:
        return None
    constants = [m.fixed(part) for part in (weight, bias)]
    parts = zip((weight, bias), constants, strict=True)
    if any(part is not None and found is None for part, found in parts):
        return None
    return x, *constants, float(epsilon), centre, weight, nodes


def _spelled_out(m: Matcher, node: fx.Node) -> tuple | None:
    """``weight * (x * rsqrt(mean(x**2) + epsilon))``, in any order, casts in between."""
    if node.target is not aten.mul.Tensor:
        return None
    for weight, normalised in (operands(node)[:2], operands(node)[1::-1]):
        constant = m.fixed(weight)
        if constant is None or constant.ndim != 1 or not isinstance(normalised, fx.Node):
            continue
        inner = _through(m, normalised)
        found = _normalised(m, inner)
        if found is not None:
            x, epsilon, nodes = found
            if constant.shape[0] == m.values[node].shape[-1]:
                return x, constant, None, epsilon, False, weight, {node, normalised, inner, *nodes}
    return None


def _normalised(m: Matcher, node: fx.Node) -> tuple | None:
    """``x * rsqrt(mean(x**2, -1) + epsilon)``: (x, epsilon, nodes)."""
    if node.target is not aten.mul.Tensor:
        return None
    for x, scale in (operands(node)[:2], operands(node)[1::-1]):
        if not isinstance(scale, fx.Node) or scale.target is not aten.rsqrt.default:
            continue
        total = operands(scale)[0]
        if total.target not in (aten.add.Tensor, aten.add.Scalar) or total.kwargs:
            continue
        mean, epsilon = operands(total)[:2]
        if not isinstance(epsilon, float | int) or mean.target is not aten.mean.dim:
            continue
        square, dims = operands(mean)[:2]
        last = m.values[x].ndim - 1
        if m.values[mean].ndim != last + 1:  # of another row, if it is broadcast at all
            continue
        if [d % (last + 1) for d in dims] != [last] or not _is_square_of(m, square, x):
            continue
        return x, float(epsilon), {scale, total, mean, square}
    return None


def _is_square_of(m: Matcher, node: fx.Node, x: fx.Node) -> bool:
    power = node.target is aten.pow.Tensor_Scalar and operands(node)[1] == 2
    square = node.target is aten.square.default
    product = node.target is aten.mul.Tensor and operands(node)[0] is operands(node)[1]
    return (power or square or product) and _through(m, operands(node)[0]) is _through(m, x)


def _through(m: Matcher, node: fx.Node) -> fx.Node:
    """What a chain of casts casts; one to integers rounds."""
    while isinstance(node, fx.Node) and node.target in SAME and float_tensor(m.values[node]):
        node = operands(node)[0]
    return node
