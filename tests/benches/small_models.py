"""Small random models for the tests of the host, and programs on the emulator."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from transept.golden import quantized
from transept.golden.emulator import Emulator
from transept.golden.isa import Window
from transept.host import graph
from transept.host.launch import Launch
from transept.host.program import Program
from transept.host.quantize import Ranges, quantize_chain, quantize_encoder

__all__ = [
    "Block",
    "Stack",
    "emulate",
    "float_encoder",
    "golden",
    "quantised_chain",
    "quantised_encoder",
    "random_rows",
]


# --- torch modules ----------------------------------------------------------------------------
class Block(nn.Module):
    """One post-norm layer; attention: eager, sdpa, or causal (which Transept does not take)."""

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


# --- float and quantised layers ---------------------------------------------------------------
def _linear(name: str, k: int, n: int, activation: str | None = None) -> graph.Linear:
    return graph.Linear(name, torch.randn(n, k) / k**0.5, torch.randn(n) * 0.1, activation)


def _norm(name: str, hidden: int) -> graph.Norm:
    return graph.Norm(name, 1 + torch.randn(hidden) * 0.2, torch.randn(hidden) * 0.2, 1e-5)


def float_encoder(
    hidden: int, heads: int, ffn: int, layers: int, activation: str = "gelu", seed: int = 0
) -> graph.Encoder:
    """A random encoder."""
    torch.manual_seed(seed)
    return graph.Encoder(
        _norm("norm", hidden),
        tuple(
            graph.Layer(
                f"layer{i}",
                *(_linear(f"layer{i}.{part}", hidden, hidden) for part in ("q", "k", "v", "o")),
                _norm(f"layer{i}.first", hidden),
                _linear(f"layer{i}.up", hidden, ffn, activation),
                _linear(f"layer{i}.down", ffn, hidden),
                _norm(f"layer{i}.second", hidden),
                heads,
                (hidden // heads) ** -0.5,
            )
            for i in range(layers)
        ),
    )


@functools.cache
def quantised_encoder(
    hidden: int, heads: int, ffn: int, layers: int, activation: str = "gelu", seed: int = 0
) -> quantized.Encoder:
    """A random encoder, calibrated on normal inputs."""
    model = float_encoder(hidden, heads, ffn, layers, activation, seed)
    ranges = Ranges()
    model(torch.randn(4, 16, hidden), torch.ones(4, 16, dtype=torch.bool), ranges)
    return quantize_encoder(model, ranges, max_tokens=64)


def quantised_chain(
    widths: list[int], activations: list[str | None], seed: int = 0
) -> quantized.LinearChain:
    """Random linear layers, calibrated on normal inputs."""
    torch.manual_seed(seed)
    sizes = zip(widths, widths[1:], activations, strict=False)
    layers = [_linear(f"linear{i}", *size) for i, size in enumerate(sizes)]
    chain, ranges = graph.Chain(tuple(layers)), Ranges()
    chain(torch.randn(64, widths[0]), ranges)
    return quantize_chain(chain, ranges)


def random_rows(launch: Launch, seed: int) -> np.ndarray:
    """int16 rows for the input of ``launch``: normal, with a few extreme values."""
    rng = np.random.default_rng(seed)
    tensor = launch.inputs[0]
    rows = rng.normal(0, 8000, (tensor.rows, tensor.width))
    rows[rng.random(rows.shape) < 0.02] = 32767
    rows[rng.random(tensor.rows) < 0.1] = 0
    return np.clip(rows, -32767, 32767).astype(np.int16)


# --- running ----------------------------------------------------------------------------------
def golden(
    launch: Launch,
    model: quantized.Encoder | quantized.LinearChain,
    values: np.ndarray,
    lengths: list[int] | None = None,
) -> np.ndarray:
    """The output of the whole-tensor model."""
    return Program(launch, model).golden(values, lengths)


def emulate(
    launch: Launch,
    values: np.ndarray,
    lengths: list[int] | None = None,
    *,
    seed: int = 0,
    order: np.random.Generator | None = None,
) -> np.ndarray:
    """The output of the emulator, instructions in program order or in a random legal one."""
    lengths = lengths or [launch.tokens] * launch.batch
    image = launch.with_lengths(lengths) if launch.tokens else launch.instructions
    parts = {
        Window.PROGRAM: np.frombuffer(image, np.uint8),
        Window.WEIGHTS: launch.weights,
        Window.IO: np.zeros(launch.io_bytes, np.uint8),
        Window.SCRATCH: np.zeros(launch.scratch_bytes, np.uint8),
    }
    sizes = [-(-part.size // 64) * 64 for part in parts.values()]
    starts = np.cumsum([0, *sizes]).tolist()
    dram = np.zeros(starts[-1], np.uint8)
    windows = {}
    for (window, part), start in zip(parts.items(), starts, strict=False):
        dram[start : start + part.size] = part
        windows[window] = (start, part.size)
    io = dram[windows[Window.IO][0] :][: launch.io_bytes]
    tensor, out = launch.inputs[0], launch.output
    view = io[tensor.offset :][: tensor.nbytes].view(values.dtype).reshape(tensor.rows, -1)
    view[:, : tensor.width] = values
    Emulator(launch.config, dram, windows, seed).run(order=order)
    rows = io[out.offset :][: out.nbytes].view(values.dtype).reshape(out.rows, -1)
    return rows[:, : out.width].copy()
