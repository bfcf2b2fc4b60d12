"""Linear layers: a product, the requantiser, an activation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from transept.golden.graph import Lengths, Value
from transept.golden.numerics.requantise import HALF_BITS, ONE
from transept.golden.ops import Linear
from transept.host.backends.cpu.arrays import Arrays, dtype_of, row_blocks
from transept.host.backends.cpu.kernel import Kernel
from transept.host.backends.cpu.product import Weights
from transept.host.backends.cpu.requantise import Requantiser
from transept.host.backends.cpu.rows import Activation, operands

__all__ = ["LinearKernel"]

#: Largest row multiplier.
MOST = ONE


class LinearKernel(Kernel):
    """A ``Linear`` with its weights."""

    def __init__(self, op: Linear, values: Mapping[str, Value]) -> None:
        self._op, bits = op, values[op.y].bits
        self._type = dtype_of(bits)
        self._weights = Weights(op.weight)
        self._activation = Activation(op.table, bits) if op.table else None
        self._requantise = Requantiser(
            op.channel,
            row_shift=op.row_shift,
            out_shift=op.out_shift,
            bits=16 if op.table else bits,
            # 64 / 128 of a step from the lower halves, and the rounding of their sum
            largest=(127 + op.halves) * np.abs(op.weight.astype(np.int64)).sum(1) + op.halves,
            most=MOST,
        )

    def __call__(self, arrays: Arrays, lengths: Lengths) -> dict[str, torch.Tensor]:
        """y."""
        rows, width = operands(arrays, self._op.x, halves=self._op.halves), len(self._op.weight)
        y = torch.empty(*arrays[self._op.x].shape[:2], width, dtype=self._type)
        flat = y.view(-1, width)
        for block in row_blocks(*flat.shape):
            acc = self._weights.product(rows.elements[block])
            if rows.low is not None and self._op.halves:
                low = self._weights.product(rows.low[block])
                acc += low.mul_(2.0**-HALF_BITS).floor_()
            result = self._requantise(acc, rows.multiplier[block])
            flat[block] = self._activation(result) if self._activation else result
        return {self._op.y: y}
