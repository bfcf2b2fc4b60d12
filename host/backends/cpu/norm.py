"""Residual sums, LayerNorm and RMSNorm (``golden.numerics.norm``).

The sum is float32: its terms are exact, it is exact up to 2**24, and what is greater saturates at
2**23. What follows is float64: a deviation of 25 bits by a mantissa of 17, a normalised element of
18 bits by its weight of 18, the sum of 2,048 elements by 16 bits. Sums of squares of 17 bits are
exact as well; the variance, the difference of two such numbers times the width, is int64.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from transept.golden.graph import Lengths, Value
from transept.golden.numerics.norm import SQUARE_SHIFT, inverse_count
from transept.golden.ops import Add, Norm
from transept.host.backends.cpu.arrays import Arrays, row_blocks
from transept.host.backends.cpu.kernel import Kernel
from transept.host.backends.cpu.reciprocals import roots
from transept.host.backends.cpu.requantise import LIMIT16, half

__all__ = ["AddKernel", "NormKernel"]

#: Bits of the fraction of a normalised element.
FRACTION_BITS = 11
LIMIT18, LIMIT24 = (1 << 17) - 1, (1 << 23) - 1


class ResidualSum:
    """``z = sat24((y << y_shift) + (x << x_shift))``, and what is kept of it."""

    def __init__(self, op: Norm | Add) -> None:
        self._y, self._x, shifts = op.y, op.x, op.parameters
        self._y_factor, self._x_factor = _power(shifts.y_shift), _power(shifts.x_shift)
        self._sum_factor = _power(-shifts.sum_shift)
        self._sum_half = torch.tensor(half(shifts.sum_shift)) * self._sum_factor

    def __call__(self, arrays: Arrays, block: slice) -> torch.Tensor:
        """float32[rows, n] of some rows."""
        z = _rows(arrays[self._y])[block].float().mul_(self._y_factor)
        if self._x is not None:
            x = _rows(arrays[self._x])[block].float()
            torch.addcmul(z, x, self._x_factor, out=z)
        return z.clamp_(-LIMIT24, LIMIT24)

    def rounded(self, z: torch.Tensor) -> torch.Tensor:
        """``sat16(round(z / 2**sum_shift))``, float32[rows, n]: z has 24 bits with its sign, and as
        many with one half of a place added."""
        kept = torch.addcmul(self._sum_half, z, self._sum_factor)
        return kept.floor_().clamp_(-LIMIT16, LIMIT16)


class AddKernel(Kernel):
    """An ``Add``."""

    def __init__(self, op: Add, values: Mapping[str, Value]) -> None:
        self._op, self._sum = op, ResidualSum(op)

    def __call__(self, arrays: Arrays, lengths: Lengths) -> dict[str, torch.Tensor]:
        """The sum."""
        total = torch.empty_like(arrays[self._op.y])
        rows = _rows(total)
        for block in row_blocks(*rows.shape):
            rows[block] = self._sum.rounded(self._sum(arrays, block))
        return {self._op.sum: total}


class NormKernel(Kernel):
    """A ``Norm`` of rows so narrow that no right shift is one to the left."""

    def __init__(self, op: Norm, values: Mapping[str, Value]) -> None:
        self._op, self._sum = op, ResidualSum(op)
        self._count = values[op.y].width
        bits = (self._count - 1).bit_length()
        self._inverse = inverse_count(self._count) * 2.0 ** -(15 + bits)
        self._unit = 2.0 ** (bits - FRACTION_BITS)
        gamma, beta = op.parameters.gamma, op.parameters.beta
        self._gamma = torch.tensor(gamma * 2.0**-op.out_shift)
        self._beta = torch.tensor(((beta << 8) + half(op.out_shift)) * 2.0**-op.out_shift)

    @classmethod
    def fits(cls, op: Norm, values: Mapping[str, Value]) -> bool:
        """Whether a row has at most 2,048 elements."""
        return values[op.y].width <= 1 << FRACTION_BITS

    def __call__(self, arrays: Arrays, lengths: Lengths) -> dict[str, torch.Tensor]:
        """out and, if it is kept, sum."""
        op, y = self._op, arrays[self._op.y]
        results = {name: torch.empty_like(y) for name in op.outputs}
        for block in row_blocks(len(_rows(y)), self._count):
            z = self._sum(arrays, block)
            if op.sum is not None:
                _rows(results[op.sum])[block] = self._sum.rounded(z)
            _rows(results[op.out])[block] = self._normalised(z)
        return results

    def _normalised(self, z: torch.Tensor) -> torch.Tensor:
        """float64[rows, n] of float32 rows."""
        u = z.double()
        mean, scale = self._moments(z, u)
        u.mul_(scale).add_(0.5 - mean * scale).floor_().clamp_(-LIMIT18, LIMIT18)
        return torch.addcmul(self._beta, u, self._gamma, out=u).floor_().clamp_(-LIMIT16, LIMIT16)

    def _moments(self, z: torch.Tensor, wide: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean and the factor of each row, float64[rows, 1]; z: in float32 and in float64."""
        w = (z * 2.0**-SQUARE_SHIFT).add_(0.5).floor_().clamp_(-LIMIT18, LIMIT18).double()
        v = (w * w).sum(-1).long().mul_(self._count).add_(self._op.epsilon)
        mean = torch.zeros_like(wide[:, 0])
        if self._op.centre:
            mean = wide.sum(-1).mul_(self._inverse).add_(0.5).floor_()
            v -= w.sum(-1).long() ** 2
        scale = roots(v.clip_(1)).mul_(self._unit)
        return mean[:, None], scale[:, None]


def _rows(x: torch.Tensor) -> torch.Tensor:
    return x.view(-1, x.shape[-1])


def _power(exponents: np.ndarray) -> torch.Tensor:
    """float32 powers of two."""
    return torch.tensor(2.0**exponents).float()
