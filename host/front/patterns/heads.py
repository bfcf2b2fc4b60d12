"""Heads of a value: tensors [.., length, d] as elements of its rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import fx

from transept.host.front.views import View

if TYPE_CHECKING:
    from transept.host.front.matcher import Matcher


__all__ = ["Heads", "heads_of"]


@dataclass(frozen=True, eq=False)
class Heads:
    """rows: int64[batch, length]; columns: int64[heads, d]; head: of each slice, int64[slices];
    batch: of each slice; leading: the tensor's dimensions before [length, d]."""

    value: str
    rows: torch.Tensor
    columns: torch.Tensor
    batch: torch.Tensor
    head: torch.Tensor
    factor: float
    leading: tuple[int, ...]


def heads_of(m: Matcher, node: fx.Node, *, transposed: bool = False) -> Heads | None:
    """A tensor [.., length, d] (or [.., d, length]) as heads of a value. What torch computes is
    rows of all heads; a tensor whose elements lie otherwise is a value of its own."""
    if not m.values[node].numel():
        return None
    view = m.views[node]
    if isinstance(view, View) and isinstance(view.value, fx.Node):
        source = _own(m, view.value)
        codes = source.codes.flatten()[view.codes]
        view = View(source.value, source.width, codes, view.factor)
    found = _of_view(m, view, transposed) if isinstance(view, View) else None
    return found or _of_view(m, _own(m, node, transposed), transposed)


def _own(m: Matcher, node: fx.Node, transposed: bool = False) -> View:
    """A tensor that torch computes, as rows (batch, length) of heads * d elements."""
    shape = list(m.values[node].shape)
    shape = [1] * (2 - len(shape)) + shape
    if transposed:
        shape[-2:] = shape[:-3:-1]
    *_, length, d = shape
    heads = shape[-3] if len(shape) > 3 else 1
    batch = math.prod(shape) // (heads * length * d)
    codes = torch.arange(math.prod(shape)).reshape(batch, length, heads, d).transpose(1, 2)
    codes = codes.reshape(shape)
    codes = codes.transpose(-1, -2) if transposed else codes
    return View(m.own(node, codes, heads * d), heads * d, codes)


def _of_view(m: Matcher, view: View, transposed: bool) -> Heads | None:
    codes = view.codes.transpose(-1, -2) if transposed else view.codes
    if codes.ndim < 3 or view.factor == 0:
        return None
    leading = tuple(codes.shape[:-2])
    codes = codes.reshape(-1, *codes.shape[-2:])  # (slices, length, d)
    rows, elements = codes // view.width, codes % view.width
    if (rows != rows[..., :1]).any() or (elements != elements[:, :1]).any():
        return None
    rows, batch = _distinct(rows[..., 0])
    columns, head = _distinct(elements[:, 0])
    complete = torch.unique(rows)
    if len(complete) != rows.numel() or len(complete) != m.count(view.value):
        return None
    return Heads(str(view.value), rows, columns, batch, head, view.factor, leading)


def _distinct(slices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Different slices in the order in which they appear, and the number of each slice."""
    numbers: dict[tuple, int] = {}
    index = [numbers.setdefault(tuple(part), len(numbers)) for part in slices.tolist()]
    return torch.tensor(list(numbers)), torch.tensor(index)
