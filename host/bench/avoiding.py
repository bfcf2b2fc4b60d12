"""The GEMM in C++ that avoids communication, in C simulation: its bits and its bytes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from transept.golden.layouts import pack_channel_parameters
from transept.golden.numerics.requantise import ONE, ChannelParameters, requantise
from transept.sim.hls import simulate_vitis

__all__ = ["bench_avoiding"]


def bench_avoiding(
    shape: tuple[int, int, int] = (512, 512, 512), side: int = 64, seed: int = 1
) -> dict[str, Any]:
    """One product of random int8 operands [m, k] and [k, n], requantised to int8.

    side: of the tile of accumulators on chip, 16 or 64; m and n are multiples of it.

    Returns
    -------
    ``{shape, side, elements, bytes, bound, ratio, mismatches}``; elements: S, kept on chip;
    bytes: read and written in DRAM, channel parameters among them; bound: ``2 m n k / sqrt(S)``;
    ratio: of bytes to it; mismatches: outputs that are not golden's.

    Raises
    ------
    ValueError
        If there is no such tile, or it does not divide the product.
    ToolMissing, BuildError
        If the simulation cannot be built.
    """
    m, n, k = shape
    if side not in (16, 64):
        raise ValueError(f"side={side} must be 16 or 64")
    if m % side or n % side:
        raise ValueError(f"{m} x {n} outputs must be multiples of side={side}")
    rng = np.random.default_rng(seed)
    a, b = (rng.integers(-127, 128, part) for part in ((m, k), (k, n)))
    channel = ChannelParameters(
        multiplier=rng.integers(1 << 14, 1 << 16, n),
        shift=rng.integers(14, 18, n),
        bias=rng.integers(-9999, 9999, n),
    )
    row_shift = 15 + k.bit_length() // 2
    records = pack_channel_parameters(channel, side).view("<i8")
    facts = np.array([m, n, k, ONE, row_shift, 0])
    *got, nbytes = simulate_vitis(f"gemm{side}", facts, a.T, b, records).tolist()
    expected = requantise(
        a @ b,
        channel,
        np.full(m, ONE),
        np.zeros(m, np.int64),
        pre=0,
        row_shift=row_shift,
        out_shift=0,
        bits=8,
    )
    elements = side**2 + 2 * side
    bound = 2 * m * n * k / math.sqrt(elements)
    return {
        "shape": f"{m}x{n}x{k}",
        "side": side,
        "elements": elements,
        "bytes": nbytes,
        "bound": round(bound),
        "ratio": round(nbytes / bound, 3),
        "mismatches": int((np.reshape(got, (m, n)) != expected).sum()),
    }
