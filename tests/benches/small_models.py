"""Small torch models for the tests of the host."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

__all__ = ["Block", "Stack"]


class Block(nn.Module):
    """One post-norm layer; attention: eager, sdpa, or causal."""

    def __init__(self, hidden: int, heads: int, ffn: int, attention: str, activation: nn.Module):
        super().__init__()
        self.heads, self.attention, self.activation = heads, attention, activation
        self.query, self.key, self.value, self.output = (nn.Linear(hidden, hidden) for _ in "qkvo")
        self.up, self.down = nn.Linear(hidden, ffn), nn.Linear(ffn, hidden)
        self.first, self.second = nn.LayerNorm(hidden), nn.LayerNorm(hidden)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        batch, tokens, hidden = x.shape
        q, k, v = (
            part(x).view(batch, tokens, self.heads, -1).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        if self.attention == "sdpa":
            keep = None if mask is None else mask[:, None, None, :].bool()
            context = functional.scaled_dot_product_attention(q, k, v, attn_mask=keep)
        else:
            scores = q @ k.transpose(-1, -2) / (hidden // self.heads) ** 0.5
            if mask is not None:
                scores = scores + (1.0 - mask[:, None, None, :].float()) * -1e9
            if self.attention == "causal":
                scores = scores + torch.full((tokens, tokens), -1e9).triu(1)
            context = scores.softmax(-1) @ v
        x = self.first(x + self.output(context.transpose(1, 2).reshape(batch, tokens, hidden)))
        return self.second(x + self.down(self.activation(self.up(x))))


class Stack(nn.Module):
    """Embedding norm and layers."""

    def __init__(
        self,
        hidden: int = 8,
        heads: int = 2,
        ffn: int = 12,
        layers: int = 1,
        attention: str = "eager",
        activation: nn.Module | None = None,
    ):
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        activation = activation or nn.GELU()
        self.layers = nn.ModuleList(
            Block(hidden, heads, ffn, attention, activation) for _ in range(layers)
        )

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        x = self.norm(x)
        for layer in self.layers:
            x = layer(x, mask)
        return x
