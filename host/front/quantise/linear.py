"""Linear layers: weights per output channel, the input's scale folded in."""

from __future__ import annotations

import numpy as np
import torch

from transept.golden.numerics.requantise import ActivationTable, ChannelParameters
from transept.golden.ops import Linear
from transept.host.front.matches import LinearMatch
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
) -> Linear:
    """in_scale, out_scale: the real value of one step of each element; known: of the operand in
    steps of in_scale, without which weights go to the nearest; table: the activation, applied to
    steps of out_scale.

    A row's own scale is the maximum of its int16 elements, found at run time.
    """
    steps = op.weight.double().numpy() * in_scale
    steps /= out_scale[:, None]
    step = np.maximum(np.maximum(steps.max(1), -steps.min(1)), 1e-12) / INT8
    steps /= step[:, None]
    weight = np.rint(steps).astype(np.int8) if known is None else round_weights(steps, known)
    per_row = step / INT8  # times the row maximum
    bound = INT8 * np.abs(weight).sum(1, dtype=np.int64)  # largest possible accumulator
    row_shift = largest_shift(bound * per_row * 2.0**OUT_SHIFT, PRODUCT_LIMIT, 0, 40)
    multiplier, shift = multipliers(per_row * 2.0 ** (row_shift + OUT_SHIFT))
    bias = int24(op.bias.double().numpy() / out_scale * 2.0**OUT_SHIFT)
    channel = ChannelParameters(multiplier, shift, bias)
    return Linear(
        op.name, op.inputs[0], op.outputs[0], weight, channel, row_shift, OUT_SHIFT, table
    )


def check_finite(name: str, *tensors: torch.Tensor) -> None:
    """ValueError if a parameter holds NaN or infinity."""
    for tensor in tensors:
        if not bool(torch.isfinite(tensor).all()):
            bad = tensor[~torch.isfinite(tensor)][0].item()
            raise ValueError(f"weights of {name} hold {bad}; only finite weights can be quantised")
