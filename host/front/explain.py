"""What of a model runs where, and why: counted before anything runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from transept.host.front.export import Values, float_tensor
from transept.host.front.frame import Frame
from transept.host.front.importer import ImportedModel, region_shape
from transept.host.front.macs import BIASED, CONVOLUTIONS, PRODUCTS, node_macs
from transept.host.front.matcher import ALONE
from transept.host.front.matches import AttentionMatch, LinearMatch
from transept.host.front.nodes import drops_nothing, is_fixed, operands
from transept.host.front.views import MOVING, SAME

__all__ = ["explain"]

aten = torch.ops.aten

_LINEAR_MODULES = (
    *("Linear", "NonDynamicallyQuantizableLinear", "Conv1D", "Conv1d", "Conv2d", "Conv3d"),
    *("ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"),
)
#: Operators that only move elements, beside those of ``views``.
_STILL = ("cat", "dropout", "expand_as", "patches", "stack")
_SOFTMAX = {aten.softmax.int, aten._softmax.default}


def explain(imported: ImportedModel) -> dict[str, Any]:
    """``{linears_total, linears_on, attention_total, attention_on, macs_share, predicted_cycles,
    regions: [{name, operators, macs, predicted_cycles}], fallback: [{name, operator, macs,
    reason}]}`` for the shapes of the example.

    Linears are counted by modules (``nn.Linear``, ``Conv1D``, convolutions), macs_share is that of
    all multiply-accumulates.
    """
    bound = imported.bound(imported.example)
    found = bound.frame
    regions = []
    for region, float_region in zip(bound.regions, found.regions, strict=True):
        shape = region_shape(region, float_region)
        regions.append(
            {
                "name": region.name,
                "operators": [op.name for op in region.graph.ops],
                "macs": region.macs(shape),
                "predicted_cycles": region.executable(shape).predicted_cycles,
            }
        )
    work = [node for node in found.module.graph.nodes if not is_fixed(node)]
    total = sum(node_macs(node, found.values) for node in work)
    taken = frozenset(node for region in found.regions for node in region.nodes)
    on = sum(node_macs(node, found.values) for node in taken)
    linears, linears_on = _linears(imported.model, found)
    attentions, attentions_on = _attentions(found)
    return {
        "linears_total": linears,
        "linears_on": linears_on,
        "attention_total": attentions,
        "attention_on": attentions_on,
        "macs_share": on / total if total else 0.0,
        "predicted_cycles": sum(region["predicted_cycles"] for region in regions),
        "regions": regions,
        "fallback": _fallback(found, taken),
    }


def _linears(model: torch.nn.Module, found: Frame) -> tuple[int, int]:
    """Linear modules that the model runs through, and those that the accelerator does."""
    used = {
        found.matcher.parameter(node) for node in found.module.graph.nodes if node.op == "get_attr"
    }
    paths = used & {
        path or ALONE
        for path, module in model.named_modules()
        if type(module).__name__ in _LINEAR_MODULES or isinstance(module, torch.nn.Linear)
    }
    on = {op.weights for r in found.regions for op in r.ops if isinstance(op, LinearMatch)}
    return len(paths), len(paths & on)


def _attentions(found: Frame) -> tuple[int, int]:
    """Attentions of the model: products behind a softmax, and torch's own operator."""
    on = sum(isinstance(op, AttentionMatch) for region in found.regions for op in region.ops)
    left = [node for node in found.module.graph.nodes if _is_attention(node)]
    inside = frozenset(
        node
        for region in found.regions
        for op in region.ops
        if isinstance(op, AttentionMatch)
        for node in op.nodes
    )
    return on + sum(node not in inside for node in left), on


def _is_attention(node: fx.Node) -> bool:
    if node.target is aten.scaled_dot_product_attention.default:
        return True
    if node.target not in _SOFTMAX:
        return False
    pending = list(node.users)
    while pending:
        user = pending.pop()
        if user.target in PRODUCTS or user.target in BIASED:
            return True
        if user.target in SAME or user.target in MOVING or drops_nothing(user):
            pending += list(user.users)
    return False


def _fallback(found: Frame, taken: frozenset[fx.Node]) -> list[dict[str, Any]]:
    """Operators that torch computes, most work first; those that multiply nothing and have the same
    reason together."""
    groups: dict[tuple[str, str], list[fx.Node]] = {}
    reasons = _spread(found)
    for node in found.module.graph.nodes:
        if node in taken or not _computes(node, found.values):
            continue
        operator = _operator(node)
        reason = reasons.get(node) or _reason(node, operator, found.values)
        kind = operator if node_macs(node, found.values) else ""
        groups.setdefault((kind, reason), []).append(node)
    entries = [
        {
            "name": _where(found, nodes),
            "operator": ", ".join(dict.fromkeys(_operator(node) for node in nodes)),
            "macs": sum(node_macs(node, found.values) for node in nodes),
            "reason": reason,
        }
        for (_, reason), nodes in groups.items()
    ]
    return sorted(entries, key=lambda entry: -entry["macs"])


def _computes(node: fx.Node, values: Values) -> bool:
    """Whether it makes new real numbers from an input of the model."""
    if node.op != "call_function" or is_fixed(node):
        return False
    value = values.get(node)
    parts = value if isinstance(value, tuple | list) else [value]
    if not any(float_tensor(part) for part in parts) or _operator(node) == "getitem":
        return False
    still = node.target in SAME or node.target in MOVING
    return not (still or _operator(node) in _STILL)


def _spread(found: Frame) -> dict[fx.Node, str]:
    """The reasons, those of an attention on its scores and softmax too."""
    reasons = dict(found.reasons)
    for node, reason in found.reasons.items():
        if not _ends_attention(node):
            continue
        pending = [operands(node)[0]]
        while pending:
            inner = pending.pop()
            if not isinstance(inner, fx.Node) or inner.op != "call_function" or inner in reasons:
                continue
            reasons[inner] = reason
            if inner.target not in PRODUCTS and inner.target not in BIASED:
                pending.append(operands(inner)[0])
    return reasons


def _ends_attention(node: fx.Node) -> bool:
    return node.target in PRODUCTS and node.target is not aten.linear.default


def _operator(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.target)).removeprefix("aten.").split(".")[0]


def _reason(node: fx.Node, operator: str, values: Values) -> str:
    if operator == "embedding":
        return "a lookup, nothing to multiply"
    if not node_macs(node, values):
        return "nothing to multiply, and no region that it belongs to"
    if node.target in CONVOLUTIONS:
        return "only conv1d and conv2d with fixed weights, one group and equal padding are taken"
    if node.target not in PRODUCTS | BIASED:
        return f"the accelerator has no {operator}"
    if node.target in PRODUCTS and not any(is_fixed(part) for part in operands(node)[:2]):
        return "a product of two values, and no attention"
    return "no pattern takes it"


def _where(found: Frame, nodes: list[fx.Node]) -> str:
    """The module of the first one, and how many more there are."""
    path = found.matcher.module_of(nodes[0]) or nodes[0].name
    return path if len(nodes) == 1 else f"{path} and {len(nodes) - 1} more"
