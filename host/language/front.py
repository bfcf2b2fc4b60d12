"""The tables of what enters the layers, from the torch graph in front of them."""

from __future__ import annotations

import operator
from collections.abc import Mapping

import numpy as np
import torch
from torch import fx

from transept.host.front.bind import Binding, Edge
from transept.host.language.entry import Entry

__all__ = ["entries"]

#: What adds a token's rows and a position's.
_SUMS = (torch.ops.aten.add.Tensor, torch.ops.aten.add_.Tensor, operator.add)


def entries(
    module: fx.GraphModule, binding: Binding, shape: tuple[int, int], vocabulary: int, context: int
) -> tuple[dict[str, Entry], dict[str, tuple[int, int]]]:
    """Tables of every value that enters the one region of a model, and of each how many of its
    integers were clipped, and all.

    module: that calls ``binding``, of token ids and positions int64[shape]; vocabulary, context:
    how many of both there are.

    Raises
    ------
    ValueError
        If a value is neither of a token, nor of a position, nor a sum of both.
    """
    (call,) = (n for n in module.graph.nodes if n.op == "call_module" and n.target == "region0")
    ids, positions = (n for n in module.graph.nodes if n.op == "placeholder")
    found, beyond = {}, {}
    for edge, node in zip(binding.inputs, call.args, strict=False):  # masks come behind them
        tables = _Tables(module, edge, (ids, positions), shape)
        found[edge.name] = tables.entry(node, vocabulary, context)
        beyond[edge.name] = tables.beyond, tables.total
    return found, beyond


class _Tables:
    """Of one edge into the region. beyond, total: integers of whole values that were clipped, and
    all."""

    def __init__(
        self,
        module: fx.GraphModule,
        edge: Edge,
        given: tuple[fx.Node, fx.Node],
        shape: tuple[int, int],
    ) -> None:
        self._module, self._edge, self._shape = module, edge, shape
        self._ids, self._positions = given
        self.beyond = self.total = 0

    def entry(self, node: fx.Node, vocabulary: int, context: int) -> Entry:
        """What the node is."""
        scale, limit = self._edge.scale.expand(self._edge.positions.shape[-1]), self._edge.limit
        parts = self._parts(node)
        tables: dict[fx.Node, np.ndarray] = {}
        for of, part in parts.items():
            count = vocabulary if of is self._ids else context
            tables[of] = self._table(part, of, count, whole=len(parts) == 1)
        return Entry(tables.get(self._ids), tables.get(self._positions), scale.numpy(), limit)

    def _parts(self, node: fx.Node) -> Mapping[fx.Node, fx.Node]:
        """Nodes that depend on ids alone, or on positions alone, by what they depend on."""
        of = self._depends(node)
        if len(of) == 1:
            return {of[0]: node}
        operands = [n for n in node.args if isinstance(n, fx.Node)]
        each = {self._depends(operand): operand for operand in operands}
        plain = node.target in _SUMS and not node.kwargs and len(operands) == len(node.args) == 2
        if not (plain and set(each) == {(self._ids,), (self._positions,)}):
            raise ValueError(
                f"{self._edge.name} is neither of a token, nor of a position, nor their sum"
            )
        return {of[0]: operand for of, operand in each.items()}

    def _depends(self, node: fx.Node) -> tuple[fx.Node, ...]:
        needed = _needed(node)
        return tuple(n for n in (self._ids, self._positions) if n in needed)

    def _table(self, node: fx.Node, of: fx.Node, count: int, *, whole: bool) -> np.ndarray:
        """Rows of 0 to count - 1: integers of a whole value, real numbers of a part of a sum."""
        compute = self._ending_at(node)
        each = self._shape[0] * self._shape[1]
        rows = []
        for start in range(0, count, each):
            index = torch.arange(start, start + each).clamp(max=count - 1).reshape(self._shape)
            zeros = torch.zeros_like(index)
            given = (index, zeros) if of is self._ids else (zeros, index)
            with torch.no_grad():
                rows.append(self._rows(compute(*given), count - start, whole=whole))
        return np.concatenate(rows)[:count]

    def _rows(self, tensor: torch.Tensor, left: int, *, whole: bool) -> np.ndarray:
        """Those of one run, of which the first ``left`` are counted."""
        if whole:
            sequences, most = self._shape
            lengths = [min(max(left - number * most, 0), most) for number in range(sequences)]
            found, beyond = self._edge.integers(tensor, lengths)
            self.beyond += beyond
            self.total += sum(lengths) * found.shape[-1]
        else:
            found = tensor.expand(*self._shape, -1).float().flatten()[self._edge.positions].numpy()
        return found.reshape(-1, found.shape[-1])

    def _ending_at(self, node: fx.Node) -> fx.GraphModule:
        """The graph up to a node."""
        graph = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}
        needed = _needed(node)
        for n in self._module.graph.nodes:
            if n in needed or n in (self._ids, self._positions):
                copies[n] = graph.node_copy(n, lambda old: copies[old])
        graph.output(copies[node])
        return fx.GraphModule(self._module, graph)


def _needed(node: fx.Node) -> set[fx.Node]:
    """The node and all that it is computed of."""
    seen, stack = {node}, [node]
    while stack:
        for operand in stack.pop().all_input_nodes:
            if operand not in seen:
                seen.add(operand)
                stack.append(operand)
    return seen
