"""Operators as patterns find them, of given constants, without the torch graph around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from transept.host.front.matches import AddMatch, AttentionMatch, LinearMatch, NormMatch

__all__ = ["add", "attention", "linear", "norm"]


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
