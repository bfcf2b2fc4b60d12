"""``bench gemm``: cycles of one INT8 GEMM, operands and result in memory."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from transept.golden.config import Config
from transept.host.bench.product import gemm, reference
from transept.host.limits import check_cycles
from transept.host.runtime.session import Session

__all__ = [
    "DEFAULT_SHAPES",
    "MAX_ROWS",
    "bench_gemm",
    "check_shape",
    "parse_shape",
    "read_bound",
]

#: Rows of A.
MAX_ROWS = 65_536
#: The array is busy for longer than this with no shape: two minutes of simulation.
MAX_CYCLES = 1 << 25

DEFAULT_SHAPES = ("64x64x64", "128x128x128", "256x256x256", "512x512x512", "1x768x768")


def parse_shape(text: str) -> tuple[int, int, int]:
    """M, N and K of a shape written ``MxNxK``.

    Raises
    ------
    ValueError
        If the text is no shape.
    """
    match = re.fullmatch(r"(\d+)x(\d+)x(\d+)", text)
    if match is None:
        raise ValueError(f"shape {text!r} is not MxNxK, for example 64x64x64")
    m, n, k = (int(part) for part in match.groups())
    return m, n, k


def check_shape(config: Config, text: str) -> None:
    """Refuse a shape that is no shape, or too large, before anything is computed.

    Raises
    ------
    ValueError
        The message names the value and the limit.
    """
    m, n, k = parse_shape(text)
    widest = 255 * config.tile
    for name, value, limit in (("M", m, MAX_ROWS), ("N", n, widest), ("K", k, widest)):
        if not 1 <= value <= limit:
            raise ValueError(f"{name}={value} of {text} is outside 1 to {limit:,} of {config.name}")
    cycles = m * -(-n // config.tile) * -(-k // config.tile)
    check_cycles(text, cycles, config, MAX_CYCLES)


def bench_gemm(
    config: Config, shapes: list[str], *, device: str, seed: int, rate: float, **options: Any
) -> list[dict]:
    """One row for each shape. rate: bytes a cycle of the memory, for ``memory_bound_cycles``."""
    return [_one(config, shape, device, seed, rate, options) for shape in shapes]


def read_bound(config: Config, m: int, n: int, k: int) -> int:
    """Bytes that a product of int8[m, k] and int8[k, n] must read at least: both operands once, and
    ``2 m n k / sqrt(S)`` with S operands on chip (Hong and Kung 1981, with the factor of
    Kwasniewski et al. 2019). S: what the activation scratchpad holds, which they wait in.
    """
    held = config.act_words * config.tile
    return max(m * k + k * n, round(2 * m * n * k / np.sqrt(held)))


def _one(config: Config, shape: str, device: str, seed: int, rate: float, options: dict) -> dict:
    m, n, k = parse_shape(shape)
    rng = np.random.default_rng(seed)
    a = rng.integers(-127, 128, (m, k)).astype(np.int8)
    b = rng.integers(-127, 128, (k, n)).astype(np.int8)
    product = gemm(config, m, b)
    session = Session(config, device, seed=seed, **options)
    result = session.run(product.region, {"a": a[None]})
    report = result.report
    if report is None:
        raise RuntimeError("; ".join(session.notes))
    tensors = product.executable.tensors.values()
    nbytes = product.region.weights.size + sum(tensor.nbytes for tensor in tensors)
    macs = m * k * n
    return {
        "shape": shape,
        "cycles": report.cycles or None,  # the emulator knows no time
        "ideal_cycles": -(-macs // config.macs),
        "utilisation": macs / config.macs / report.cycles if report.cycles else None,
        "memory_bound_cycles": int(np.ceil(nbytes / rate)),
        "bytes_bound": read_bound(config, m, n, k),
        "bytes_read": report.bytes_read,
        "bytes_written": report.bytes_written,
        "mismatches": int((result.outputs["c"][0] != reference(a, b, product)).sum()),
    }
