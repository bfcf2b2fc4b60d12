"""Row spaces: values whose rows correspond, and the sequences that attention sees in them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

import torch

from transept.host.front.matches import AttentionMatch, Match

__all__ = ["Groups", "Spaces"]

Item = TypeVar("Item", bound=Hashable)


class Groups(Generic[Item]):
    """Items that have been joined, directly or through others (union-find)."""

    def __init__(self) -> None:
        self._parent: dict[Item, Item] = {}

    def find(self, item: Item) -> Item:
        """The representative of an item's group."""
        parent = self._parent.setdefault(item, item)
        while parent != self._parent[parent]:
            parent = self._parent[parent]
        self._parent[item] = parent
        return parent

    def join(self, items: Iterable[Item]) -> None:
        """Make one group of all of them; the first one's representative stays."""
        first: Item | None = None
        for item in items:
            found = self.find(item)
            if first is None:
                first = found
            self._parent[found] = first


class Spaces:
    """The row spaces of some operators: ``dims`` names that of every value, ``orders`` holds the
    sequences of each, int64[batch, length] of rows.

    A space that no attention reads is one long sequence. ``conflicts``: attentions that cut a space
    into other sequences than those before them.
    """

    def __init__(self, ops: list[Match], rows: dict[str, int]) -> None:
        groups: Groups[str] = Groups()
        for op in ops:
            if isinstance(op, AttentionMatch):
                q, k, v = op.inputs
                groups.join([q, *op.outputs])
                groups.join([k, v])
            else:
                groups.join([*op.inputs, *op.outputs])
        orders: dict[str, torch.Tensor] = {}
        self.conflicts: list[AttentionMatch] = []
        for op in ops:
            if isinstance(op, AttentionMatch):
                wanted = ((op.inputs[0], op.queries), (op.inputs[1], op.keys))
                for value, order in wanted:
                    known = orders.setdefault(groups.find(value), order)
                    if not torch.equal(known, order):
                        self.conflicts.append(op)
                        break
        self.dims: dict[str, str] = {}
        self.orders: dict[str, torch.Tensor] = {}
        names: dict[str, str] = {}
        for op in ops:
            for value in (*op.inputs, *op.outputs):
                space = groups.find(value)
                if space not in names:
                    names[space] = f"rows{len(names) or ''}"
                    alone = torch.arange(rows[value])[None]
                    self.orders[names[space]] = orders.get(space, alone)
                self.dims[value] = names[space]
