"""Products of elements and rotary embeddings (``golden.numerics.elementwise``), in int32: a product
of two int16 elements and one half of a place fit."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from transept.golden.graph import Lengths, Value
from transept.golden.numerics.elementwise import ROTARY_SHIFT
from transept.golden.numerics.fixed import saturate
from transept.golden.ops import Multiply, Rotary
from transept.host.backends.cpu.arrays import Arrays, dtype_of
from transept.host.backends.cpu.kernel import Kernel

__all__ = ["MultiplyKernel", "RotaryKernel"]


class MultiplyKernel(Kernel):
    """A ``Multiply``."""

    def __init__(self, op: Multiply, values: Mapping[str, Value]) -> None:
        self._op, self._bits = op, values[op.out].bits

    def __call__(self, arrays: Arrays, lengths: Lengths) -> dict[str, torch.Tensor]:
        """The product."""
        op = self._op
        out = _shifted(arrays[op.y].int() * arrays[op.x], op.shift, self._bits)
        return {op.out: out.to(dtype_of(self._bits))}


class RotaryKernel(Kernel):
    """A ``Rotary``."""

    def __init__(self, op: Rotary, values: Mapping[str, Value]) -> None:
        self._op = op

    def __call__(self, arrays: Arrays, lengths: Lengths) -> dict[str, torch.Tensor]:
        """The rotated heads."""
        op = self._op
        x = arrays[op.x].unflatten(-1, (op.heads, -1)).int()
        cos, sin = (arrays[name][..., None, :] for name in (op.cos, op.sin))
        direct = _shifted(x * cos, ROTARY_SHIFT, 16)
        crossed = _shifted(x.roll(x.shape[-1] // 2, -1) * sin, ROTARY_SHIFT, 16)
        return {op.out: _shifted(direct + crossed, op.shift, 8).flatten(-2).to(torch.int8)}


def _shifted(total: torch.Tensor, shift: int, bits: int) -> torch.Tensor:
    """``sat(round(total / 2**shift))``, in place."""
    return saturate(total.add_((1 << shift) >> 1).bitwise_right_shift_(shift), bits)
