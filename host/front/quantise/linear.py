"""Linear layers: weights per output channel, the input's scale folded in."""

from __future__ import annotations

import numpy as np
import torch

from transept.golden.numerics.four_bit import GROUP, FourBitWeights
from transept.golden.numerics.requantise import ActivationTable, ChannelParameters
from transept.golden.ops import Linear
from transept.host.front.matches import LinearMatch
from transept.host.front.quantise.four_bit import Levels
from transept.host.front.quantise.grids import (
    INT8,
    OUT_SHIFT,
    PRODUCT_LIMIT,
    int24,
    largest_shift,
    multipliers,
)
from transept.host.front.quantise.rounding import Feedback, round_weights

__all__ = ["check_finite", "quantise_linear"]


def quantise_linear(
    op: LinearMatch,
    known: Feedback | None,
    in_scale: np.ndarray,
    out_scale: np.ndarray,
    table: ActivationTable | None = None,
    *,
    levels: Levels | None = None,
) -> Linear:
    """in_scale, out_scale: the real value of one step of each element; known: of the operand in
    steps of in_scale, without which weights go to the nearest; table: the activation, applied to
    steps of out_scale; levels: of the weights, which ``keep`` them with in_scale.

    A row's own scale is the maximum of its int16 elements, found at run time.
    """
    steps = op.weight.double().numpy() * in_scale
    steps /= out_scale[:, None]
    step = np.maximum(np.maximum(steps.max(1), -steps.min(1)), 1e-12) / INT8
    packed = None if levels is None else _packed(levels, in_scale, out_scale * step)
    weight = _rounded(steps / step[:, None], known) if packed is None else packed.unpack()
    per_row = step / INT8  # times the row maximum
    bound = INT8 * np.abs(weight).sum(1, dtype=np.int64)  # largest possible accumulator
    row_shift = largest_shift(bound * per_row * 2.0**OUT_SHIFT, PRODUCT_LIMIT, 0, 40)
    multiplier, shift = multipliers(per_row * 2.0 ** (row_shift + OUT_SHIFT))
    bias = int24(op.bias.double().numpy() / out_scale * 2.0**OUT_SHIFT)
    channel = ChannelParameters(multiplier, shift, bias)
    return Linear(
        op.name,
        op.inputs[0],
        op.outputs[0],
        weight,
        channel,
        row_shift,
        OUT_SHIFT,
        table,
        packed=packed,
    )


def _rounded(steps: np.ndarray, known: Feedback | None) -> np.ndarray:
    """int8[n, k] of weights in steps of their channels."""
    return np.rint(steps).astype(np.int8) if known is None else round_weights(steps, known)


def _packed(levels: Levels, in_scale: np.ndarray, weight_step: np.ndarray) -> FourBitWeights:
    """The levels in steps of each output channel, whose weights have steps of weight_step at an
    operand of scale 1."""
    factor = in_scale[::GROUP] / weight_step[:, None]
    return FourBitWeights.of(levels.codes, levels.step * factor, levels.least * factor)


def check_finite(name: str, *tensors: torch.Tensor) -> None:
    """ValueError if a parameter holds NaN or infinity."""
    for tensor in tensors:
        if not bool(torch.isfinite(tensor).all()):
            bad = tensor[~torch.isfinite(tensor)][0].item()
            raise ValueError(f"weights of {name} hold {bad}; only finite weights can be quantised")
