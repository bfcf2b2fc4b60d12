"""Random operands of several kinds."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["KINDS", "int8", "int16_rows"]

KINDS = ["random", "extreme", "real"]
REAL_SIGMA = 30
OUTLIERS = 0.01


def int8(rng: np.random.Generator, shape: Any, kind: str) -> np.ndarray:
    """Operands -127..127; ``real`` ones are distributed as quantised weights are."""
    if kind == "extreme":
        return rng.choice([-127, 127], shape)
    if kind == "random":
        return rng.integers(-127, 128, shape)
    return np.rint(rng.normal(0, REAL_SIGMA, shape)).astype(np.int64).clip(-127, 127)


def int16_rows(rng: np.random.Generator, rows: int, count: int, kind: str) -> np.ndarray:
    """Elements -32767..32767; ``real`` rows have a scale of their own and a few outliers."""
    shape = (rows, count)
    if kind == "extreme":
        return rng.choice([-32767, 32767], shape)
    if kind == "random":
        return rng.integers(-32767, 32768, shape)
    sigma = 2 ** rng.uniform(4, 12, (rows, 1)) * np.where(rng.random(shape) < OUTLIERS, 20, 1)
    return np.rint(rng.normal(0, sigma)).astype(np.int64).clip(-32767, 32767)
