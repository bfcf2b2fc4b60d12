"""Rows of int16 to int8 operands by their own maximum, and activations by a list of all values."""

from __future__ import annotations

import functools

import torch

from transept.golden.numerics.fixed import saturate
from transept.golden.numerics.requantise import (
    HALF_BITS,
    ONE,
    ROW_MAX_FLOOR,
    ActivationTable,
    activation,
    quantise_scale,
)
from transept.golden.ops.parameters import parameters_like
from transept.host.backends.cpu.arrays import Arrays, Rows, dtype_of, row_blocks

__all__ = ["Activation", "operands", "quantise_rows"]

#: Of the lowest int16.
LOWEST = -(1 << 15)


def operands(arrays: Arrays, name: str, *, halves: bool = False) -> Rows:
    """The named value as operands of a product, made once a run; halves: the lower ones, too."""
    known = arrays.operands.get(name)
    if known is None or (halves and known.low is None):
        x = arrays[name]
        flat = x.reshape(-1, x.shape[-1])
        if x.dtype == torch.int16:
            rows = quantise_rows(flat, halves=halves)
        else:
            rows = Rows(flat, torch.full((1, 1), ONE, dtype=torch.float64).expand(len(flat), 1))
        arrays.operands[name] = rows
    return arrays.operands[name]


def quantise_rows(x: torch.Tensor, *, halves: bool = False) -> Rows:
    """int16[m, k], each row by its maximum (``numerics.requantise.quantise_row``, with ``halves``
    ``quantise_halves``).

    In float64 a product of 15 by 24 bits is exact, and so is its sum with one half. Nothing
    saturates: a row's maximum becomes at most 127 (1 + 2**-15).
    """
    row_max = x.abs().amax(-1)
    scale = _scales().index_select(0, row_max.int())[:, None]
    elements = torch.empty_like(x, dtype=torch.int8)
    low = torch.empty_like(elements) if halves else None
    for block in row_blocks(*x.shape):
        scaled = x[block].double().mul_(scale[block])
        elements[block] = high = (scaled + 0.5).floor_()
        if low is not None:
            fine = 1 << HALF_BITS
            low[block] = scaled.mul_(fine).floor_().sub_(high, alpha=fine)
    return Rows(elements, row_max.clamp(min=ROW_MAX_FLOOR).double()[:, None], low)


@functools.cache
def _scales() -> torch.Tensor:
    """float64[32768]: what rows of every maximum are multiplied by."""
    return quantise_scale(torch.arange(-LOWEST)).double() * 2.0**-25


class Activation:
    """An activation of int16 to ``bits`` bits, from a list of its 65,536 values."""

    def __init__(self, table: ActivationTable, bits: int) -> None:
        x = torch.arange(LOWEST, -LOWEST)
        y = saturate(activation(x, parameters_like(x, table)), bits)
        self._list = y.to(dtype_of(bits))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """int16 or int8 of integers within 16 bits, of any type and shape."""
        place = x.to(torch.int32).sub_(LOWEST)
        return self._list.index_select(0, place.view(-1)).view(x.shape)
