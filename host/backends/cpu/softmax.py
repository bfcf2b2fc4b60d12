"""Scores and their levels.

A score is float64 until it is an integer: a product has at most 24 bits, its multiplier 16. What
follows is float32: differences of scores are exact, and a level is

    floor(FLOAT_LEVELS 2**(-distance / 256) + dither)

for any error of the power below a millionth (``golden.numerics.softmax``); torch's has a tenth.
"""

from __future__ import annotations

import functools

import torch

from transept.golden.numerics.requantise import ONE
from transept.golden.numerics.softmax import (
    DITHER,
    DITHER_BITS,
    FLOAT_LEVELS,
    MASKED,
)
from transept.golden.ops import Attention
from transept.host.backends.cpu.requantise import LIMIT16, LIMIT25, half

__all__ = ["Scores", "levels", "row_sums"]

#: The power of two of one step of a score.
STEP = 2.0**-8
#: Levels whose sum float32 holds.
SUMMED = 1 << 16


class Scores:
    """Scores of heads of ``depth`` elements. Where no saturation between the two roundings can be
    seen, they are one::

        score = floor((product multiplier / 2**shift + 1/2 + half(later)) / 2**later)
    """

    def __init__(self, op: Attention, depth: int) -> None:
        later = op.score_row_shift - (ONE.bit_length() - 1)
        largest = (depth * 127 * 127 * op.score_multiplier >> op.score_shift) + 1
        hidden = later >= 0 and half(later) - LIMIT25 >> later <= -LIMIT16
        self._merged = later >= 0 and (hidden or bool(largest.max() <= LIMIT25))
        self._clip = not self._merged or bool((largest.max() >> later) + 1 > LIMIT16)
        self._multiplier = torch.tensor(op.score_multiplier * 2.0**-op.score_shift)[:, None, None]
        self._later = 2.0**-later
        if self._merged:
            self._multiplier *= self._later
            self._addend = (half(later) + 0.5) * self._later

    def __call__(self, acc: torch.Tensor, heads: slice) -> torch.Tensor:
        """float32 of products, float64[batch, heads, queries, keys], which are lost; heads: which
        ones of the operator."""
        score = self._rounded(acc, self._multiplier[heads]).float()
        return score.clamp_(-LIMIT16, LIMIT16) if self._clip else score

    def _rounded(self, acc: torch.Tensor, multiplier: torch.Tensor) -> torch.Tensor:
        if self._merged:
            addend = torch.full(acc.shape[3:], self._addend, dtype=acc.dtype)
            return torch.addcmul(addend, acc, multiplier, out=acc).floor_()
        acc.mul_(multiplier).add_(0.5).floor_().clamp_(-LIMIT25, LIMIT25)
        return acc.mul_(self._later).add_(0.5).floor_()


def levels(score: torch.Tensor) -> torch.Tensor:
    """0 to 254, float32[.., keys], in place of float32 scores; 0 for those that are not seen."""
    best = score.amax(-1, keepdim=True).clamp_(min=MASKED)
    power = torch.add(best * -STEP, score, alpha=STEP, out=score).exp2_()
    return torch.add(_dither(score.shape[-1]), power, alpha=FLOAT_LEVELS, out=power).floor_()


def row_sums(level: torch.Tensor) -> torch.Tensor:
    """float64[.., 1] of levels: float32 sums as many as there are keys for."""
    first, *others = (part.sum(-1, keepdim=True) for part in torch.split(level, SUMMED, -1))
    total = first.double()
    for other in others:
        total += other
    return total


@functools.lru_cache(maxsize=16)
def _dither(keys: int) -> torch.Tensor:
    pattern = torch.tensor(DITHER, dtype=torch.float32) / (1 << DITHER_BITS)
    return pattern.repeat(-(-keys // len(DITHER)))[:keys]
