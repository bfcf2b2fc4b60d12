"""Chains of pointwise operators of one variable: every one of them is an activation table.

A GELU is one operator, or eight when it is spelled out; what counts is that each element of the
result depends on one element of the operand, and that nothing else looks at what is in between.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from transept.host.front.export import Values, float_tensor
from transept.host.front.nodes import drops_nothing, is_fixed, operands
from transept.host.front.views import MOVING, SAME

__all__ = ["Pointwise", "find_pointwise"]

aten = torch.ops.aten

_ARITHMETIC = ("add", "sub", "mul", "div", "rsub", "pow", "where", "maximum", "minimum")
_COMPARISONS = ("ge", "gt", "le", "lt", "eq", "ne")
_FUNCTIONS = (
    *("abs", "celu", "clamp", "clamp_max", "clamp_min", "cos", "elu", "erf", "exp", "expm1"),
    *("gelu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "log", "log1p", "log_sigmoid"),
    *("mish", "neg", "reciprocal", "relu", "relu6", "rsqrt", "selu", "sigmoid", "sign", "silu"),
    *("sin", "softplus", "softsign", "sqrt", "square", "tanh"),
)
_POINTWISE = {*_ARITHMETIC, *_COMPARISONS, *_FUNCTIONS}
#: Operators that keep a straight line straight; a chain of them alone is no activation.
_STRAIGHT = {"add", "sub", "mul", "div", "rsub", "neg"}


@dataclass(frozen=True, eq=False)
class Pointwise:
    """``function``, float64 to float64, takes the operand of ``source`` to the result of ``node``;
    ``carry`` brings a tensor of the operand's shape to where its elements lie in the result;
    ``formula`` is equal for equal functions."""

    source: fx.Node
    node: fx.Node
    nodes: frozenset[fx.Node]
    function: Callable[[torch.Tensor], torch.Tensor]
    carry: Callable[[torch.Tensor], torch.Tensor]
    name: str
    formula: str


def find_pointwise(source: fx.Node, values: Values) -> Pointwise | None:
    """The longest chain behind ``source`` that nothing else looks into; None if there is none."""
    chain = _chain(source, values)
    order = list(chain)
    for node in reversed(order):
        if node is source or _kind(node) not in _POINTWISE:
            continue
        inside = _ancestors(node, chain)
        hidden = inside - {node}
        if any(user not in inside for inner in hidden for user in inner.users):
            continue
        kinds = [_kind(inner) for inner in order if inner in inside and inner is not source]
        if all(kind in _STRAIGHT for kind in kinds if kind in _POINTWISE):
            continue
        steps = [inner for inner in order if inner in inside and inner is not source]
        name = "_".join(dict.fromkeys(kind for kind in kinds if kind in _FUNCTIONS)) or "pointwise"
        function, carry = _function(source, steps, values), _carry(source, steps, values)
        formula = _formula(source, steps, values)
        return Pointwise(source, node, frozenset(inside), function, carry, name, formula)
    return None


def _kind(node: fx.Node) -> str:
    if node.op != "call_function":
        return ""
    return str(node.target).removeprefix("aten.").split(".")[0]


def _chain(source: fx.Node, values: Values) -> dict[fx.Node, None]:
    """Every node that depends on the source alone, element by element, in the graph's order."""
    chain = {source: None}
    places = {source: torch.arange(values[source].numel()).reshape(values[source].shape)}
    pending, node = set(source.users), source.next
    while pending:
        if node in pending:
            pending.discard(node)
            if _continues(node, chain, values) and _meets(node, places):
                places[node] = _moved(node, places, values)
                chain[node] = None
                pending |= set(node.users)
        node = node.next
    return chain


def _continues(node: fx.Node, chain: dict[fx.Node, None], values: Values) -> bool:
    value, operand = values.get(node), values[next(iter(chain))]
    if not isinstance(value, torch.Tensor) or value.numel() != operand.numel():
        return False
    if node.target in SAME and not float_tensor(value):  # a cast to integers rounds
        return False
    moves = node.target in MOVING or node.target in SAME or drops_nothing(node)
    if not (moves or _kind(node) in _POINTWISE):
        return False
    if node.target in MOVING:  # what else it reads says only how it moves
        return operands(node)[0] in chain
    return all(n in chain or _is_number(n, values) for n in node.all_input_nodes)


def _meets(node: fx.Node, places: dict[fx.Node, torch.Tensor]) -> bool:
    """Whether all operands have the same elements of the source in the same places."""
    first, *others = [places[n].reshape(-1) for n in node.all_input_nodes if n in places]
    return all(torch.equal(first, other) for other in others)


def _moved(node: fx.Node, places: dict[fx.Node, torch.Tensor], values: Values) -> torch.Tensor:
    """Where the elements of the source lie in the result."""
    before = places[next(n for n in node.all_input_nodes if n in places)]
    if node.target not in MOVING:
        return before.reshape(values[node].shape)
    args = fx.node.map_arg(operands(node)[1:], lambda n: values[n])
    kwargs = fx.node.map_arg(node.kwargs, lambda n: values[n])
    return node.target(before, *args, **kwargs)  # type: ignore[operator]


def _is_number(node: fx.Node, values: Values) -> bool:
    value = values.get(node)
    return is_fixed(node) and isinstance(value, torch.Tensor) and value.numel() == 1


def _ancestors(node: fx.Node, chain: dict[fx.Node, None]) -> set[fx.Node]:
    """The part of the chain that leads to ``node``, with it."""
    found, stack = {node}, [node]
    while stack:
        for earlier in stack.pop().all_input_nodes:
            if earlier in chain and earlier not in found:
                found.add(earlier)
                stack.append(earlier)
    return found


def _function(
    source: fx.Node, steps: list[fx.Node], values: Values
) -> Callable[[torch.Tensor], torch.Tensor]:
    def evaluate(x: torch.Tensor) -> torch.Tensor:
        known: dict[fx.Node, torch.Tensor] = {source: x.double()}
        for node in steps:
            first = operands(node)[0]
            if _kind(node) not in _POINTWISE:  # truth becomes numbers by a cast
                floats = float_tensor(values[node])
                known[node] = known[first].double() if floats else known[first]
                continue

            def value(argument: fx.Node) -> Any:
                if argument in known:
                    return known[argument]
                constant = values[argument]
                return constant.double() if float_tensor(constant) else constant

            args = fx.node.map_arg(operands(node), value)
            kwargs = fx.node.map_arg(node.kwargs, value)
            result = node.target(*args, **kwargs)  # type: ignore[operator]
            known[node] = result
        return known[steps[-1]].double()

    return evaluate


def _formula(source: fx.Node, steps: list[fx.Node], values: Values) -> str:
    """What is done to the operand, step by step, whatever its shape."""
    told: dict[fx.Node, str] = {source: "x"}

    def text(argument: fx.Node) -> str:
        if argument in told:
            return told[argument]
        constant = values[argument]
        return str(constant.item() if isinstance(constant, torch.Tensor) else constant)

    lines: list[str] = []
    for node in steps:
        if _kind(node) not in _POINTWISE:
            told[node] = told[next(n for n in node.all_input_nodes if n in told)]
            continue
        arguments = fx.node.map_arg((operands(node), node.kwargs), text)
        told[node] = f"y{len(lines)}"
        lines.append(f"{node.target}{arguments}")
    return "; ".join(lines)


def _carry(
    source: fx.Node, steps: list[fx.Node], values: Values
) -> Callable[[torch.Tensor], torch.Tensor]:
    def move(codes: torch.Tensor) -> torch.Tensor:
        known: dict[fx.Node, torch.Tensor] = {source: codes}
        for node in steps:
            known[node] = _moved(node, known, values)
        return known[steps[-1]]

    return move
