"""What attention masks say: which keys a query sees, and whether a key filter says the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from transept.host.front.matches import Mask

__all__ = ["MASKED", "Pattern", "describe", "is_mask", "kept"]

#: Nothing survives a softmax that had this added to its score.
MASKED = -1e4


def is_mask(value: torch.Tensor, kind: str) -> bool:
    """Whether a tensor only lets scores pass or drops them."""
    if kind != "add":
        return value.dtype == torch.bool
    if value.dtype == torch.bool:
        return False
    return bool(((value == 0) | (value <= MASKED)).all())
