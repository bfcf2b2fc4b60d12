"""Residual sums and their normalisation, on int16 rows with a power-of-two scale per channel.

Var = E[x^2] - E[x]^2 in one pass (Lu et al. 2020), exact in integers: the order of the sum is
free. Without the mean it is RMSNorm (Zhang and Sennrich 2019).
"""

from __future__ import annotations

from dataclasses import dataclass

from transept.golden.numerics.fixed import Array, Saturate, round_shift, saturate
from transept.golden.numerics.polynomial import rsqrt

__all__ = [
    "NormParameters",
    "inverse_count",
    "layer_norm",
    "normalise",
    "residual_sum",
    "rounded_sum",
]

SQUARE_SHIFT = 6  # the 24-bit sum is rounded to 18 bits before it is squared


@dataclass(frozen=True)
class NormParameters:
    """Per-channel constants, each int64[n].

    gamma: int18, the weight times ``count / 2**bit_length(count - 1)``, scaled for ``out_shift``;
    beta: int24, in units of 2**(8 - out_shift) of the output; y_shift, x_shift: 0..15, left shifts
    that bring a channel of Y and of X to the common scale of the residual sum; sum_shift: 0..15,
    the right shift with which the sum is written as int16.
    """

    gamma: Array
    beta: Array
    y_shift: Array
    x_shift: Array
    sum_shift: Array = 0


def inverse_count(count: int) -> int:
    """``round(2**(15 + bit_length(count - 1)) / count)``, the mean's multiplier, 16 bits unsigned.

    Raises
    ------
    ValueError
        If count is not at least 2.
    """
    if count < 2:
        raise ValueError(f"LayerNorm needs rows of at least 2 elements, got {count}")
    scale = 1 << (15 + (count - 1).bit_length())
    return min((2 * scale + count) // (2 * count), (1 << 16) - 1)


def residual_sum(
    y: Array, x: Array | None, parameters: NormParameters, clip: Saturate = saturate
) -> Array:
    """``z = sat24((y << y_shift) + (x << x_shift))`` of int16 [m, n]; ``x`` None: of y alone."""
    total = y << parameters.y_shift
    if x is not None:
        total = total + (x << parameters.x_shift)
    return clip(total, 24)


def rounded_sum(z: Array, parameters: NormParameters, clip: Saturate = saturate) -> Array:
    """``sat16(round(z / 2**sum_shift))`` of the residual sum: the next residual, int16."""
    return clip(round_shift(z, parameters.sum_shift), 16)


def normalise(
    z: Array,
    parameters: NormParameters,
    *,
    epsilon: int,
    out_shift: int,
    centre: bool = True,
    clip: Saturate = saturate,
) -> Array:
    """LayerNorm of 24-bit rows z [m, n] to int16; without ``centre`` RMSNorm.

    ::

        mean = round(sum(z) * inverse_count / 2**(15 + b)),   b = bit_length(n - 1)
        w    = sat18(round(z / 64));  v = n * sum(w^2) - sum(w)^2 + epsilon, at least 1
        u    = sat18(round(sat25(z - mean) * rsqrt(v)))   with 11 fractional bits, times 2**b / n
        out  = sat16(round((u * gamma + (beta << 8)) / 2**out_shift))

    RMSNorm has mean = 0 and v = n * sum(w^2) + epsilon. The saturations of w and of z - mean are
    not among those that ``clip`` may count: the first serves the deviation alone, and the
    second never clips, for a mean is at least 2 / n of the range from either end.
    """
    count = z.shape[-1]
    bits = (count - 1).bit_length()
    w = saturate(round_shift(z, SQUARE_SHIFT), 18)
    v = count * (w * w).sum(-1) + epsilon
    mean = v * 0
    if centre:
        mean = round_shift(z.sum(-1) * inverse_count(count), 15 + bits)
        v = v - w.sum(-1) ** 2
    mantissa, exponent = rsqrt(v.clip(1))
    centred = saturate(z - mean[..., None], 25)
    u = round_shift(centred * mantissa[..., None], (11 - bits + exponent)[..., None])
    out = clip(u, 18) * parameters.gamma + (parameters.beta << 8)
    return clip(round_shift(out, out_shift), 16)


def layer_norm(
    y: Array, x: Array | None, parameters: NormParameters, *, epsilon: int, out_shift: int
) -> Array:
    """``LayerNorm(y + x)`` for int16 rows [m, n]; ``x`` None: of y alone."""
    z = residual_sum(y, x, parameters)
    return normalise(z, parameters, epsilon=epsilon, out_shift=out_shift)
