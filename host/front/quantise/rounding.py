"""Rounding of weights with respect to what they are multiplied with: GPTQ (Frantar et al. 2023), in
the form that Chee et al. 2023 (QuIP) showed to be the same, which needs no inverse.

An error that every row of a sequence shares, because its tokens are all the same, does not average
out behind the layers; so each input channel's error is made good in those that follow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from transept.host.front.quantise.grids import INT8

__all__ = ["Feedback", "feedback", "round_weights"]

#: Added to the diagonal, as a share of its mean: for directions that calibration did not see.
DAMPING = 0.01


@dataclass(frozen=True, eq=False)
class Feedback:
    """Which channel makes good what; layers with the same operand share it.

    order: the channels, in which they are rounded; share: float32[k, k], of the error of the i-th
    channel in this order that the j-th takes, for i < j.
    """

    order: np.ndarray
    share: np.ndarray


def feedback(moments: torch.Tensor) -> Feedback:
    """moments: float64[k, k], the sum of ``x^T x`` over calibration's rows x.

    Channels are rounded in the order of falling second moment. In this order the moments are
    ``S D S^T`` with a diagonal D and an upper S, ones on its diagonal: the shares. It is the lower
    Cholesky factor of the moments in reverse order, turned around.
    """
    diagonal = moments.diagonal()
    order = diagonal.argsort(descending=True)
    backwards = order.flip(0)
    turned = moments.float()[backwards][:, backwards]
    turned.diagonal().add_(max(float(diagonal.mean()) * DAMPING, 1e-12))
    lower = torch.linalg.cholesky(turned)
    return Feedback(order.numpy(), (lower / lower.diagonal()).flip(0, 1).numpy())


def round_weights(weight: np.ndarray, known: Feedback) -> np.ndarray:
    """Integers q within +-127 with a small ``sum |(q - weight) x|^2`` over calibration's rows x.

    weight: float[n, k] in steps. In the order of ``known``::

        q_j = round(w_j + sum over i < j of (w_i - q_i) share_ij)

    Nothing is known of a channel that was always zero: it is rounded to the nearest. The errors of
    the first half of some channels reach the second half at once, and so on in each half. Sums are
    float64, so that their order, which differs between machines, rounds hardly a weight otherwise.
    """
    ordered = np.ascontiguousarray(weight[:, known.order].T, np.float64)
    wanted, errors = ordered.copy(), np.empty_like(ordered)

    def settle(start: int, stop: int) -> None:
        if stop - start == 1:
            errors[start] = ordered[start] - np.rint(wanted[start]).clip(-INT8, INT8)
            return
        middle = (start + stop) // 2
        settle(start, middle)
        wanted[middle:stop] += known.share[start:middle, middle:stop].T @ errors[start:middle]
        settle(middle, stop)

    settle(0, len(ordered))
    rounded = np.empty_like(weight)
    rounded[:, known.order] = (ordered - errors).T
    return np.rint(rounded)
