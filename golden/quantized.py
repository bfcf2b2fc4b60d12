"""What quantisation produces: integer layers, ready for the golden models and the compiler.

Arrays are NumPy; weights int8[n, k] as torch's ``nn.Linear`` keeps them, parameters int64. A tensor
between layers is int16 rows; ``scale`` (float64[channels]) turns it into real numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from transept.golden.numerics.norm import NormParameters
from transept.golden.numerics.requantise import ActivationTable, ChannelParameters

__all__ = ["Attention", "Encoder", "Layer", "Linear", "LinearChain", "Norm"]


@dataclass(frozen=True)
class Linear:
    """``y = activation(requantise(quantise_row(x) . weight^T))``, rows quantised at run time."""

    name: str
    weight: np.ndarray  # int8[n, k]
    channel: ChannelParameters  # of n
    row_shift: int
    out_shift: int
    bits: int  # 16, or 8 for Q, K and V
    table: ActivationTable | None = None


@dataclass(frozen=True)
class Norm:
    """LayerNorm of a residual sum (``numerics.norm.layer_norm``)."""

    name: str
    parameters: NormParameters
    epsilon: int
    out_shift: int


@dataclass(frozen=True)
class Attention:
    """Multi-head attention on int8 Q, K and V; one score multiplier for each head."""

    name: str
    heads: int
    score_multiplier: np.ndarray  # int64[heads], uint16
    score_shift: np.ndarray  # int64[heads], channel shift
    score_row_shift: int
    context: ChannelParameters  # of all channels, head by head
    context_row_shift: int
    context_out_shift: int


@dataclass(frozen=True)
class Layer:
    """One post-norm encoder layer."""

    query: Linear
    key: Linear
    value: Linear
    attention: Attention
    output: Linear
    attention_norm: Norm
    up: Linear
    down: Linear
    output_norm: Norm


@dataclass(frozen=True)
class Encoder:
    """Embedding norm and encoder layers: int16[rows, hidden] in, int16[rows, hidden] out."""

    hidden: int
    heads: int
    embedding_norm: Norm
    layers: tuple[Layer, ...]
    input_scale: np.ndarray  # float64[hidden]
    output_scale: np.ndarray  # float64[hidden]

    @property
    def macs_per_row(self) -> int:
        """Multiply-accumulates of one token outside attention."""
        return sum(
            linear.weight.size
            for layer in self.layers
            for linear in (layer.query, layer.key, layer.value, layer.output, layer.up, layer.down)
        )

    def macs(self, lengths: list[int]) -> int:
        """Multiply-accumulates of a batch of sequences, padding not counted."""
        attention = sum(2 * n * n * self.hidden for n in lengths) * len(self.layers)
        return sum(lengths) * self.macs_per_row + attention


@dataclass(frozen=True)
class LinearChain:
    """Linear layers one after the other: int16[rows, k] in, int16[rows, n] out."""

    layers: tuple[Linear, ...]
    input_scale: np.ndarray  # float64[k]
    output_scale: np.ndarray  # float64[n]

    def macs(self, lengths: list[int]) -> int:
        """Multiply-accumulates of ``sum(lengths)`` rows."""
        return sum(lengths) * sum(linear.weight.size for linear in self.layers)
