"""Norms and sums: powers of two that bring both operands to the scale of their sum."""

from __future__ import annotations

import math

import numpy as np

from transept.golden.numerics.norm import NormParameters
from transept.golden.ops import Add, Norm
from transept.host.front.matches import AddMatch, Match, NormMatch
from transept.host.front.quantise.grids import MARGIN16, int24, power_of_two

__all__ = ["MOST_SHIFT", "quantise_add", "quantise_norm", "sum_exponent"]

#: Largest left shift of an operand of a sum, and right shift of the sum.
MOST_SHIFT = 15
_EPSILON_LIMIT = (1 << 32) - 1


def sum_exponent(op: Match, largest: float) -> int:
    """The exponent of one step of the 24-bit sum of a norm or sum that reaches so far in
    calibration; the epsilon of a norm, in squared steps, fits its 32 bits."""
    reach = power_of_two(largest * MARGIN16, (1 << 23) - 1)
    if not isinstance(op, NormMatch) or not op.epsilon:
        return reach
    largest_epsilon = op.epsilon * len(op.weight) ** 2 / _EPSILON_LIMIT
    return max(reach, math.ceil(math.log2(largest_epsilon) / 2) - 6)


def quantise_norm(
    op: NormMatch,
    total: int,
    y: np.ndarray,
    x: np.ndarray | None,
    kept: np.ndarray | None,
    out_scale: np.ndarray,
) -> Norm:
    """total, y, x, kept: exponents of one step of the 24-bit sum, the operands and the sum that is
    kept; out_scale: the real value of one step of each element of the result."""
    count = len(out_scale)
    bits = (count - 1).bit_length()
    gamma = op.weight.double().numpy() * count / 2.0 ** (bits + 11) / out_scale
    beta = op.bias.double().numpy() / out_scale
    room = min(
        131071 / max(np.abs(gamma).max(), 1e-12), ((1 << 31) - 1) / max(np.abs(beta).max(), 1e-12)
    )
    out_shift = int(np.clip(math.floor(math.log2(room)), 8, 40))
    parameters = NormParameters(
        np.rint(gamma * 2.0**out_shift).astype(np.int64),
        int24(beta * 2.0 ** (out_shift - 8)),
        *_shifts(total, y, x, kept),
    )
    epsilon = op.epsilon * count**2 / 4.0 ** (total + 6)
    return Norm(
        op.name,
        op.inputs[0],
        op.inputs[1] if x is not None else None,
        op.outputs[0],
        parameters,
        round(epsilon),
        out_shift,
        op.centre,
        op.outputs[1] if kept is not None else None,
    )


def quantise_add(op: AddMatch, total: int, y: np.ndarray, x: np.ndarray, out: np.ndarray) -> Add:
    """Exponents as in ``quantise_norm``."""
    zeros = np.zeros(len(out), np.int64)
    parameters = NormParameters(zeros, zeros, *_shifts(total, y, x, out))
    return Add(op.name, op.inputs[0], op.inputs[1], op.outputs[0], parameters)


def _shifts(
    total: int, y: np.ndarray, x: np.ndarray | None, kept: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    zeros = np.zeros(len(y), np.int64)
    shifts = [zeros if part is None else part - total for part in (y, x, kept)]
    for shift in shifts:
        assert 0 <= shift.min() <= shift.max() <= MOST_SHIFT, shift
    return shifts[0], shifts[1], shifts[2]
