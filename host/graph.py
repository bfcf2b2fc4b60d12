"""The float side of a compiled model: the layers that the importer recognises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

__all__ = ["ACTIVATIONS", "Chain", "Encoder", "Layer", "Linear", "Norm", "Observer"]

#: Activations that fit one loadable table, by the name of their torch operator.
ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "silu": functional.silu,
    "relu": functional.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}

#: Called with the name of a tensor and its value, float32[rows, channels].
Observer = Callable[[str, torch.Tensor], None]


@dataclass(frozen=True)
class Linear:
    """``activation(x W^T + b)``; weight float32[n, k], bias float32[n]."""

    name: str
    weight: torch.Tensor
    bias: torch.Tensor
    activation: str | None = None

    def __call__(self, x: torch.Tensor, observe: Observer) -> torch.Tensor:
        observe(f"{self.name}.operand", x)
        y = functional.linear(x, self.weight, self.bias)
        observe(self.name, y)
        if self.activation is not None:
            y = ACTIVATIONS[self.activation](y)
            observe(f"{self.name}.{self.activation}", y)
        return y


@dataclass(frozen=True)
class Norm:
    """LayerNorm over the last dimension."""

    name: str
    weight: torch.Tensor
    bias: torch.Tensor
    epsilon: float

    def __call__(self, z: torch.Tensor, observe: Observer) -> torch.Tensor:
        observe(f"{self.name}.input", z)
        y = functional.layer_norm(z, self.weight.shape, self.weight, self.bias, self.epsilon)
        observe(self.name, y)
        return y


@dataclass(frozen=True)
class Layer:
    """One post-norm encoder layer."""

    name: str
    query: Linear
    key: Linear
    value: Linear
    output: Linear
    attention_norm: Norm
    up: Linear
    down: Linear
    output_norm: Norm
    heads: int
    scale: float  # of the scores, before the softmax

    def __call__(self, x: torch.Tensor, keep: torch.Tensor, observe: Observer) -> torch.Tensor:
        batch, tokens, _ = x.shape

        def split(t: torch.Tensor) -> torch.Tensor:
            return t.view(batch, tokens, self.heads, -1).transpose(1, 2)  # (b, heads, t, d)

        q, k, v = (split(part(x, observe)) for part in (self.query, self.key, self.value))
        scores = (q @ k.mT * self.scale).masked_fill(~keep[:, None, None, :], float("-inf"))
        context = (scores.softmax(-1) @ v).transpose(1, 2).reshape(x.shape[0], tokens, -1)
        observe(f"{self.name}.context", context)
        x = self.attention_norm(x + self.output(context, observe), observe)
        return self.output_norm(x + self.down(self.up(x, observe), observe), observe)


@dataclass(frozen=True)
class Encoder:
    """Embedding norm and post-norm layers; input float32[batch, tokens, hidden]."""

    embedding_norm: Norm
    layers: tuple[Layer, ...]

    @property
    def hidden(self) -> int:
        """Channels of a row."""
        return self.embedding_norm.weight.numel()

    def __call__(
        self, x: torch.Tensor, keep: torch.Tensor, observe: Observer = lambda name, value: None
    ) -> torch.Tensor:
        """keep: bool[batch, tokens], False on padding, which is not observed."""

        def observe_kept(name: str, value: torch.Tensor) -> None:
            observe(name, value[keep])

        x = self.embedding_norm(x, observe_kept)
        for layer in self.layers:
            x = layer(x, keep, observe_kept)
        return x


@dataclass(frozen=True)
class Chain:
    """Linear layers one after the other; input float32[rows, k]."""

    layers: tuple[Linear, ...]

    def __call__(
        self, x: torch.Tensor, observe: Observer = lambda name, value: None
    ) -> torch.Tensor:
        observe("input", x)
        for layer in self.layers:
            x = layer(x, observe)
        return x
