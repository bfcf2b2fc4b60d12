"""Weights that lie on 16 levels in each group of 32 inputs, as four-bit models have them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from transept.golden.numerics.four_bit import CODE_BITS, GROUP

__all__ = ["Levels", "levels"]

MOST = (1 << CODE_BITS) - 1
#: A weight may be so far off a level, as a share of the largest weight of its group: sums in
#: floating point are.
TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Levels:
    """``weight = step * code + least``: codes uint8[n, k], 0 to 15; step and least are
    float64[n, k / 32]."""

    codes: np.ndarray
    step: np.ndarray
    least: np.ndarray

    def keep(self, in_scale: np.ndarray) -> bool:
        """Whether an operand whose channels have these scales leaves 16 levels in each group: it
        has one scale there."""
        by_group = in_scale.reshape(-1, GROUP)
        return np.allclose(by_group, by_group[:, :1], rtol=1e-9, atol=0)


def levels(weight: torch.Tensor) -> Levels | None:
    """The levels of float32[n, k], as far apart as they can be; None if they are more than 16 in
    a group, or k is no multiple of 32."""
    n, k = weight.shape
    if k % GROUP:
        return None
    groups = weight.detach().double().numpy().reshape(n, k // GROUP, GROUP)
    least = groups.min(2)
    above = groups - least[..., None]
    reach = above.max(2)
    off = TOLERANCE * np.maximum(np.abs(groups).max(2), 1e-30)
    step = _steps(above, reach, off)
    if step is None:
        return None
    codes = np.rint(above / step[..., None]).astype(np.uint8)
    spread = MOST // np.maximum(codes.max(2), 1)  # few levels far apart: more of a smaller step
    codes *= spread.astype(np.uint8)[..., None]
    step = np.where(reach > 0, step / spread, 0.0)  # of equal weights the least one says all
    return Levels(codes.reshape(n, k), step, least)


def _steps(above: np.ndarray, reach: np.ndarray, off: np.ndarray) -> np.ndarray | None:
    """The largest step of which all elements of a group are multiples, up to 15."""
    whole = step = np.where(reach > 0, reach, 1.0)
    open_ = np.ones(reach.shape, bool)
    for parts in range(1, MOST + 1):
        tried = whole / parts
        scaled = above / tried[..., None]
        fits = (np.abs(scaled - np.rint(scaled)) * tried[..., None] <= off[..., None]).all(2)
        step = np.where(open_ & fits, tried, step)
        open_ &= ~fits
        if not open_.any():
            return step
    return None
