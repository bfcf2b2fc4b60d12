"""Weights of four bits with a scale and a minimum for each group of 32 inputs.

The form of the files that hold such models (Q4_1 of ggml: ``w = d q + m``), with d and m in steps
of the output channel, so that what comes out are its int8 weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from transept.golden.numerics.fixed import round_shift, saturate

__all__ = [
    "CODE_BITS",
    "GROUP",
    "MINIMUM_BITS",
    "MINIMUM_FRACTION",
    "SCALE_BITS",
    "SCALE_FRACTION",
    "FourBitWeights",
]

#: Inputs that share a scale and a minimum.
GROUP = 32
#: Bits of a code, of a scale, and of a minimum, which is signed.
CODE_BITS, SCALE_BITS, MINIMUM_BITS = 4, 12, 12
#: Fractional bits of a scale and of a minimum.
SCALE_FRACTION, MINIMUM_FRACTION = 7, 4


@dataclass(frozen=True, eq=False)
class FourBitWeights:
    """codes: uint8[n, k], 0 to 15; scale: uint16[n, k / 32], 0 to 4095, in 1/128 of a step;
    minimum: int16[n, k / 32], -2048 to 2047, in 1/16 of a step."""

    codes: np.ndarray
    scale: np.ndarray
    minimum: np.ndarray

    def check(self, shape: tuple[int, ...]) -> None:
        """ValueError if an array is not of weights int8[n, k] of this shape, or beyond its bits."""
        n, k = shape
        if k % GROUP:
            raise ValueError(f"{k} inputs are no multiple of {GROUP}")
        for name, dtype, width, least, most in (
            ("codes", np.uint8, k, 0, (1 << CODE_BITS) - 1),
            ("scale", np.uint16, k // GROUP, 0, (1 << SCALE_BITS) - 1),
            ("minimum", np.int16, k // GROUP, -1 << MINIMUM_BITS - 1, (1 << MINIMUM_BITS - 1) - 1),
        ):
            array = getattr(self, name)
            if array.dtype != dtype or array.shape != (n, width):
                raise ValueError(
                    f"{name} is {array.dtype}{list(array.shape)}, must be "
                    f"{np.dtype(dtype)}[{n}, {width}]"
                )
            if array.size and not least <= array.min() <= array.max() <= most:
                raise ValueError(
                    f"{name} {array.min()} to {array.max()} is outside {least} to {most}"
                )

    def unpack(self) -> np.ndarray:
        """int8[n, k]: ``sat8(round((scale * code + 8 * minimum) / 128))``."""
        spread = SCALE_FRACTION - MINIMUM_FRACTION
        scale, minimum = (
            np.repeat(part.astype(np.int32), GROUP, axis=1) for part in (self.scale, self.minimum)
        )
        scaled = scale * self.codes + (minimum << spread)
        return saturate(round_shift(scaled, SCALE_FRACTION), 8).astype(np.int8)

    def outputs(self, first: int, end: int) -> FourBitWeights:
        """Those of some outputs."""
        parts = (self.codes, self.scale, self.minimum)
        return FourBitWeights(*(np.ascontiguousarray(part[first:end]) for part in parts))

    @classmethod
    def of(cls, codes: np.ndarray, scale: np.ndarray, minimum: np.ndarray) -> FourBitWeights:
        """From real scales and minima, float64[n, k / 32], in steps.

        Raises
        ------
        ValueError
            If one is beyond its bits.
        """
        scales = np.rint(scale * (1 << SCALE_FRACTION)).astype(np.int64)
        minima = np.rint(minimum * (1 << MINIMUM_FRACTION)).astype(np.int64)
        for name, found, least, bits in (
            ("scale", scales, 0, SCALE_BITS),
            ("minimum", minima, -1 << MINIMUM_BITS - 1, MINIMUM_BITS),
        ):
            if found.min() < least or found.max() >= least + (1 << bits):
                raise ValueError(f"{name} {found.min()} to {found.max()} is beyond {bits} bits")
        return cls(codes, scales.astype(np.uint16), minima.astype(np.int16))
