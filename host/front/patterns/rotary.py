"""Rotary position embeddings: ``x cos + rotate_half(x) sin``, the pairs half a head apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import fx

from transept.host.front.matches import Boundary, LinearMatch, RotaryMatch, Source
from transept.host.front.names import base_name
from transept.host.front.nodes import operands
from transept.host.front.patterns.heads import Heads, heads_of
from transept.host.front.views import View

if TYPE_CHECKING:
    from transept.host.front.matcher import Matcher


__all__ = ["match_rotary"]

aten = torch.ops.aten


def match_rotary(m: Matcher, node: fx.Node) -> RotaryMatch | None:
    """The rotary embedding of heads that an operator defines."""
    for x, cos, half, sin, nodes in _forms(m, node):
        heads = heads_of(m, x)
        if heads is None or heads.factor != 1 or not _is_projection(m, heads.value):
            continue
        sources = _by_row(m, cos, x, heads), _by_row(m, sin, x, heads)
        if sources[0] is None or sources[1] is None or not _partners(m, half, x):
            continue
        d = heads.columns.shape[1]
        sign = torch.where(torch.arange(d) < d // 2, -1.0, 1.0).double()
        factors = m.gathered(sources[0]), m.gathered(replace(sources[1], sign=sign))
        return _build(m, node, x, heads, factors, frozenset(nodes))
    return None


def _is_projection(m: Matcher, value: str) -> bool:
    """Whether a linear layer makes a value, so that it can have the scale that rotation wants."""
    maker = next((op for op in m.matches if value in op.outputs), None)
    return isinstance(maker, LinearMatch) and maker.activation is None


def _forms(m: Matcher, node: fx.Node) -> Iterator[tuple]:
    """(x, cos, halves of x changed round, sin, nodes), in any order of operands."""
    if node.target is not aten.add.Tensor or node.kwargs:
        return
    products = operands(node)
    if any(getattr(part, "target", None) is not aten.mul.Tensor for part in products):
        return
    for direct, crossed in (products, products[::-1]):
        for x, cos in (operands(direct), operands(direct)[::-1]):
            for half, sin in (operands(crossed), operands(crossed)[::-1]):
                turned = _turned(half)
                given = all(isinstance(part, fx.Node) for part in (x, cos, sin))
                if turned is not None and given:
                    yield x, cos, half, sin, {node, direct, crossed, half, turned}


def _turned(half: object) -> fx.Node | None:
    """The negation in ``cat([-second, first], -1)``."""
    if getattr(half, "target", None) is not aten.cat.default:
        return None
    parts = operands(half)[0]  # type: ignore[arg-type]
    negated = parts[0] if len(parts) == 2 else None
    return negated if getattr(negated, "target", None) is aten.neg.default else None


def _partners(m: Matcher, half: fx.Node, x: fx.Node) -> bool:
    """Whether the two parts are the halves of the last dimension of x, changed round."""
    (negated, first), *dim = operands(half)
    last = m.values[half].ndim - 1
    if not dim or dim[0] % (last + 1) != last or m.values[half].shape != m.values[x].shape:
        return False
    views = [m.views[part] for part in (x, operands(negated)[0], first)]
    if not all(isinstance(v, View) and v.value == views[0].value for v in views):
        return False
    if any(view.factor != 1 for view in views):
        return False
    codes, middle = views[0].codes, views[0].codes.shape[-1] // 2
    return torch.equal(views[1].codes, codes[..., middle:]) and torch.equal(
        views[2].codes, codes[..., :middle]
    )


def _by_row(m: Matcher, factor: fx.Node, x: fx.Node, heads: Heads) -> Source | None:
    """The cosines or sines of every row of the value; None if torch does not compute them, or they
    differ from head to head."""
    view, shape = m.views[factor], m.values[x].shape
    if not isinstance(view, View) or not isinstance(view.value, fx.Node):
        return None
    node = view.value if view.factor == 1 else factor
    codes = view.codes if view.factor == 1 else m.views.own(factor).codes
    if codes.shape[-1:] != shape[-1:]:
        return None
    try:
        slices = codes.expand(shape).reshape(-1, *shape[-2:])
    except RuntimeError:
        return None
    found = torch.empty(heads.rows.numel(), shape[-1], dtype=torch.int64)
    found[heads.rows[heads.batch].flatten()] = slices.flatten(0, 1)
    same = torch.equal(found[heads.rows[heads.batch]], slices)
    return Source(node, found) if same else None


def _build(
    m: Matcher,
    node: fx.Node,
    x: fx.Node,
    heads: Heads,
    factors: tuple[str, str],
    nodes: frozenset[fx.Node],
) -> RotaryMatch:
    count, d = heads.columns.shape
    width = count * d
    facts = base_name(heads.value), heads.columns
    turn = m.turn(node, "rotary")
    name = m.name(f"{m.module_of(node) or 'model'}.rotary", turn, *facts)
    codes = heads.rows[heads.batch][..., None] * width + (heads.head * d)[:, None, None]
    codes = (codes + torch.arange(d)).reshape(m.values[node].shape)
    return RotaryMatch(
        name=name,
        inputs=(heads.value, *factors),
        outputs=(name,),
        nodes=nodes,
        defines={name: Boundary(node, codes, heads.rows.numel(), width)},
        module=m.module_of(node),
        heads=count,
        columns=heads.columns,
    )
