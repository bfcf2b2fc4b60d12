"""The next token of logits: the largest, or drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

__all__ = ["Sampling", "log_softmax"]


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen.

    temperature: 0 takes the largest logit, of equal ones the first; others divide the logits before
    the softmax. top_k: of so many largest ones, 0 for all; top_p: of the fewest whose probabilities
    reach it (nucleus sampling, Holtzman et al. 2020). seed: the token at a position of a prompt
    depends on it, on the number of the prompt, and on the logits alone, not on what runs beside it.

    Raises
    ------
    ValueError
        If a number is outside its limits.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ValueError(f"temperature {self.temperature} must be finite and at least 0")
        if self.top_k < 0:
            raise ValueError(f"top-k {self.top_k} must be at least 0")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top-p {self.top_p} is outside 0 to 1, or 0")
        if self.seed < 0:
            raise ValueError(f"seed {self.seed} must be at least 0")

    def choose(self, logits: np.ndarray, prompt: int, position: int) -> int:
        """The token that follows ``position`` in the prompt of this number; logits: float64[n]."""
        if self.temperature == 0:
            return int(logits.argmax())
        order = np.argsort(-logits, kind="stable")
        if self.top_k:
            order = order[: self.top_k]
        with np.errstate(over="ignore"):  # what lies infinitely below the likeliest has no share
            below = (logits[order] - logits[order[0]]) / self.temperature
        probability = np.exp(log_softmax(below))
        reached = np.cumsum(probability)
        count = int(np.searchsorted(reached, self.top_p)) + 1
        drawn = np.random.default_rng((self.seed, prompt, position)).random()
        last = min(count, len(order)) - 1
        return int(order[min(np.searchsorted(reached, drawn * reached[last], "right"), last)])


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """float64[..] logarithms of probabilities, over the last axis."""
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
