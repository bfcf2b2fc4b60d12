"""How the elements of a value lie in words: heads padded to whole tiles, all else contiguous."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from transept.golden.config import Config
from transept.golden.graph import Graph, Operator
from transept.golden.ops import Append, Attention, Linear, Rotary
from transept.host.compiler.errors import CompileError

__all__ = ["Layouts", "Segments", "passing_words"]


@dataclass(frozen=True)
class Segments:
    """``count`` segments of ``width`` elements, each padded with zeros to ``words`` words."""

    count: int
    width: int
    words: int
    tile: int

    @property
    def total(self) -> int:
        """Words of a row."""
        return self.count * self.words

    @property
    def gaps(self) -> bool:
        """Whether padding lies between segments."""
        return self.count > 1 and self.width != self.words * self.tile

    def pad(self, values: np.ndarray, axis: int) -> np.ndarray:
        """The elements along ``axis`` with the padding put in; of the last word only if it lies
        between segments."""
        if not self.gaps:
            return values
        values = np.moveaxis(values, axis, 0)
        split = values.reshape(self.count, self.width, *values.shape[1:])
        wide = np.zeros((self.count, self.words * self.tile, *values.shape[1:]), values.dtype)
        wide[:, : self.width] = split
        return np.moveaxis(wide.reshape(-1, *values.shape[1:]), 0, axis)


class Layouts:
    """The segments of every value of a graph.

    Raises
    ------
    CompileError
        If one operator needs the heads of a value padded and another needs it contiguous.
    """

    def __init__(self, graph: Graph, config: Config) -> None:
        self._tile = config.tile
        self._heads: dict[str, int] = {}
        for op in graph.ops:
            if isinstance(op, Attention):
                for name, heads in (
                    (op.q, op.heads),
                    (op.k, op.kv_heads),
                    (op.v, op.kv_heads),
                    (op.out, op.heads),
                ):
                    self._split(name, heads, op.name)
        for op in graph.ops:
            if isinstance(op, Append) and op.out in self._heads:
                for name in op.inputs:
                    self._split(name, self._heads[op.out], op.name)
        self._segments = {
            name: self._of(value.width, self._heads.get(name, 1))
            for name, value in graph.values.items()
        }
        for op in graph.ops:
            if isinstance(op, Append | Attention | Linear):
                continue
            for name in (*op.inputs, *op.outputs):
                segments = self._segments[name]
                if segments.width % config.tile and segments.count > 1:
                    raise CompileError(
                        f"{op.name} reads {name}, whose {segments.count} heads of {segments.width} "
                        f"elements are padded to {segments.words * config.tile}"
                    )

    def _split(self, name: str, heads: int, op: str) -> None:
        if self._heads.setdefault(name, heads) != heads:
            raise CompileError(f"{op} splits {name} into {heads} heads, another operator does not")

    def _of(self, width: int, count: int) -> Segments:
        width //= count
        return Segments(count, width, -(-width // self._tile), self._tile)

    def __getitem__(self, name: str) -> Segments:
        return self._segments[name]


def passing_words(op: Operator, layouts: Layouts) -> int:
    """Words of a row that an operator needs beside its values: a rotary embedding is the sum of two
    products, one of which has buffers of its own, that two blocks of rows take in turn."""
    return 2 * layouts[op.x].total if isinstance(op, Rotary) else 0
