"""Float layers to integer layers: scales from calibration, weights per channel, smoothing.

Only this step approximates. Rows are quantised at run time, so static scales only place tensors on
their int16 (or, for Q, K and V, int8) grids. Smoothing (SmoothQuant, Xiao et al. 2023) moves the
spread of activation channels into the weights: factors are powers of two where the tensor is also a
residual, free elsewhere. Weights are rounded one input channel after the other, and the error of
each is made good in those that follow (GPTQ, Frantar et al. 2023): an error that every row of a
sequence shares, because its tokens are all the same, does not average out behind the layers.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from transept.golden import quantized
from transept.golden.numerics.norm import NormParameters
from transept.golden.numerics.requantise import SEGMENTS, ActivationTable, ChannelParameters
from transept.host import graph

__all__ = ["Ranges", "activation_table", "quantize_chain", "quantize_encoder"]

INT16 = 32767
INT8 = 127
SMOOTHING = 0.5
MARGIN16 = 2.0  # int16 grids leave room for values that calibration did not see
MARGIN8 = 1.0  # int8 grids clip instead: a wider grid costs more than rare clipping
OUT_SHIFT = 8  # fractional bits of the requantised value when the bias is added
PRODUCT_LIMIT = (1 << 24) - 1
#: Activations reach their asymptotes within 1e-3 at half of these widths, silu within 3e-3.
SPANS = {"silu": 16, "sigmoid": 16}
SPAN = 8
WHOLE_WIDTH = 10  # segments of this width cover all of int16
DAMPING = 0.01  # of the mean second moment, for directions that calibration did not see
ROUNDED_TOGETHER = 128  # input channels between two updates of all later ones
OPERAND = ".operand"  # tensors whose second moments are kept


class Ranges:
    """Largest magnitude of every channel of every named tensor that calibration saw, and the sum of
    ``x^T x`` over the rows of every operand of a linear layer."""

    def __init__(self) -> None:
        self._largest: dict[str, torch.Tensor] = {}
        self._moments: dict[str, torch.Tensor] = {}

    def __call__(self, name: str, value: torch.Tensor) -> None:
        if name.endswith(OPERAND):
            rows = value.detach().reshape(-1, value.shape[-1])
            self._moments[name] = self._moments.get(name, 0) + rows.T @ rows
            return
        largest = value.detach().abs().reshape(-1, value.shape[-1]).amax(0)
        seen = self._largest.get(name)
        self._largest[name] = largest if seen is None else torch.maximum(seen, largest)

    def __getitem__(self, name: str) -> np.ndarray:
        """float64[channels], at least 1e-6.

        Raises
        ------
        ValueError
            If calibration saw NaN or infinity.
        """
        largest = self._largest[name].double().numpy()
        if not np.isfinite(largest).all():
            bad = largest[~np.isfinite(largest)][0]
            raise ValueError(f"calibration saw {bad} in {name}; calibrate with finite inputs")
        return np.maximum(largest, 1e-6)

    def moments(self, layer: graph.Linear) -> torch.Tensor:
        """float64[k, k], the sum of ``x^T x`` over all rows that entered the layer."""
        return self._moments[layer.name + OPERAND].double()


def _check_weights(*layers: graph.Linear | graph.Norm) -> None:
    for layer in layers:
        for tensor in (layer.weight, layer.bias):
            if not bool(torch.isfinite(tensor).all()):
                bad = tensor[~torch.isfinite(tensor)][0].item()
                raise ValueError(
                    f"weights of {layer.name} hold {bad}; only finite weights can be quantised"
                )


def _reach(layer: graph.Linear, ranges: Ranges) -> np.ndarray:
    """Largest magnitude of each output and of its bias, which must fit the same scale even where
    the product cancels it."""
    return np.maximum(ranges[layer.name], layer.bias.abs().double().numpy())


def _multipliers(real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per-channel ``real ~ multiplier * 2**-shift``, 16 bits and 0..31."""
    exponent = np.floor(np.log2(np.maximum(real, 2.0**-46))).astype(np.int64)
    shift = np.clip(15 - exponent, 0, 31)
    multiplier = np.rint(real * 2.0**shift).astype(np.int64)
    return np.minimum(multiplier, 0xFFFF), shift


def _round(weight: torch.Tensor, moments: torch.Tensor) -> torch.Tensor:
    """Integers q within +-127 with a small ``sum |(q - weight) x|^2`` over calibration's rows x.

    weight: float64[n, k] in steps; moments: float64[k, k], the sum of ``x^T x``. With U the upper
    Cholesky factor of the inverse moments, channels in the order of falling second moment::

        q_i = round(w_i);   w_j -= (w_i - q_i) U_ij / U_ii   for j > i

    Nothing is known of a channel that was always zero: it is rounded to the nearest.
    """
    size = len(moments)
    damping = max(float(moments.diagonal().mean()) * DAMPING, 1e-12)
    order = moments.diagonal().argsort(descending=True)
    ordered = moments[order][:, order] + damping * torch.eye(size, dtype=torch.float64)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(ordered))
    factor = torch.linalg.cholesky(inverse, upper=True)
    left, done = weight[:, order].T.contiguous(), torch.empty_like(weight)
    for start in range(0, size, ROUNDED_TOGETHER):
        end = min(start + ROUNDED_TOGETHER, size)
        errors = torch.empty(end - start, len(weight), dtype=torch.float64)
        for i in range(start, end):
            rounded = left[i].round().clip(-INT8, INT8)
            done[:, order[i]] = rounded
            errors[i - start] = (left[i] - rounded) / factor[i, i]
            left[i:end] -= factor[i, i:end, None] * errors[i - start]
        left[end:] -= factor[start:end, end:].T @ errors
    return done


def _linear(
    layer: graph.Linear,
    ranges: Ranges,
    in_scale: np.ndarray,
    out_scale: np.ndarray,
    bits: int,
    table: ActivationTable | None = None,
) -> quantized.Linear:
    """Weights per output channel; in_scale and out_scale are the real value of one step."""
    real = layer.weight.double().numpy() * in_scale / out_scale[:, None]
    step = np.maximum(np.abs(real).max(1), 1e-12) / INT8
    scale = torch.as_tensor(in_scale)
    moments = ranges.moments(layer) / torch.outer(scale, scale)
    weight = _round(torch.as_tensor(real / step[:, None]), moments).numpy().astype(np.int8)
    per_row = step / INT8  # times the row maximum
    bound = INT8 * np.abs(weight.astype(np.int64)).sum(1)  # largest possible accumulator
    row_shift = _row_shift(bound * per_row * 2.0**OUT_SHIFT)
    multiplier, shift = _multipliers(per_row * 2.0 ** (row_shift + OUT_SHIFT))
    bias = np.rint(layer.bias.double().numpy() / out_scale * 2.0**OUT_SHIFT)
    channel = ChannelParameters(multiplier, shift, _int24(bias))
    return quantized.Linear(layer.name, weight, channel, row_shift, OUT_SHIFT, bits, table)


def _row_shift(largest: np.ndarray) -> int:
    """The row shift at which the channel product still fits 25 bits for every channel."""
    return int(np.clip(np.floor(np.log2(PRODUCT_LIMIT / max(largest.max(), 1e-12))), 0, 40))


def _int24(values: np.ndarray) -> np.ndarray:
    return np.clip(values, -(1 << 23) + 1, (1 << 23) - 1).astype(np.int64)


def activation_table(name: str, in_exponent: int, out_exponent: int) -> ActivationTable:
    """A table of ``graph.ACTIVATIONS[name]`` on [-4, 4), or [-8, 8), with asymptotes beyond.

    in_exponent, out_exponent: one int16 step is ``2**exponent``. Each segment is a least-squares
    quadratic; the outer two are the lines that the function approaches, unless int16 ends before.
    """
    function = graph.ACTIVATIONS[name]
    width = int(math.log2(SPANS.get(name, SPAN) / SEGMENTS)) - in_exponent
    width = min(max(0, width), WHOLE_WIDTH)
    start = -(SEGMENTS // 2) << width
    rows = []
    for segment in range(SEGMENTS):
        low = start + (segment << width)
        if segment in (0, SEGMENTS - 1) and width < WHOLE_WIDTH:
            base, slope = _line(function, low * 2.0**in_exponent, 1 if segment else -1)
            coefficients = (base, slope * 2.0**in_exponent, 0.0)
        else:
            d = torch.arange(1 << width, dtype=torch.float64)
            y = function((low + d) * 2.0**in_exponent).numpy()
            fit = np.polynomial.polynomial.polyfit(d.numpy(), y, min(2, len(d) - 1))
            coefficients = (*fit, 0.0, 0.0)[:3]
        rows.append([value * 2.0**-out_exponent for value in coefficients])
    c0, c1, c2 = np.array(rows).T
    out_shift = _largest_shift(c1, (1 << 23) - 1, 8, 16)
    slope_shift = _largest_shift(c2 * 2.0**out_shift, INT16, 0, 10)
    return ActivationTable(
        start,
        width,
        slope_shift,
        out_shift,
        _int24(np.rint(c0 * 2.0 ** (out_shift - 8))),
        _int24(np.rint(c1 * 2.0**out_shift)),
        np.clip(np.rint(c2 * 2.0 ** (out_shift + slope_shift)), -INT16, INT16).astype(np.int64),
    )


def _largest_shift(values: np.ndarray, limit: int, low: int, high: int) -> int:
    """The shift within low to high at which the values still fit the limit."""
    largest = max(np.abs(values).max(), 1e-9)
    return int(np.clip(np.floor(np.log2(limit / largest)), low, high))


def _line(function: object, at: float, side: int) -> tuple[float, float]:
    """Value at ``at`` and slope of the asymptote on one side (-1 left, 1 right)."""
    far = torch.tensor([32.0 * side, 64.0 * side], dtype=torch.float64)
    y = function(far)  # type: ignore[operator]
    slope = float((y[1] - y[0]) / (far[1] - far[0]))
    return float(y[0]) + slope * (at - float(far[0])), slope


def _power_of_two(largest: float, limit: int) -> int:
    """Smallest exponent e with ``largest <= limit * 2**e``."""
    return math.ceil(math.log2(largest / limit))


def _smoothing(largest: np.ndarray, weights: list[torch.Tensor]) -> np.ndarray:
    """``max|x|**a / max|w|**(1 - a)`` for each input channel (SmoothQuant, eq. 4)."""
    columns = torch.cat([weight.abs() for weight in weights]).amax(0).double().numpy()
    return largest**SMOOTHING / np.maximum(columns, 1e-6) ** (1 - SMOOTHING)


def _smooth_scale(largest: np.ndarray, weights: list[torch.Tensor]) -> np.ndarray:
    """Real value of one int16 step for each channel of a tensor that only linears read."""
    factor = _smoothing(largest, weights)
    return factor * (largest * MARGIN16 / (INT16 * factor)).max()


def _residual_exponents(largest: np.ndarray, weights: list[torch.Tensor]) -> np.ndarray:
    """As ``_smooth_scale`` with powers of two: exponents of one int16 step."""
    factor = np.rint(np.log2(_smoothing(largest, weights))) if weights else np.zeros_like(largest)
    need = np.ceil(np.log2(largest * MARGIN16 / INT16))
    return (factor + (need - factor).max()).astype(np.int64)


def _norm(
    layer: graph.Norm,
    largest_sum: np.ndarray,
    y_exponents: np.ndarray,
    x_exponents: np.ndarray,
    out_exponents: np.ndarray,
) -> tuple[quantized.Norm, np.ndarray, np.ndarray]:
    """The integer norm and the exponents of Y and X, raised to at least those of the sum."""
    sum_exponent = _power_of_two(float(largest_sum.max()) * MARGIN16, (1 << 23) - 1)
    y_shift = np.clip(y_exponents - sum_exponent, 0, 15)
    x_shift = np.clip(x_exponents - sum_exponent, 0, 15)
    count = len(out_exponents)
    bits = (count - 1).bit_length()
    gamma = layer.weight.double().numpy() * count / 2.0 ** (bits + 11) * 2.0**-out_exponents
    beta = layer.bias.double().numpy() * 2.0**-out_exponents
    room = min(
        131071 / max(np.abs(gamma).max(), 1e-12), ((1 << 31) - 1) / max(np.abs(beta).max(), 1e-12)
    )
    out_shift = int(np.clip(math.floor(math.log2(room)), 8, 40))
    parameters = NormParameters(
        np.rint(gamma * 2.0**out_shift).astype(np.int64),
        _int24(np.rint(beta * 2.0 ** (out_shift - 8))),
        y_shift,
        x_shift,
    )
    epsilon = layer.epsilon * count**2 / 4.0 ** (sum_exponent + 6)
    norm = quantized.Norm(layer.name, parameters, min(round(epsilon), (1 << 32) - 1), out_shift)
    return norm, y_shift + sum_exponent, x_shift + sum_exponent


def _attention(
    layer: graph.Layer,
    scales: tuple[np.ndarray, np.ndarray, np.ndarray],
    context_scale: np.ndarray,
    max_tokens: int,
) -> quantized.Attention:
    """scales: real value of one int8 step of Q, K (equal within a head) and V, per channel."""
    q, k, v = scales
    head = len(q) // layer.heads
    real = q[::head] * k[::head] * layer.scale * math.log2(math.e) * 256
    room = math.floor(math.log2(PRODUCT_LIMIT / (INT8**2 * head * real.max())))
    score_multiplier, score_shift = _multipliers(real * 2.0**room)
    per_level = v / context_scale * 2.0**OUT_SHIFT  # context is acc / row sum of this
    largest = INT8 * 254 * max_tokens * per_level.max()
    context_row_shift = max(0, 16 + math.floor(math.log2(PRODUCT_LIMIT / largest)))
    multiplier, shift = _multipliers(per_level * 2.0 ** (context_row_shift - 16))
    return quantized.Attention(
        f"{layer.name}.attention",
        layer.heads,
        score_multiplier,
        score_shift,
        15 + room,
        ChannelParameters(multiplier, shift, np.zeros_like(shift)),
        context_row_shift,
        OUT_SHIFT,
    )


def _per_head(largest: np.ndarray, heads: int) -> np.ndarray:
    """One static int8 scale for each head, repeated for its channels."""
    by_head = largest.reshape(heads, -1).max(1) * MARGIN8 / INT8
    return np.repeat(by_head, len(largest) // heads)


def _layer(
    layer: graph.Layer,
    ranges: Ranges,
    x_exponents: np.ndarray,
    next_weights: list[torch.Tensor],
    max_tokens: int,
) -> tuple[quantized.Layer, np.ndarray]:
    """One layer and the exponents of its output; x_exponents: those of its input."""
    x_scale = 2.0**x_exponents
    q_scale, k_scale = (_per_head(ranges[p.name], layer.heads) for p in (layer.query, layer.key))
    v_scale = ranges[layer.value.name] * MARGIN8 / INT8
    context_scale = _smooth_scale(ranges[f"{layer.name}.context"], [layer.output.weight])
    middle = _residual_exponents(ranges[layer.attention_norm.name], [layer.up.weight])
    out = _residual_exponents(ranges[layer.output_norm.name], next_weights)

    attention_norm, attention_y, _ = _norm(
        layer.attention_norm,
        ranges[f"{layer.attention_norm.name}.input"],
        _residual_exponents(_reach(layer.output, ranges), []),
        x_exponents,
        middle,
    )
    output_norm, down_y, _ = _norm(
        layer.output_norm,
        ranges[f"{layer.output_norm.name}.input"],
        _residual_exponents(_reach(layer.down, ranges), []),
        middle,
        out,
    )
    up = _power_of_two(float(_reach(layer.up, ranges).max()) * MARGIN16, INT16)
    activated = f"{layer.up.name}.{layer.up.activation}"
    hidden = _power_of_two(float(ranges[activated].max()) * MARGIN16, INT16)
    ones = np.ones(layer.up.weight.shape[0])
    table = activation_table(layer.up.activation or "", up, hidden)
    done = quantized.Layer(
        query=_linear(layer.query, ranges, x_scale, q_scale, 8),
        key=_linear(layer.key, ranges, x_scale, k_scale, 8),
        value=_linear(layer.value, ranges, x_scale, v_scale, 8),
        attention=_attention(layer, (q_scale, k_scale, v_scale), context_scale, max_tokens),
        output=_linear(layer.output, ranges, context_scale, 2.0**attention_y, 16),
        attention_norm=attention_norm,
        up=_linear(layer.up, ranges, 2.0**middle, ones * 2.0**up, 16, table),
        down=_linear(layer.down, ranges, ones * 2.0**hidden, 2.0**down_y, 16),
        output_norm=output_norm,
    )
    return done, out


def quantize_encoder(
    encoder: graph.Encoder, ranges: Ranges, *, max_tokens: int = 512
) -> quantized.Encoder:
    """Quantise an encoder whose calibration ranges are known.

    max_tokens: longest sequence, bounds the accumulators of P . V.

    Raises
    ------
    ValueError
        If weights hold NaN or infinity; the message names the layer.
    """
    _check_weights(encoder.embedding_norm)
    for layer in encoder.layers:
        _check_weights(layer.query, layer.key, layer.value, layer.output, layer.attention_norm)
        _check_weights(layer.up, layer.down, layer.output_norm)
    consumers = [
        [layer.query.weight, layer.key.weight, layer.value.weight] for layer in encoder.layers
    ] + [[]]
    first = _residual_exponents(ranges[encoder.embedding_norm.name], consumers[0])
    inputs = ranges[f"{encoder.embedding_norm.name}.input"]
    embedding_norm, input_exponents, _ = _norm(
        encoder.embedding_norm, inputs, _residual_exponents(inputs, []), first, first
    )
    layers = []
    exponents = first
    for layer, next_weights in zip(encoder.layers, consumers[1:], strict=True):
        done, exponents = _layer(layer, ranges, exponents, next_weights, max_tokens)
        layers.append(done)
    return quantized.Encoder(
        encoder.hidden,
        encoder.layers[0].heads,
        embedding_norm,
        tuple(layers),
        2.0**input_exponents,
        2.0**exponents,
    )


def quantize_chain(chain: graph.Chain, ranges: Ranges) -> quantized.LinearChain:
    """Quantise linear layers that follow each other.

    Raises
    ------
    ValueError
        If weights hold NaN or infinity; the message names the layer.
    """
    _check_weights(*chain.layers)
    scale = _smooth_scale(ranges["input"], [chain.layers[0].weight])
    input_scale = scale
    layers = []
    for index, layer in enumerate(chain.layers):
        if layer.activation is None:
            following = [part.weight for part in chain.layers[index + 1 : index + 2]]
            largest = _reach(layer, ranges)
            out = _smooth_scale(largest, following) if following else largest * MARGIN16 / INT16
            layers.append(_linear(layer, ranges, scale, out, 16))
        else:
            before = _power_of_two(float(_reach(layer, ranges).max()) * MARGIN16, INT16)
            activated = float(ranges[f"{layer.name}.{layer.activation}"].max())
            after = _power_of_two(activated * MARGIN16, INT16)
            table = activation_table(layer.activation, before, after)
            ones = np.ones(layer.weight.shape[0])
            out = ones * 2.0**after
            layers.append(_linear(layer, ranges, scale, ones * 2.0**before, 16, table))
        scale = out
    return quantized.LinearChain(tuple(layers), input_scale, scale)
