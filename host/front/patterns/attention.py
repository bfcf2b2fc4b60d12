"""Attention: ``scaled_dot_product_attention``, or two products with a softmax between them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import fx

from transept.host.front.export import float_tensor
from transept.host.front.masks import MASKED, describe, is_mask
from transept.host.front.matches import AttentionMatch, Boundary, Mask
from transept.host.front.names import base_name
from transept.host.front.nodes import drops_nothing, named, operands
from transept.host.front.patterns.heads import Heads, heads_of
from transept.host.front.views import SAME

if TYPE_CHECKING:
    from transept.host.front.matcher import Matcher


__all__ = ["match_attention"]

aten = torch.ops.aten

_WHERE = (aten.where.self, aten.where.ScalarOther, aten.where.ScalarSelf)
_PRODUCTS = (aten.matmul.default, aten.bmm.default)
#: Reshapes between the two forms [batch, heads, ...] and [batch * heads, ...].
_RESHAPES = (
    aten.view.default,
    aten.reshape.default,
    aten.expand.default,
    aten._unsafe_view.default,
)


@dataclass
class _Core:
    """What the torch graph says: q [.., t, d], k [.., s, d] or, if transposed, [.., d, s]."""

    q: fx.Node
    k: fx.Node
    v: fx.Node
    scale: float
    transposed: bool
    masks: list[Mask]
    causal: bool
    nodes: set[fx.Node]
    shares: bool = False  # heads of k and v are repeated, each in place


def match_attention(m: Matcher, node: fx.Node) -> AttentionMatch | None:
    """An attention that ends with ``node``."""
    core = _sdpa(m, node) or _spelled_out(m, node)
    if core is None:
        return None
    q, v = heads_of(m, core.q), heads_of(m, core.v)
    k = heads_of(m, core.k, transposed=core.transposed)
    if q is None or k is None or v is None:
        m.reasons[node] = "its heads are laid out in a way that no view explains"
        return None
    return _build(m, node, core, q, k, v)


# --- the torch operators -------------------------------------------------------------------------
def _sdpa(m: Matcher, node: fx.Node) -> _Core | None:
    if node.target is not aten.scaled_dot_product_attention.default:
        return None
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    given = dict(zip(names, operands(node), strict=False)) | node.kwargs
    q, k, v = (given[name] for name in names[:3])
    mask, scale = given.get("attn_mask"), given.get("scale")
    if given.get("dropout_p"):
        m.reasons[node] = f"it drops {given['dropout_p']:.0%} of its probabilities"
        return None
    masks = []
    if mask is not None:
        boolean = m.values[mask].dtype == torch.bool
        scores = (*m.values[q].shape[:-1], m.values[k].shape[-2])
        masks = [Mask(mask, "keep" if boolean else "add", scores)]
    if scale is None:
        scale = m.values[q].shape[-1] ** -0.5
    causal = bool(given.get("is_causal"))
    core = _Core(q, k, v, float(scale), False, masks, causal, {node})
    core.shares = bool(given.get("enable_gqa"))
    return core


def _spelled_out(m: Matcher, node: fx.Node) -> _Core | None:
    if node.target not in _PRODUCTS:
        return None
    p, v = operands(node)
    nodes = {node}
    p = _through(m, p, nodes)
    if p.target not in (aten.softmax.int, aten._softmax.default):
        return None
    dims = m.values[p].ndim
    if operands(p)[1] % dims != dims - 1:
        m.reasons[node] = "its softmax is not over the keys"
        return None
    core = _Core(p, p, v, 1.0, True, [], False, nodes | {p})
    if _scores(m, operands(p)[0], core):
        return core
    m.reasons[node] = "its scores are no product that is only scaled and masked"
    return None


def _through(m: Matcher, node: fx.Node, nodes: set[fx.Node]) -> fx.Node:
    """What lies behind casts, dropout, and reshapes that leave the scores of a query together."""
    while node.op == "call_function" and _passes(m, node):
        nodes.add(node)
        node = operands(node)[0]
    return node


def _passes(m: Matcher, node: fx.Node) -> bool:
    if node.target in SAME or drops_nothing(node):
        return float_tensor(m.values[node])
    if node.target not in _RESHAPES:
        return False
    before, after = m.values[operands(node)[0]].shape, m.values[node].shape
    return before.numel() == after.numel() and before[-1:] == after[-1:]


def _scores(m: Matcher, node: object, core: _Core) -> bool:
    """Walk from the softmax back to the product of queries and keys."""
    if not isinstance(node, fx.Node):
        return False
    node = _through(m, node, core.nodes)
    if node.op != "call_function":
        return False
    core.nodes.add(node)
    if node.target in _PRODUCTS:
        core.q, core.k = operands(node)
        return True
    if node.target is aten.baddbmm.default:
        return _baddbmm(m, node, core)
    if node.target is aten.add.Tensor and not node.kwargs:
        return _added(m, node, core)
    if node.target is aten.masked_fill.Scalar or node.target in _WHERE:
        return _filled(m, node, core)
    factor = m.views.factor(node)
    if factor is None:
        return False
    core.scale *= factor
    return _scores(m, operands(node)[0], core)


def _baddbmm(m: Matcher, node: fx.Node, core: _Core) -> bool:
    beta, alpha = named(node, "beta", 1), named(node, "alpha", 1)
    mask, core.q, core.k = operands(node)
    if beta == 1:
        core.masks.append(Mask(mask, "add", tuple(m.values[node].shape), core.scale))
    core.scale *= alpha
    return beta in (0, 1)


def _added(m: Matcher, node: fx.Node, core: _Core) -> bool:
    """Scores and a mask, in either order."""
    for scores, mask in (operands(node)[:2], operands(node)[1::-1]):
        before = list(core.masks), core.scale, set(core.nodes)
        if isinstance(mask, fx.Node) and _scores(m, scores, core):
            core.masks.append(Mask(mask, "add", tuple(m.values[node].shape), before[1]))
            return True
        core.masks, core.scale, core.nodes = before
    return False


def _filled(m: Matcher, node: fx.Node, core: _Core) -> bool:
    """Scores where a mask says so, else a number that no key survives."""
    if node.target is aten.masked_fill.Scalar:
        (scores, mask, filler), kind = operands(node), "drop"
    else:
        (mask, scores, filler), kind = operands(node), "keep"
        if _number(m, filler) is None:
            scores, filler, kind = filler, scores, "drop"
    number = _number(m, filler)
    if number is None or number * core.scale > MASKED:  # as far as is known: what is outside
        return False
    core.masks.append(Mask(mask, kind, tuple(m.values[node].shape)))
    return _scores(m, scores, core)


def _number(m: Matcher, node: object) -> float | None:
    """A number, or a fixed tensor of one."""
    if isinstance(node, fx.Node):
        constant = m.fixed(node)
        return constant.item() if constant is not None and constant.numel() == 1 else None
    return float(node)  # type: ignore[arg-type]


# --- putting it together -------------------------------------------------------------------------
def _build(
    m: Matcher, node: fx.Node, core: _Core, q: Heads, k: Heads, v: Heads
) -> AttentionMatch | None:
    heads, kv_heads = len(q.columns), len(k.columns)
    if not _aligned(m, node, core, q, k, v):
        m.reasons[node] = "queries and keys of a head are of different sequences or heads"
        return None
    if v.factor != 1:
        return None
    bias = next((mask for mask in core.masks if not is_mask(mask, m.values[mask.node])), None)
    if bias is not None:
        m.reasons[node] = f"what is added to its scores ({bias.node.name}) is a bias, no mask"
        return None
    scale = core.scale * q.factor * k.factor
    if scale <= 0:
        m.reasons[node] = f"its scores are multiplied by {scale:g}"
        return None
    e = v.columns.shape[1]
    width = heads * e
    codes = q.rows[q.batch][..., None] * width + (q.head * e)[:, None, None] + torch.arange(e)
    inputs, columns = (q.value, k.value, v.value), (q.columns, k.columns, v.columns)
    found = AttentionMatch(
        name=_name(m, node),
        inputs=inputs,
        outputs=(),
        nodes=frozenset(core.nodes),
        defines={},
        module=m.module_of(node),
        facts=f"{heads} {kv_heads} {scale}",
        heads=heads,
        kv_heads=kv_heads,
        columns=columns,
        queries=q.rows,
        keys=k.rows,
        leading=tuple(m.values[core.q].shape[:-2]),
        slices=q.batch,
        scale=scale,
        masks=tuple(core.masks),
        causal=core.causal,
    )
    rule = describe(found, m.values)
    if rule is None:
        m.reasons[node] = (
            "its mask is neither dense nor causal nor a window, keys behind it padding"
        )
        return None
    makers = ["%" if value.startswith("%") else base_name(value) for value in inputs]
    turn = m.turn(node, "attention")
    name = m.name(found.name, turn, found.facts, core.causal, *makers, *columns)
    boundary = Boundary(node, codes.reshape(m.values[node].shape), q.rows.numel(), width)
    return replace(found, name=name, outputs=(name,), defines={name: boundary}, filter=rule)


def _aligned(m: Matcher, node: fx.Node, core: _Core, q: Heads, k: Heads, v: Heads) -> bool:
    """Whether slice i of q meets slice i of k and v, of the same sequence and its own head."""
    heads, kv_heads = len(q.columns), len(k.columns)
    if heads % kv_heads or len(v.columns) != kv_heads or len(q.rows) != len(k.rows):
        return False
    # both products broadcast their operands; between them scores may be reshaped
    for part, leading in ((k, q.leading), (v, tuple(m.values[node].shape[:-2]))):
        index = _met(part, leading, core.shares)
        if index is None or len(index) != len(q.batch):
            return False
        if (part.batch[index] != q.batch).any():
            return False
        if (part.head[index] != q.head // (heads // kv_heads)).any():
            return False
    return bool((k.rows == v.rows).all()) and k.rows.shape == v.rows.shape


def _met(part: Heads, leading: tuple[int, ...], shares: bool) -> torch.Tensor | None:
    """The slice of ``part`` that each slice of a product meets; None if they do not."""
    index = torch.arange(len(part.batch)).reshape(part.leading)
    if shares and index.shape[-1] and leading[-1] % index.shape[-1] == 0:
        index = index.repeat_interleave(leading[-1] // index.shape[-1], -1)
    try:
        return index.expand(leading).flatten()
    except RuntimeError:
        return None


def _name(m: Matcher, node: fx.Node) -> str:
    """The module that it belongs to."""
    path = m.module_of(node)
    return f"{path}.attention" if path else "attention"
