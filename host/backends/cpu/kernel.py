"""What a kernel is, and the one that any operator has: its golden model."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

import torch

from transept.golden.graph import Lengths, Operator, Value
from transept.host.backends.cpu.arrays import Arrays, dtype_of

__all__ = ["GoldenKernel", "Kernel"]


class Kernel(abc.ABC):
    """An operator with its constants in the form in which they are used."""

    @abc.abstractmethod
    def __init__(self, op: Any, values: Mapping[str, Value]) -> None: ...

    @classmethod
    def fits(cls, op: Any, values: Mapping[str, Value]) -> bool:
        """Whether the bits are proved for an operator of its type; all, if it does not say."""
        return True

    @abc.abstractmethod
    def __call__(self, arrays: Arrays, lengths: Lengths) -> dict[str, torch.Tensor]:
        """The operator's outputs, int16 or int8 [batch, length, width]."""


class GoldenKernel(Kernel):
    """Any operator, evaluated by itself on int64."""

    def __init__(self, op: Operator, values: Mapping[str, Value]) -> None:
        self._op, self._values = op, values

    def __call__(self, arrays: Arrays, lengths: Lengths) -> dict[str, torch.Tensor]:
        """The operator's outputs."""
        wide = {name: arrays[name].long() for name in self._op.inputs}
        found = self._op.evaluate(self._values, wide, lengths)
        types = {name: dtype_of(self._values[name].bits) for name in found}
        return {name: y.to(types[name]).contiguous() for name, y in found.items()}
