"""The whole-tensor integer graph of an encoder in torch: the contract's second executable form.

It knows neither instructions nor tiles. Products of int8 matrices are exact in float64, which torch
multiplies much faster than int64.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from transept.golden import quantized
from transept.golden.numerics.norm import layer_norm
from transept.golden.numerics.polynomial import reciprocal
from transept.golden.numerics.requantise import (
    ONE,
    ROW_MAX_FLOOR,
    ChannelParameters,
    activation,
    quantise_row,
    requantise,
)
from transept.golden.numerics.softmax import MASKED, levels

__all__ = ["attention", "encoder", "linear", "linear_chain", "norm"]


def _tensors(parameters: Any) -> Any:
    """The same dataclass with torch arrays."""
    fields = {
        field.name: torch.as_tensor(value)
        if hasattr(value := getattr(parameters, field.name), "dtype")
        else value
        for field in dataclasses.fields(parameters)
    }
    return type(parameters)(**fields)


def _product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Exact integer matrix product of int8-valued int64 tensors."""
    return (a.double() @ b.double()).long()


def linear(layer: quantized.Linear, x: torch.Tensor) -> torch.Tensor:
    """int16[..., k] -> int16[..., n] (or int8 values), both as int64."""
    row_max = x.abs().amax(-1)
    acc = _product(quantise_row(x, row_max), torch.as_tensor(layer.weight).long().T)
    multiplier = row_max.clip(ROW_MAX_FLOOR, 32767)
    y = requantise(
        acc,
        _tensors(layer.channel),
        multiplier,
        torch.zeros_like(multiplier),
        pre=0,
        row_shift=layer.row_shift,
        out_shift=layer.out_shift,
        bits=layer.bits,
    )
    return y if layer.table is None else activation(y, _tensors(layer.table))


def norm(layer: quantized.Norm, y: torch.Tensor, x: torch.Tensor | None) -> torch.Tensor:
    """int16[..., n] rows: LayerNorm of y, or of y + x."""
    parameters = _tensors(layer.parameters)
    return layer_norm(y, x, parameters, epsilon=layer.epsilon, out_shift=layer.out_shift)


def _scores(
    layer: quantized.Attention, q: torch.Tensor, k: torch.Tensor, keys: int
) -> torch.Tensor:
    """int8[heads, t, d] twice -> int16[heads, t, t] in log2 units; padding masked."""
    channel = ChannelParameters(
        torch.as_tensor(layer.score_multiplier)[:, None, None],
        torch.as_tensor(layer.score_shift)[:, None, None],
        torch.zeros((), dtype=torch.long),
    )
    rows = torch.full(q.shape[:2], ONE)
    shifts = {"pre": 0, "row_shift": layer.score_row_shift, "out_shift": 0, "bits": 16}
    scores = requantise(_product(q, k.mT), channel, rows, torch.zeros_like(rows), **shifts)
    scores[..., keys:] = MASKED
    return scores


def attention(
    layer: quantized.Attention, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, keys: int
) -> torch.Tensor:
    """One sequence: int8[t, hidden] three times, ``keys`` rows are real -> int16[t, hidden]."""
    tokens, hidden = q.shape
    q, k, v = (t.view(tokens, layer.heads, -1).transpose(0, 1) for t in (q, k, v))  # (heads, t, d)
    scores = _scores(layer, q, k, keys)
    level = levels(scores, scores.amax(-1, keepdim=True))
    acc = _product(level, v).transpose(0, 1).reshape(tokens * layer.heads, -1)  # (t * heads, d)
    mantissa, exponent = reciprocal(level.sum(-1).T.reshape(-1))
    channel = ChannelParameters(
        *(
            torch.as_tensor(value).view(layer.heads, -1).repeat(tokens, 1)
            for value in (layer.context.multiplier, layer.context.shift, layer.context.bias)
        )
    )
    context = requantise(
        acc,
        channel,
        mantissa,
        exponent,
        pre=0,
        row_shift=layer.context_row_shift,
        out_shift=layer.context_out_shift,
        bits=16,
    )
    return context.view(tokens, hidden)


def _layer(layer: quantized.Layer, x: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    q, k, v = (linear(part, x) for part in (layer.query, layer.key, layer.value))
    context = torch.stack(
        [
            attention(layer.attention, *qkv, keys)
            for *qkv, keys in zip(q, k, v, lengths, strict=True)
        ]
    )
    x = norm(layer.attention_norm, linear(layer.output, context), x)
    return norm(layer.output_norm, linear(layer.down, linear(layer.up, x)), x)


def encoder(model: quantized.Encoder, x: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    """int16[batch, tokens, hidden] -> the same shape, as int64.

    lengths: real tokens of each sequence; rows beyond them are computed but never attended to.
    """
    x = norm(model.embedding_norm, x.long(), None)
    for layer in model.layers:
        x = _layer(layer, x, lengths)
    return x


def linear_chain(model: quantized.LinearChain, x: torch.Tensor) -> torch.Tensor:
    """int16[rows, k] -> int16[rows, n], as int64."""
    x = x.long()
    for layer in model.layers:
        x = linear(layer, x)
    return x
