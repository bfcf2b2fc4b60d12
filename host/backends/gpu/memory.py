"""Device memory of a graph for one shape: values, and the operands that products read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from transept.golden.graph import Graph, Operator
from transept.golden.numerics.requantise import ONE
from transept.golden.ops import Linear
from transept.host.compiler.cut import Shape
from transept.host.kernels.rows import ALIGNMENT, Rows

__all__ = ["Memory"]

TYPES = {8: torch.int8, 16: torch.int16}


@dataclass
class _Shared:
    """A tensor of several values, and how many of them are still read."""

    tensor: torch.Tensor
    left: int


class Memory:
    """Tensors of one shape. What nobody reads any more makes room for what comes.

    Rows are padded to whole multiples of 16 bytes; what is behind a row is zero, and stays so.
    """

    def __init__(self, graph: Graph, shape: Shape, device: torch.device) -> None:
        self.shape, self.device = shape, device
        #: Whether every sequence has all its rows, so that no key needs a mask.
        self.whole = False
        self._graph = graph
        self._values: dict[str, torch.Tensor] = {}
        self._rows: dict[str, Rows] = {}
        self._shared: dict[str, _Shared] = {}
        self._free: dict[tuple, list[torch.Tensor]] = defaultdict(list)
        self._keys = {
            dim: torch.full((shape.batch,), length, dtype=torch.int32, device=device)
            for dim, length in shape.lengths.items()
        }

    # --- what is needed
    def operand(self, name: str) -> bool:
        """Whether a product reads the value as int8 rows with multipliers of their own."""
        wide = self._graph.values[name].bits == 16
        return wide and any(isinstance(op, Linear) for op in self._graph.consumers(name))

    def kept(self, name: str) -> bool:
        """Whether somebody reads the value itself."""
        if name in self._graph.outputs or not self.operand(name):
            return True
        return any(not isinstance(op, Linear) for op in self._graph.consumers(name))

    # --- tensors
    def count(self, name: str) -> int:
        """Rows of a value, of all sequences."""
        return self.shape.batch * self.shape.lengths[self._graph.values[name].dim]

    def keys(self, name: str) -> torch.Tensor:
        """int32[batch]: real rows of each sequence of a value."""
        return self._keys[self._graph.values[name].dim]

    def dim(self, name: str) -> torch.Tensor:
        """int32[batch]: real rows of each sequence of a dimension."""
        return self._keys[name]

    def value(self, name: str) -> torch.Tensor:
        """int16 or int8 [rows, width] of a value."""
        if name not in self._values:
            value = self._graph.values[name]
            self._values[name] = self.tensor(self.count(name), value.width, TYPES[value.bits])
        return self._values[name]

    def sequences(self, name: str) -> torch.Tensor:
        """The same as [batch, length, width]."""
        return self.value(name).unflatten(0, (self.shape.batch, -1))

    def share(self, names: Sequence[str], tensor: torch.Tensor) -> None:
        """Let values be neighbouring columns of one tensor of ``tensor``."""
        shared, start = _Shared(tensor, len(names)), 0
        for name in names:
            width = self._graph.values[name].width
            self._values[name] = tensor[:, start : start + width]
            self._shared[name] = shared
            start += width

    def rows(self, name: str) -> Rows:
        """A value as operands of a product."""
        if name not in self._rows:
            count, width = self.count(name), self._graph.values[name].width
            if self._graph.values[name].bits == 16:
                elements = self.tensor(count, width, torch.int8)
                multiplier = self.tensor(count, 1, torch.int32).flatten()
            else:
                elements = self.value(name)
                multiplier = torch.full((count,), ONE, dtype=torch.int32, device=self.device)
            self._rows[name] = Rows(_padded(elements), multiplier)
        return self._rows[name]

    def tensor(self, count: int, width: int, dtype: torch.dtype) -> torch.Tensor:
        """[count, width], behind every row zeros up to 16 bytes."""
        step = ALIGNMENT // dtype.itemsize
        padded = width if dtype == torch.int32 else -(-width // step) * step
        key = (count, padded, width, dtype)
        if self._free[key]:
            return self._free[key].pop()
        return torch.zeros(count, padded, dtype=dtype, device=self.device)[:, :width]

    def give_back(self, tensor: torch.Tensor) -> None:
        """Let others have the place of a tensor of ``tensor``."""
        count, width = tensor.shape
        self._free[count, tensor.stride(0), width, tensor.dtype].append(tensor)

    def release(self, op: Operator, done: set[str]) -> None:
        """Give back what of ``op`` no operator will read that is not ``done``."""
        for name in (*op.inputs, *op.outputs):
            if name in self._graph.inputs or name in self._graph.outputs:
                continue
            if any(reader.name not in done for reader in self._graph.consumers(name)):
                continue
            value, rows = self._values.pop(name, None), self._rows.pop(name, None)
            shared = self._shared.pop(name, None)
            if shared is not None:
                shared.left -= 1
                value = None if shared.left else shared.tensor
            if value is not None:
                self.give_back(value)
            if rows is not None and self._graph.values[name].bits == 16:
                self.give_back(rows.elements[:, : self._graph.values[name].width])
                self.give_back(rows.multiplier[:, None])


def _padded(x: torch.Tensor) -> torch.Tensor:
    """The same rows with what is behind them."""
    return torch.as_strided(x, (x.shape[0], x.stride(0)), (x.stride(0), 1), x.storage_offset())
