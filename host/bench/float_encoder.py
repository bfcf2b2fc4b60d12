"""Encoders of the shapes of real models in torch, with random weights."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from transept.golden.graph import Graph
from transept.host.bench.encoder import Encoder
from transept.host.runtime.program import compile as compile_model

__all__ = ["FloatEncoder", "encoder_graph"]


class _Layer(nn.Module):
    def __init__(self, sizes: Encoder) -> None:
        super().__init__()
        hidden = sizes.hidden
        self.heads = sizes.heads
        self.q, self.k, self.v, self.o = (nn.Linear(hidden, hidden) for _ in range(4))
        self.up, self.down = nn.Linear(hidden, sizes.inner), nn.Linear(sizes.inner, hidden)
        self.norm1, self.norm2 = nn.LayerNorm(hidden), nn.LayerNorm(hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.q, self.k, self.v)
        )
        context = functional.scaled_dot_product_attention(q, k, v)
        x = self.norm1(x + self.o(context.transpose(1, 2).flatten(2)))
        return self.norm2(x + self.down(functional.gelu(self.up(x))))


class FloatEncoder(nn.Module):
    """Layers of BERT (Devlin et al. 2019) on float[batch, length, hidden]."""

    def __init__(self, sizes: Encoder) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(sizes) for _ in range(sizes.layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float[batch, length, hidden]."""
        for layer in self.layers:
            x = layer(x)
        return x


def encoder_graph(sizes: Encoder, tokens: int = 128) -> tuple[FloatEncoder, Graph]:
    """An encoder with random weights, and its quantised graph, calibrated on noise."""
    generator = torch.Generator().manual_seed(sizes.hidden)
    torch.manual_seed(sizes.hidden)
    model = FloatEncoder(sizes).eval()
    x = torch.randn(1, tokens, sizes.hidden, generator=generator)
    program = compile_model(model, x)
    (region,) = program.regions
    return model, region.graph
