"""Small torch models for the tests of the host."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

__all__ = ["Block", "Stack", "TwoRegions", "Words"]


class TwoRegions(nn.Module):
    """Between its linear layers stands what only torch knows."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(8, 24), nn.Linear(24, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(torch.fft.fft(self.a(x)).real)


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


class Words:
    """A tokenizer of 1,000 tokens: a word is 10 and its length, between 1 and 2; 0 is padding."""

    def __len__(self):
        return 1000

    def __call__(self, texts, *, truncation, max_length, padding=None, return_tensors=None):
        ids = [[1, *(10 + len(word) for word in text.split())] for text in texts]
        if truncation:
            ids = [row[: max_length - 1] for row in ids]
        ids = [[*row, 2] for row in ids]
        if return_tensors is None:
            return {"input_ids": ids}
        assert (padding, return_tensors) == ("max_length", "pt")
        padded = torch.tensor([row + [0] * (max_length - len(row)) for row in ids])
        return {"input_ids": padded, "attention_mask": (padded > 0).long()}
