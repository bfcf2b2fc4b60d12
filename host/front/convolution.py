"""Convolutions as linear layers on the patches that they see."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx
from torch.nn import functional

from transept.host.front.nodes import operands

__all__ = ["convolutions_to_linears", "patches", "pictures"]

aten = torch.ops.aten

#: Dimensions of the input of each convolution.
_CONVOLUTIONS: dict[object, int] = {
    **{aten.conv1d.default: 3, aten.conv1d.padding: 3},
    **{aten.conv2d.default: 4, aten.conv2d.padding: 4},
}


def patches(
    x: torch.Tensor,
    kernel: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
) -> torch.Tensor:
    """What each output position sees: [batch, positions, channels * kernel].

    x: [batch, channels, length] or [batch, channels, height, width]; positions row by row.
    """
    if x.ndim == 3:  # a line is a picture of height one
        return patches(x[:, :, None], [1, *kernel], [1, *stride], [0, *padding], [1, *dilation])
    window = (tuple(part) for part in (kernel, dilation, padding, stride))
    return functional.unfold(x, *window).transpose(1, 2)


def pictures(
    y: torch.Tensor,
    x: torch.Tensor,
    kernel: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
) -> torch.Tensor:
    """Rows [batch, positions, channels] as the convolution of ``x`` delivers them:
    [batch, channels, length] or [batch, channels, height, width]."""
    sizes = [
        (size + 2 * pad - step * (reach - 1) - 1) // hop + 1
        for size, reach, hop, pad, step in zip(
            x.shape[2:], kernel, stride, padding, dilation, strict=True
        )
    ]
    return y.transpose(1, 2).reshape(y.shape[0], y.shape[2], *sizes)


def convolutions_to_linears(module: fx.GraphModule) -> None:
    """Rewrite every convolution without groups that pads both sides alike: patches, a linear layer,
    and back."""
    for node in list(module.graph.nodes):
        if node.target in _CONVOLUTIONS:
            _rewrite(module, node)
    module.graph.lint()


def _rewrite(module: fx.GraphModule, node: fx.Node) -> None:
    x, weight, bias, stride, padding, dilation, groups = _arguments(node)
    whole = getattr(x.meta.get("val"), "ndim", 0) == _CONVOLUTIONS[node.target]
    if not whole or groups != 1 or weight.op != "get_attr":
        return
    kernel = list(operator.attrgetter(str(weight.target))(module).shape[2:])
    if isinstance(padding, str):
        around = [
            hop * (reach - 1) * (padding == "same")
            for hop, reach in zip(dilation, kernel, strict=True)
        ]
        if any(total % 2 for total in around):
            return
        padding = [total // 2 for total in around]
    window = (kernel, stride, padding, dilation)
    graph = module.graph
    with graph.inserting_before(node):
        rows = graph.call_function(patches, (x, *window))
        matrix = graph.get_attr(_flattened(module, str(weight.target)))
        y = graph.call_function(aten.linear.default, (rows, matrix, bias))
        result = graph.call_function(pictures, (y, x, *window))
    result.meta = dict(node.meta)
    node.replace_all_uses_with(result)
    graph.erase_node(node)


def _arguments(node: fx.Node) -> list[Any]:
    """x, weight, bias, stride, padding (a list, or "same" or "valid"), dilation, groups, with what
    was left out."""
    dims = _CONVOLUTIONS[node.target] - 2
    given = dict(enumerate(operands(node))) | {
        position: node.kwargs[name]
        for position, name in enumerate(("input", "weight", "bias"))
        if name in node.kwargs
    }
    defaults: tuple[Any, ...] = (None, None, None, 1, 0, 1, 1)
    values = [given.get(position, default) for position, default in enumerate(defaults)]
    for position in (3, 4, 5):
        value = values[position]
        if isinstance(value, str):
            continue
        value = [value] if isinstance(value, int) else list(value)
        values[position] = value * dims if len(value) == 1 else value
    return values


def _flattened(module: fx.GraphModule, path: str) -> str:
    """The path of a weight as a matrix [out, in * kernel], kept beside it."""
    parent, _, name = path.rpartition(".")
    owner = operator.attrgetter(parent)(module) if parent else module
    weight = operator.attrgetter(path)(module)
    owner.register_buffer(f"{name}_matrix", weight.detach().flatten(1), persistent=False)
    return f"{path}_matrix"
