"""Arrays of a run, what kernels make of them once, and the parts in which they are worked on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

__all__ = ["Arrays", "Rows", "block_elements", "dtype_of", "row_blocks", "slices"]

#: Elements that a thread works on at a time: few enough for a cache, enough to hide a call.
BLOCK = 1 << 18


@dataclass(frozen=True, eq=False)
class Rows:
    """Operands of a product: int8[m, k], the multiplier of each row, float64[m, 1], and the lower
    halves int8[m, k] of rows of 15 bits, whose higher ones the elements are."""

    elements: torch.Tensor
    multiplier: torch.Tensor
    low: torch.Tensor | None = None


class Arrays(dict[str, torch.Tensor]):
    """int16 or int8 [batch, length, width] by name; operands: of those that products have read."""

    def __init__(self) -> None:
        super().__init__()
        self.operands: dict[str, Rows] = {}

    def forget(self, names: Iterable[str]) -> None:
        """Drop values that nothing reads any more."""
        for name in names:
            del self[name]
            self.operands.pop(name, None)


def dtype_of(bits: int) -> torch.dtype:
    """The type of a value of 16 or 8 bits."""
    return torch.int8 if bits == 8 else torch.int16


def block_elements() -> int:
    """Elements that all threads together work on at a time."""
    return BLOCK * torch.get_num_threads()


def slices(count: int, step: int) -> Iterator[slice]:
    """``count`` in parts of ``step``, at least one each."""
    step = max(1, step)
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def row_blocks(rows: int, width: int) -> Iterator[slice]:
    """Rows of so many elements in parts of ``block_elements``."""
    return slices(rows, block_elements() // width)
