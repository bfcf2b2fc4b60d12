"""What a sequence keeps of its earlier tokens."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from transept.golden.graph import Lengths, Value
from transept.golden.ops import Append
from transept.golden.ops.cache import starts
from transept.host.backends.cpu.arrays import Arrays
from transept.host.backends.cpu.kernel import Kernel

__all__ = ["AppendKernel"]


class AppendKernel(Kernel):
    """An ``Append``."""

    def __init__(self, op: Append, values: Mapping[str, Value]) -> None:
        self._op = op
        self._dims = values[op.rows].dim, values[op.cache].dim

    def __call__(self, arrays: Arrays, lengths: Lengths) -> dict[str, torch.Tensor]:
        """out."""
        rows, out = arrays[self._op.rows], arrays[self._op.cache].clone()
        new, whole = (
            lengths.get(dim, [x.shape[1]] * len(x))
            for dim, x in zip(self._dims, (rows, out), strict=True)
        )
        for number, first in enumerate(starts(new, whole)):
            out[number, first : whole[number]] = rows[number, : whole[number] - first]
        return {self._op.out: out}
