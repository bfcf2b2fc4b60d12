"""Operators as patterns find them: of given constants alone, or in the graph of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from transept.host.front.export import Arguments, export, run
from transept.host.front.matcher import Matcher
from transept.host.front.matches import (
    AddMatch,
    AttentionMatch,
    LinearMatch,
    MultiplyMatch,
    NormMatch,
    RotaryMatch,
)

__all__ = ["Calls", "add", "attention", "linear", "matched", "multiply", "norm", "rotary"]


class Calls(torch.nn.Module):
    """A function as a model, with its parameters."""

    def __init__(self, function: Callable[..., Any], **parameters: torch.Tensor) -> None:
        super().__init__()
        self.function = function
        for name, value in parameters.items():
            self.register_buffer(name, value)

    def forward(self, *inputs: torch.Tensor) -> Any:
        """What the function makes of the inputs, and of the parameters by name."""
        return self.function(*inputs, **dict(self.named_buffers()))


def matched(
    model: torch.nn.Module | Callable[..., Any], *inputs: torch.Tensor, **choices: Any
) -> Matcher:
    """What patterns find in a model, or in a function."""
    model = model if isinstance(model, torch.nn.Module) else Calls(model)
    arguments = Arguments(inputs, {})
    module = export(model, arguments)
    return Matcher(module, run(module, arguments), **choices)


def _common(name: str, inputs: Sequence[str], outputs: Sequence[str] | None) -> dict[str, Any]:
    return {
        "name": name,
        "inputs": tuple(inputs),
        "outputs": tuple(outputs or (name,)),
        "nodes": frozenset(),
        "defines": {},
    }


def linear(
    weight: list,
    bias: list | None = None,
    *,
    name: str = "linear",
    x: str = "x",
    outputs: Sequence[str] | None = None,
    activation: Any = None,
) -> LinearMatch:
    """``activation(x W^T + b)``."""
    real = torch.tensor(weight, dtype=torch.float32)
    return LinearMatch(
        **_common(name, (x,), outputs),
        weight=real,
        bias=torch.tensor(bias or [0.0] * len(real)),
        activation=activation,
        weights=name,
        product=None,
    )


def norm(
    weight: list,
    bias: list | None = None,
    *,
    name: str = "norm",
    inputs: Sequence[str] = ("y",),
    outputs: Sequence[str] | None = None,
    epsilon: float = 0.0,
    centre: bool = True,
    total: str | None = None,
) -> NormMatch:
    """A norm of one operand, or of the sum of two."""
    return NormMatch(
        **_common(name, inputs, outputs),
        weight=torch.tensor(weight),
        bias=torch.tensor(bias or [0.0] * len(weight)),
        epsilon=epsilon,
        centre=centre,
        sum=total,
    )


def add(
    *, name: str = "sum", inputs: Sequence[str] = ("y", "x"), outputs: Sequence[str] | None = None
) -> AddMatch:
    """A sum."""
    return AddMatch(**_common(name, inputs, outputs))


def multiply(
    y: str, x: str, *, name: str = "product", outputs: Sequence[str] | None = None
) -> MultiplyMatch:
    """A product of elements."""
    return MultiplyMatch(**_common(name, (y, x), outputs))


def rotary(heads: int, *, name: str = "rotary", d: int = 4) -> RotaryMatch:
    """A rotary embedding of heads of d elements."""
    columns = torch.arange(heads * d).reshape(heads, d)
    return RotaryMatch(**_common(name, ("x", "cos", "sin"), None), heads=heads, columns=columns)


def attention(
    heads: int,
    kv_heads: int,
    *,
    scale: float = 1.0,
    inputs: Sequence[str] = ("q", "k", "v"),
    name: str = "attention",
    **facts: Any,
) -> AttentionMatch:
    """Attention over one sequence of one position, if nothing else is said."""
    one = torch.zeros(1, 1, dtype=torch.int64)
    given = {
        "columns": (one, one, one),
        "queries": one,
        "keys": one,
        "leading": (1, heads),
        "slices": torch.zeros(heads, dtype=torch.int64),
    }
    return AttentionMatch(
        **_common(name, inputs, None),
        heads=heads,
        kv_heads=kv_heads,
        scale=scale,
        **given | facts,
    )
