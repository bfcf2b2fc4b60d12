"""One static INT8 GEMM as a region: ``C[m, n] = requantise(A[m, k] . B[k, n])``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from transept.golden.config import Config
from transept.golden.graph import Dim, Graph, Value
from transept.golden.numerics.fixed import round_shift, saturate
from transept.golden.numerics.requantise import ChannelParameters
from transept.golden.ops import Linear
from transept.host.compiler.executable import Executable
from transept.host.runtime.region import Region

__all__ = ["Gemm", "gemm", "reference"]

CHANNEL_SHIFT = 15  # the channel multiplier is a fraction of one
OUT_SHIFT = 8
ROWS = "rows"


@dataclass(frozen=True, eq=False)
class Gemm:
    """A region with inputs ``a`` and output ``c``, and its requantisation:
    ``multiplier * 2**-(row_shift + OUT_SHIFT)``."""

    region: Region
    multiplier: int
    row_shift: int
    rows: int

    @property
    def executable(self) -> Executable:
        """The program."""
        return self.region.executable(self.region.shape(1, {ROWS: self.rows}))


def reference(a: np.ndarray, b: np.ndarray, gemm: Gemm) -> np.ndarray:
    """int8[m, n] by an int64 NumPy product, independent of golden models and emulator."""
    acc = a.astype(np.int64) @ b.astype(np.int64)
    v = saturate(round_shift(acc * gemm.multiplier, CHANNEL_SHIFT), 25)
    z = saturate(round_shift(v << 15, gemm.row_shift), 25)
    return saturate(round_shift(z, OUT_SHIFT), 8).astype(np.int8)


def gemm(config: Config, m: int, b: np.ndarray) -> Gemm:
    """The GEMM of m rows with b: int8[k, n].

    Raises
    ------
    GraphError
        If B is not int8[k, n], holds -128, or could overflow an accumulator.
    """
    k, n = b.shape
    multiplier, row_shift = _requantisation(k)
    ones = np.ones(n, np.int64)
    channel = ChannelParameters(ones * multiplier, ones * CHANNEL_SHIFT, 0 * ones)
    weight = np.ascontiguousarray(b.T)
    graph = Graph(
        dims=(Dim(ROWS, m),),
        values={name: Value(name, ROWS, width, 8) for name, width in (("a", k), ("c", n))},
        inputs=("a",),
        outputs=("c",),
        ops=(Linear("gemm", "a", "c", weight, channel, row_shift, OUT_SHIFT),),
    )
    return Gemm(Region("gemm", graph, config), multiplier, row_shift, m)


def _requantisation(k: int) -> tuple[int, int]:
    """Multiplier and row shift that spread a product of random int8 matrices over int8."""
    spread = 3 * np.sqrt(k) * 127**2 / 3  # three standard deviations of the accumulator
    real = 127 / spread * 2.0**OUT_SHIFT
    row_shift = 15 + max(0, int(np.floor(-np.log2(real))))
    return min(round(real * 2.0 ** (CHANNEL_SHIFT + row_shift - 15)), 0xFFFF), row_shift
