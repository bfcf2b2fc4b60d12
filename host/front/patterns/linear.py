"""Linear layers: ``linear``, ``addmm``, and products with a constant, with their activation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from transept.host.front.matches import Boundary, LinearMatch
from transept.host.front.nodes import operands
from transept.host.front.patterns.pointwise import find_pointwise
from transept.host.front.views import Rows

if TYPE_CHECKING:
    from transept.host.front.matcher import Matcher


__all__ = ["match_linear"]

aten = torch.ops.aten


def match_linear(m: Matcher, node: fx.Node) -> LinearMatch | None:
    """A product with constant weights."""
    parts = _parts(m, node)
    if parts is None:
        return None
    x, weight, bias, weights = parts
    rows = m.rows(x)
    if rows is None or len(rows.elements) != weight.shape[1]:
        return None
    placed = weight if rows.whole else _placed(weight, rows)
    path = m.parameter(weights)
    width = weight.shape[0]
    bias = torch.zeros(width) if bias is None else bias.reshape(-1).expand(width)
    activation = find_pointwise(node, m.values)
    formula = "" if activation is None else activation.formula
    name = m.name(path, placed, bias, formula)
    if name in m.plain:
        activation, formula = None, ""
    out = node if activation is None else activation.node
    codes = (rows.rows[:, None] * width + torch.arange(width)).reshape(m.values[node].shape)
    before = codes
    if activation is not None:
        codes = activation.carry(codes)
    nodes = {node} if activation is None else {node, *activation.nodes}
    return LinearMatch(
        name=name,
        inputs=(str(rows.value),),
        outputs=(name,),
        nodes=frozenset(nodes),
        defines={name: Boundary(out, codes, len(rows.rows), width)},
        module=m.module_of(node),
        facts=formula,
        weight=placed,
        bias=bias,
        activation=activation,
        weights=path,
        product=Boundary(node, before, len(rows.rows), width),
    )


def _placed(weight: torch.Tensor, rows: Rows) -> torch.Tensor:
    """Weights of the value's own elements: views may permute or leave out some of them."""
    placed = torch.zeros(weight.shape[0], rows.width)
    return placed.index_add_(1, rows.elements, weight * rows.factor)


def _parts(
    m: Matcher, node: fx.Node
) -> tuple[object, torch.Tensor, torch.Tensor | None, object] | None:
    """(operand, weight [n, k], bias or None, node of the weight)."""
    args = [*operands(node), None, None]
    bias: object = None
    if node.target is aten.linear.default:
        x, weight, bias = args[:3]
        matrix = m.fixed(weight)
    elif node.target is aten.addmm.default and not node.kwargs:
        bias, x, weight = args[:3]
        matrix = _transposed(m.fixed(weight))
    elif node.target in (aten.mm.default, aten.matmul.default):
        x, weight = args[:2]
        matrix = _transposed(m.fixed(weight))
    else:
        return None
    if matrix is None or matrix.ndim != 2 or not matrix.numel():
        return None
    offset = m.fixed(bias)
    if bias is not None and (offset is None or not _is_of_columns(offset, len(matrix))):
        return None
    return x, matrix, offset, weight


def _is_of_columns(bias: torch.Tensor, width: int) -> bool:
    """Whether every row gets the same."""
    return bias.numel() == 1 or (bias.shape[-1] == width == bias.numel())


def _transposed(weight: torch.Tensor | None) -> torch.Tensor | None:
    return weight.T if weight is not None and weight.ndim == 2 else None
