"""LayerNorm of a residual sum, on int16 rows with a power-of-two scale for each channel.

Var = E[x^2] - E[x]^2 in one pass (Lu et al. 2020), exact in integers: the order of the sum is
free.
"""

from __future__ import annotations

from dataclasses import dataclass

from transept.golden.numerics.fixed import Array, round_shift, saturate
from transept.golden.numerics.polynomial import rsqrt

__all__ = ["NormParameters", "inverse_count", "layer_norm"]

SQUARE_SHIFT = 6  # the 24-bit sum is rounded to 18 bits before it is squared


@dataclass(frozen=True)
class NormParameters:
    """Per-channel constants, each int64[n].

    gamma: int18, the weight times ``count / 2**bit_length(count - 1)``, scaled for ``out_shift``;
    beta: int24, in units of 2**(8 - out_shift) of the output; y_shift, x_shift: 0..15, left shifts
    that bring a channel of Y and of X to the common scale of the residual sum.
    """

    gamma: Array
    beta: Array
    y_shift: Array
    x_shift: Array


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


def layer_norm(
    y: Array, x: Array | None, parameters: NormParameters, *, epsilon: int, out_shift: int
) -> Array:
    """``LayerNorm(y + x)`` for int16 rows [m, n]; ``x`` None: of y alone.

    ::

        z    = sat24((y << y_shift) + (x << x_shift))
        mean = round(sum(z) * inverse_count / 2**(15 + b)),   b = bit_length(n - 1)
        w    = sat18(round(z / 64));  v = n * sum(w^2) - sum(w)^2 + epsilon, at least 1
        u    = sat18(round(sat25(z - mean) * rsqrt(v)))   with 11 fractional bits, times 2**b / n
        out  = sat16(round((u * gamma + (beta << 8)) / 2**out_shift))
    """
    count = y.shape[-1]
    bits = (count - 1).bit_length()
    total = y << parameters.y_shift
    if x is not None:
        total = total + (x << parameters.x_shift)
    z = saturate(total, 24)
    mean = round_shift(z.sum(-1) * inverse_count(count), 15 + bits)
    w = saturate(round_shift(z, SQUARE_SHIFT), 18)
    v = count * (w * w).sum(-1) - w.sum(-1) ** 2 + epsilon
    mantissa, exponent = rsqrt(v.clip(1))
    centred = saturate(z - mean[..., None], 25)
    u = round_shift(centred * mantissa[..., None], (11 - bits + exponent)[..., None])
    out = saturate(u, 18) * parameters.gamma + (parameters.beta << 8)
    return saturate(round_shift(out, out_shift), 16)
