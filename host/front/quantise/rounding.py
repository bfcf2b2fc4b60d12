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

    order: the channels, the last of which is rounded first; share: float32[k, k], of the error of
    the i-th channel in this order that the j-th takes, for i > j.
    """

    order: np.ndarray
    share: np.ndarray


def feedback(moments: torch.Tensor, scale: np.ndarray) -> Feedback:
    """moments: float32[k, k], the sum of ``x^T x`` over calibration's rows x; scale: one step of
    each of its channels.

    Channels are rounded in the order of falling second moment, in steps. Turned around, they are
    ``S D S^T`` with a diagonal D and a lower S, ones on its diagonal: the shares.
    """
    steps = torch.as_tensor(scale)
    diagonal = moments.diagonal() / steps**2
    order = diagonal.argsort(stable=True)
    ordered = moments[order[:, None], order]
    ordered /= steps[order].float()
    ordered /= steps[order, None].float()
    ordered.diagonal().add_(max(float(diagonal.mean()) * DAMPING, 1e-12))
    share = torch.linalg.cholesky(ordered)
    share /= share.diagonal().clone()
    return Feedback(order.numpy(), share.numpy())


def round_weights(weight: np.ndarray, known: Feedback) -> np.ndarray:
    """int8[n, k] q within +-127 with a small ``sum |(q - weight) x|^2`` over calibration's rows x.

    weight: float64[n, k] in steps. In the order of ``known``, from its end::

        q_j = round(w_j + sum over i > j of (w_i - q_i) share_ij)

    Nothing is known of a channel that was always zero: it is rounded to the nearest. The errors of
    the last half of some channels reach the first half at once, and so on in each half. Sums are
    float64, so that their order, which differs between machines, rounds hardly a weight otherwise.
    """
    columns = torch.from_numpy(weight).T.contiguous()  # NumPy transposes word by word
    ordered = columns.numpy()[known.order]
    wanted, rounded = ordered.copy(), np.empty(ordered.shape, np.int8)

    def settle(start: int, stop: int) -> None:
        if stop - start == 1:
            rounded[start] = nearest = np.rint(wanted[start]).clip(-INT8, INT8)
            ordered[start] -= nearest  # its error
            return
        middle = (start + stop) // 2
        settle(middle, stop)
        wanted[start:middle] += known.share[middle:stop, start:middle].T @ ordered[middle:stop]
        settle(start, middle)

    settle(0, len(ordered))
    found = np.empty_like(rounded)
    found[known.order] = rounded
    return np.ascontiguousarray(found.T)
