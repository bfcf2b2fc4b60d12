"""``bench softmax``: L1 error of a row against float64, and cycles of the unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from transept.golden import isa
from transept.golden.config import Config
from transept.golden.isa import Memory, Opcode, Window
from transept.golden.numerics.fixed import round_shift
from transept.golden.numerics.softmax import exponential, softmax_rows
from transept.host.compiler.hazards import Assembly, Region
from transept.host.devices.catalogue import open_device
from transept.host.runtime.driver import Driver

__all__ = ["LENGTHS", "bench_softmax", "row_errors"]

LENGTHS = (128, 1024)
ROWS = 256
DRAM_BYTES = 4 << 20
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


def _program(config: Config, rows: int, keys: int) -> bytes:
    """Load int16 scores with their row maxima, take their softmax in place, store the operands.

    Scores are in window IO and operands behind them; window WEIGHTS is zero. The scores must be
    positive, so that the largest magnitude is the maximum. A dense SCORES of zeros runs before,
    because it is what fills the selection memory. Each instruction waits for the one before.
    """
    assembly, tiles = Assembly(), -(-keys // config.tile)
    everything = [Region("all", 0, 1)]
    first = config.act_words - config.memories.act_banks[-1]

    def emit(opcode: Opcode, **operands: int) -> None:
        fmt = isa.FORMATS[opcode]
        assert fmt.engine is not None
        given = dict.fromkeys((field.name for field in fmt.fields), 0) | operands
        assembly.emit(fmt.engine, opcode, "", given, reads=everything, writes=everything)

    words, pitch = tiles * config.tile, 2 * tiles
    zeros = {"window": Window.WEIGHTS}
    emit(Opcode.LOAD, **zeros, rows=1, words=words, memory=Memory.STAT)
    emit(Opcode.LOAD, **zeros, pitch=1, rows=rows, words=1, memory=Memory.ACT, stride=1)
    emit(
        Opcode.SCORES,
        rows=rows - 1,
        keys=keys - 1,
        d_tiles=1,
        q_stride=1,
        s_addr=first,
        s_stride=tiles,
        row_shift=15,
    )
    emit(
        Opcode.LOAD,
        window=Window.IO,
        pitch=pitch,
        rows=rows,
        words=tiles,
        memory=Memory.ACT,
        wide=1,
        stats=1,
        addr=first,
        stride=tiles,
    )
    emit(Opcode.SOFTMAX, rows=rows - 1, keys=keys - 1, addr=first, stride=tiles)
    emit(
        Opcode.STORE,
        window=Window.IO,
        offset=rows * pitch * config.tile,
        pitch=pitch,
        rows=rows,
        words=tiles,
        memory=Memory.ACT,
        wide=1,
        addr=first,
        stride=tiles,
    )
    return isa.encode_program(assembly.program())


def _unit(config: Config, scores: np.ndarray, device: str, options: dict) -> dict:
    """The unit itself on as many rows as fit on chip: cycles and mismatches."""
    keys = scores.shape[1]
    rows = min(config.geometry.max_rows, config.memories.act_banks[-1] * config.tile // keys)
    width = -(-keys // config.tile) * config.tile
    positive = scores[:rows] - scores[:rows].min() + 1
    opened = open_device(device, config, dram_bytes=DRAM_BYTES, **options)
    contents = {
        Window.PROGRAM: np.frombuffer(_program(config, rows, keys), np.uint8),
        Window.WEIGHTS: np.zeros(max(width, rows) * config.tile, np.uint8),
        Window.IO: np.zeros(2 * rows * width * 2, np.uint8),
        Window.SCRATCH: np.zeros(config.tile, np.uint8),
    }
    contents[Window.IO].view(np.int16)[: rows * width].reshape(rows, width)[:, :keys] = positive
    windows = {}
    for window, data in contents.items():
        windows[window] = buffer = opened.allocate(data.size)
        buffer.array[:] = data
        opened.flush(buffer)
    report = Driver(opened).execute(windows, {})
    opened.invalidate(windows[Window.IO])
    output = windows[Window.IO].array.view(np.int16)[rows * width :].reshape(rows, width)
    expected, _ = softmax_rows(positive, positive.max(1))
    busy = report.busy["SOFTMAX"]
    return {
        "cycles_per_element": busy / scores[:rows].size if busy else None,
        "mismatches": int((output[:, :keys] != expected).sum()),
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
