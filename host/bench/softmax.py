"""``bench softmax``: L1 error of a row against float64, and cycles of the unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from transept.golden import isa, quantized
from transept.golden.config import CONTRACT_VERSION, Config
from transept.golden.isa import Memory, Window
from transept.golden.numerics.fixed import round_shift
from transept.golden.numerics.requantise import ChannelParameters
from transept.golden.numerics.softmax import exponential, softmax_rows
from transept.host.driver import Driver
from transept.host.emitter import ActRows, Emitter, Ring
from transept.host.launch import Launch, Tensor
from transept.host.program import open_device
from transept.host.weights import WeightImage

__all__ = ["LENGTHS", "bench_softmax", "row_errors"]

LENGTHS = (128, 1024)
ROWS = 256
SCORE_STEP = 256 * np.log2(np.e)  # scores are log2 units with 8 fractional bits


def _one_hot(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    scores = np.zeros(shape)
    scores[np.arange(shape[0]), rng.integers(0, shape[1], shape[0])] = 20.0
    return scores


DISTRIBUTIONS: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
    "N(0,1)": lambda rng, shape: rng.normal(0, 1, shape),
    "N(0,3)": lambda rng, shape: rng.normal(0, 3, shape),
    "flat": lambda rng, shape: np.zeros(shape),
    "one-hot": _one_hot,
}


def row_errors(scores: np.ndarray) -> dict[str, float]:
    """Errors of int16 scores [rows, n] against float64 on the same scores.

    ``l1_unit_mean``: of the exponentials as the unit computes them; ``l1_quantised_mean``: of the
    levels that are multiplied with V; both divided by their own row sum.
    """
    exact = np.exp2((scores - scores.max(1, keepdims=True)) / 256)
    exact /= exact.sum(1, keepdims=True)
    mantissa, shift = exponential(scores, scores.max(1, keepdims=True))
    unit = round_shift(mantissa, np.minimum(shift, 20)).astype(np.float64)
    operands, sums = softmax_rows(scores, scores.max(1))
    quantised = (operands + 127) / sums[:, None]
    return {
        "l1_unit_mean": float(np.abs(unit / unit.sum(1, keepdims=True) - exact).sum(1).mean()),
        "l1_quantised_mean": float(np.abs(quantised - exact).sum(1).mean()),
        "row_sum_error_max": float(np.abs(quantised.sum(1) - 1).max()),
    }


def _launch(config: Config, rows: int, keys: int) -> Launch:
    """Load int16 scores with their row maxima, take their softmax in place, store the operands.

    The scores must be positive, so that the largest magnitude is the maximum. A dense SCORES of
    zeros runs before, because it is what fills the selection memory.
    """
    weights = WeightImage(config)
    emitter = Emitter(config, Ring(0, 1))
    tiles = -(-keys // config.tile)
    scores = ActRows(config.act_words - config.memories.act_banks[-1], tiles, 0)
    inputs = Tensor(0, rows, keys, tiles * config.tile * 2, 16)
    output = Tensor(inputs.nbytes, rows, keys, inputs.pitch, 16)
    emitter.load_block("zeros", weights.zeros(tiles * config.tile), Memory.STAT, 0)
    q = ActRows(0, 1)
    zeros = weights.raw(np.zeros(rows * config.tile, np.uint8))
    emitter.load_act("zeros", Window.WEIGHTS, zeros, config.tile, rows, 1, q, wide=False)
    attention = quantized.Attention(
        "softmax", 1, np.array([0]), np.array([0]), 15, _no_channels(), 0, 0
    )
    emitter.scores(attention, 0, rows, 1, q, 0, scores, 0, keys=keys)
    emitter.load_act("softmax", Window.IO, 0, inputs.pitch, rows, tiles, scores, stats=True)
    emitter.softmax("softmax", rows, keys, scores, 0)
    emitter.store_act("softmax", Window.IO, output.offset, output.pitch, rows, tiles, scores)
    return Launch(
        config=config,
        contract=CONTRACT_VERSION,
        instructions=isa.encode_program(emitter.schedule.program()),
        weights=weights.image(),
        labels=tuple(emitter.schedule.labels),
        macs={},
        inputs=(inputs,),
        output=output,
        io_bytes=output.offset + output.nbytes,
        scratch_bytes=0,
    )


def _no_channels() -> ChannelParameters:
    return ChannelParameters(*(np.zeros(0, np.int64),) * 3)


def _unit(config: Config, scores: np.ndarray, device: str, options: dict) -> dict:
    """The unit itself on as many rows as fit on chip: cycles and mismatches."""
    rows = min(
        config.geometry.max_rows, config.memories.act_banks[-1] * config.tile // scores.shape[1]
    )
    launch = _launch(config, rows, scores.shape[1])
    driver = Driver(open_device(device, config, launch, **options))
    positive = scores[:rows] - scores[:rows].min() + 1
    output, report = driver.run(driver.load(launch), [positive.astype(np.int16)])
    expected, _ = softmax_rows(positive, positive.max(1))
    busy = report.busy["SOFTMAX"]
    return {
        "cycles_per_element": busy / scores[:rows].size if busy else None,
        "mismatches": int((output != expected).sum()),
    }


def bench_softmax(config: Config, *, device: str, seed: int, **options: Any) -> list[dict]:
    """One row for each length and distribution of scores.

    A configuration that is too small for any of ``LENGTHS`` gets its longest row.
    """
    rng = np.random.default_rng(seed)
    table = []
    for length in [n for n in LENGTHS if n <= config.geometry.max_keys] or [
        config.geometry.max_keys
    ]:
        for name, draw in DISTRIBUTIONS.items():
            scores = np.rint(draw(rng, (ROWS, length)) * SCORE_STEP).astype(np.int64)
            row = {"length": length, "rows": ROWS, "distribution": name}
            unit = _unit(config, scores, device, {"seed": seed, **options})
            table.append(row | row_errors(scores) | unit)
    return table
