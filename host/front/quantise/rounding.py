"""Rounding of weights with respect to what they are multiplied with (GPTQ, Frantar et al. 2023).

An error that every row of a sequence shares, because its tokens are all the same, does not average
out behind the layers; so each input channel's error is made good in those that follow.
"""

from __future__ import annotations

import torch

from transept.host.front.quantise.grids import INT8

__all__ = ["round_weights"]

#: Added to the diagonal, as a share of its mean: for directions that calibration did not see.
DAMPING = 0.01
#: Input channels between two updates of all later ones.
ROUNDED_TOGETHER = 128


def round_weights(weight: torch.Tensor, moments: torch.Tensor) -> torch.Tensor:
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
