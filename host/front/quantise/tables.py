"""Activation tables: any function of one variable, sampled, fitted and checked."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from transept.golden.numerics.requantise import SEGMENTS, ActivationTable, activation
from transept.host.front.quantise.grids import INT16, MARGIN16, int24, largest_shift, power_of_two

__all__ = ["FittedTable", "fit_table"]

#: Segments of this width cover all of int16.
WIDEST = 10
#: Samples of a segment are at most so many.
SAMPLES = 256


@dataclass(frozen=True, eq=False)
class FittedTable:
    """A table between steps of ``2**in_exponent`` and ``2**out_exponent``.

    error: largest difference from the function where calibration reached, as a share of the largest
    result there.
    """

    table: ActivationTable
    in_exponent: int
    out_exponent: int
    error: float


def fit_table(
    function: Callable[[torch.Tensor], torch.Tensor], reach: float, out_exponent: int
) -> FittedTable:
    """The best table of ``function``, float64 to float64, for arguments within +-reach, with
    results in steps of ``2**out_exponent``.

    The grid of arguments has room for twice the reach. Inner segments are least-squares quadratics;
    the outer two are straight lines through what the function does beyond, up to the end of the
    grid. The width of a segment is the one with the smallest error within reach; the error of a
    function that is not finite on the whole grid is infinite.
    """
    in_exponent = power_of_two(reach * MARGIN16, INT16)
    steps = np.arange(-INT16, INT16 + 1)
    wanted = function(torch.as_tensor(steps * 2.0**in_exponent)).numpy()
    finite = bool(np.isfinite(wanted).all())
    wanted = np.nan_to_num(wanted, posinf=0.0, neginf=0.0)
    within = np.abs(steps) * 2.0**in_exponent <= reach
    largest = max(float(np.abs(wanted[within]).max()) * 2.0**-out_exponent, 1.0)
    scaled = np.clip(wanted * 2.0**-out_exponent, -INT16, INT16)
    best: tuple[float, ActivationTable] | None = None
    for width in range(WIDEST + 1):
        table = _fit(scaled, width)
        error = np.abs(activation(steps[within], table) - scaled[within]).max() / largest
        if best is None or error < best[0]:
            best = float(error), table
    assert best is not None
    error, table = best
    return FittedTable(table, in_exponent, out_exponent, error if finite else math.inf)


def _fit(wanted: np.ndarray, width: int) -> ActivationTable:
    """wanted: the result for every step from -32767 on."""
    start = -(SEGMENTS // 2) << width
    rows = []
    for segment in range(SEGMENTS):
        low = start + (segment << width)
        outer = segment in (0, SEGMENTS - 1) and width < WIDEST
        first, last = low, low + (1 << width) - 1
        if outer:
            first, last = (-INT16, last) if segment == 0 else (first, INT16)
        first, last = max(first, -INT16), min(last, INT16)
        every = max(1, (last - first + 1) // SAMPLES)
        at = np.arange(first, last + 1, every)
        degree = min(1 if outer else 2, len(at) - 1)
        y = wanted[at + INT16]
        middle = (first + last) / 2
        reach = max((last - first) / 2, 1)
        fit = np.polynomial.polynomial.polyfit((at - middle) / reach, y, degree)
        rows.append(_moved(np.append(fit, np.zeros(2 - degree)), middle - low, reach))
    c0, c1, c2 = np.array(rows).T
    out_shift = min(
        largest_shift(c1, (1 << 23) - 1, 8, 16), largest_shift(c0, (1 << 31) - 1, 8, 16)
    )
    slope_shift = largest_shift(c2 * 2.0**out_shift, INT16, 0, 10)
    return ActivationTable(
        start,
        width,
        slope_shift,
        out_shift,
        int24(c0 * 2.0 ** (out_shift - 8)),
        int24(c1 * 2.0**out_shift),
        np.clip(np.rint(c2 * 2.0 ** (out_shift + slope_shift)), -INT16, INT16).astype(np.int64),
    )


def _moved(fit: np.ndarray, middle: float, reach: float) -> tuple[float, float, float]:
    """Coefficients in d of a polynomial in ``(d - middle) / reach``."""
    a, b, c = fit[0], fit[1] / reach, fit[2] / reach**2
    return a - b * middle + c * middle**2, b - 2 * c * middle, c
