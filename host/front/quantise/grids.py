"""Numbers of the integer grids that quantisation places values on."""

from __future__ import annotations

import math

import numpy as np

__all__ = [
    "INT8",
    "INT16",
    "MARGIN16",
    "OUT_SHIFT",
    "PRODUCT_LIMIT",
    "int24",
    "largest_shift",
    "multipliers",
    "power_of_two",
]

INT16 = 32767
INT8 = 127
#: int16 grids leave room for values that calibration did not see; int8 grids clip instead, for a
#: wider grid costs more than rare clipping.
MARGIN16 = 2.0
#: Fractional bits of the requantised value when the bias is added.
OUT_SHIFT = 8
#: Largest magnitude of a 25-bit product.
PRODUCT_LIMIT = (1 << 24) - 1


def multipliers(real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per-channel ``real ~ multiplier * 2**-shift``, 16 bits and 0..31."""
    exponent = np.floor(np.log2(np.maximum(real, 2.0**-46))).astype(np.int64)
    shift = np.clip(15 - exponent, 0, 31)
    multiplier = np.rint(real * 2.0**shift).astype(np.int64)
    return np.minimum(multiplier, 0xFFFF), shift


def int24(values: np.ndarray) -> np.ndarray:
    """Rounded values, clipped to 24 bits."""
    limit = (1 << 23) - 1
    return np.clip(np.rint(values), -limit, limit).astype(np.int64)


def power_of_two(largest: float, limit: int) -> int:
    """Smallest exponent e with ``largest <= limit * 2**e``."""
    return math.ceil(math.log2(largest / limit))


def largest_shift(values: np.ndarray, limit: int, low: int, high: int) -> int:
    """The shift within low to high at which the values still fit the limit."""
    largest = max(np.abs(values).max(), 1e-12)
    return int(np.clip(np.floor(np.log2(limit / largest)), low, high))
