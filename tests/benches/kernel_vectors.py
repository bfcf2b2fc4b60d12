"""Arguments of the kernels of ``transept.hls`` with the results of their golden functions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from transept.golden.numerics.fixed import Clipping, round_shift
from transept.golden.numerics.polynomial import rsqrt
from transept.golden.numerics.requantise import ChannelParameters, requantise
from transept.golden.numerics.softmax import DITHER, levels

__all__ = ["POINTS", "VECTORS", "WIDTHS", "exponential"]

#: Arguments of every kernel in their order, with their bits, negative if they are signed; results
#: likewise, in golden's order.
WIDTHS = {
    "exponential": ({"score": -16, "maximum": -16, "dither": 3}, (8,)),
    "rsqrt": ({"v": 62}, (17, 5)),
    "interpolation": (
        {
            "offset": -17,
            "base": 16,
            "c0": -24,
            "c1": -24,
            "c2": -16,
            "slope_shift": 5,
            "out_shift": 5,
        },
        (-16, 1),
    ),
    "requantiser": (
        {
            "acc": -27,
            "column_sum": -20,
            "halves": 1,
            "multiplier": 16,
            "shift": 5,
            "bias": -24,
            "row_multiplier": 17,
            "row_shift": 6,
            "pre": 4,
            "out_shift": 4,
        },
        (-16, 1),
    ),
}


def _draw(rng: np.random.Generator, bits: int, count: int) -> np.ndarray:
    """Numbers of every magnitude, and the extremes."""
    width = abs(bits) - (bits < 0)
    value = rng.integers(0, 1 << width, count) >> rng.integers(0, width + 1, count)
    value = np.where(rng.random(count) < 0.15, (1 << width) - 1, value)
    return np.where(rng.random(count) < 0.5, ~value, value) if bits < 0 else value


def exponential(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """``count`` of all scores below 32767, among them -32768, with every dither; all if 65536."""
    scores = np.sort(rng.permutation(1 << 16)[:count]) - (1 << 15)
    if count < 1 << 16:
        scores[:2] = -(1 << 15), (1 << 15) - 1
    score = np.repeat(scores, len(DITHER)).reshape(-1, len(DITHER))
    maximum = np.full_like(score, (1 << 15) - 1)
    arguments = np.stack([score, maximum, np.broadcast_to(DITHER, score.shape)], -1)
    return arguments.reshape(-1, 3), levels(score, maximum).reshape(-1, 1)


def _rsqrt(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    powers = np.array([(2 << k) - d for k in range(61) for d in (0, 1)])
    free = rng.integers(1, 1 << 62, count) >> rng.integers(0, 62, count)
    v = np.concatenate([powers, np.maximum(free, 1)])
    return v[:, None], np.stack(rsqrt(v), -1)


#: Points of one interpolation table, whose shifts stay while values are under way.
POINTS = 100


def _interpolation(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    widths = WIDTHS["interpolation"][0]
    x = {name: _draw(rng, bits, count) for name, bits in widths.items()}
    for name in ("slope_shift", "out_shift"):
        x[name] = np.repeat(x[name][::POINTS], POINTS)[:count]
    # a base is not above the offset, unless that is negative: the difference has 17 bits
    x["base"] = np.where(x["offset"] < 0, 0, np.minimum(x["base"], x["offset"]))
    clip = Clipping()
    d = x["offset"] - x["base"]
    slope = clip(x["c1"] + round_shift(x["c2"] * d, x["slope_shift"]), 25)
    value = clip(round_shift(slope * d + (x["c0"] << 8), x["out_shift"]), 16)
    return np.stack(list(x.values()), -1), np.stack([value, clip.elements], -1)


def _requantiser(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    x = {name: _draw(rng, bits, count) for name, bits in WIDTHS["requantiser"][0].items()}
    x["row_multiplier"] = np.minimum(x["row_multiplier"], 1 << 16)
    # an accumulator holds what is streamed for CONTEXT together with the offset of its levels
    x["column_sum"] = np.where(rng.random(count) < 0.5, 0, x["column_sum"])
    clip, results = Clipping(), np.zeros((count, 2), np.int64)
    clip.elements = np.zeros((count, 1), bool)
    shifts = np.stack([x[name] for name in ("pre", "out_shift")], -1)
    for pre, out_shift in np.unique(shifts, axis=0).tolist():
        at = np.flatnonzero((shifts == (pre, out_shift)).all(-1))
        clip = Clipping()
        y = requantise(
            (x["acc"] + np.where(x["halves"], 1, 127) * x["column_sum"])[at, None],
            ChannelParameters(*(x[name][at, None] for name in ("multiplier", "shift", "bias"))),
            x["row_multiplier"][at],
            x["row_shift"][at],
            pre=pre,
            row_shift=0,
            out_shift=out_shift,
            bits=16,
            clip=clip,
        )
        results[at] = np.concatenate([y, clip.elements], -1)
    return np.stack(list(x.values()), -1), results


VECTORS: dict[str, Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]] = {
    "exponential": exponential,
    "rsqrt": _rsqrt,
    "interpolation": _interpolation,
    "requantiser": _requantiser,
}
