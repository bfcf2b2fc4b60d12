"""The torch graph with calls of the accelerator in place of its regions."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx

from transept.golden.graph import Graph
from transept.host.front.frame import Frame
from transept.host.front.masks import MaskError, key_lengths
from transept.host.front.matches import Source
from transept.host.front.regions import FloatRegion

__all__ = ["Binding", "Edge", "Runner", "bind"]

#: Runs a region: (its index, int arrays [batch, length, width], lengths) to int arrays.
Runner = Callable[[int, dict[str, np.ndarray], dict[str, list[int]]], dict[str, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Edge:
    """A value that crosses: its positions in the flattened tensor, int64[batch, length, width];
    scale: of every element, negative where the value has the other sign."""

    name: str
    dim: str
    positions: torch.Tensor
    scale: torch.Tensor
    limit: int

    def integers(self, tensor: torch.Tensor, lengths: list[int]) -> tuple[np.ndarray, int]:
        """The value of a tensor on its grid, and how many elements of real rows lie beyond it.

        Raises
        ------
        ValueError
            If an element is NaN or infinite.
        """
        flat = tensor.detach().to("cpu", torch.float64).flatten()
        if not bool(torch.isfinite(flat).all()):
            at = int((~torch.isfinite(flat)).nonzero()[0])
            raise ValueError(
                f"{self.name} holds {flat[at].item()} at element {at}; "
                "only finite values can be quantised"
            )
        steps = torch.round(flat[self.positions] / self.scale)
        padding = torch.arange(steps.shape[1]) >= torch.tensor(lengths)[:, None]
        beyond = int(((steps.abs() > self.limit) & ~padding[..., None]).sum())
        clipped = steps.clamp(-self.limit, self.limit)
        return clipped.numpy().astype(np.int16 if self.limit > 127 else np.int8), beyond


class Binding(torch.nn.Module):
    """Stands in the graph where a region was: takes its tensors and masks, gives its results.

    inputs: what enters; beyond: elements of each input beyond its grid in the last run.
    """

    def __init__(self, index: int, region: FloatRegion, graph: Graph, frame: Frame) -> None:
        super().__init__()
        self.index, self.region = index, region
        self.beyond: dict[str, tuple[int, int]] = {}
        self.runner: Runner | None = None
        self.inputs = [_edge(region, graph, name) for name in region.inputs]
        self._outputs = [_edge(region, graph, name) for name in region.outputs]
        self._like = [frame.values[region.sources[name].node] for name in region.outputs]
        self._like = [(value.shape, value.dtype) for value in self._like]
        self.masks = [mask for op in region.attentions for mask in op.masks]

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Tensors of the inputs, then of the masks."""
        inputs, masks = tensors[: len(self.inputs)], list(tensors[len(self.inputs) :])
        lengths = self._lengths(masks)
        arrays = {}
        for edge, tensor in zip(self.inputs, inputs, strict=True):
            arrays[edge.name], beyond = edge.integers(tensor, lengths[edge.dim])
            self.beyond[edge.name] = (beyond, edge.positions.numel())
        assert self.runner is not None
        results = self.runner(self.index, arrays, lengths)
        return tuple(
            self._tensor(edge, results[edge.name], *like)
            for edge, like in zip(self._outputs, self._like, strict=True)
        )

    def _lengths(self, masks: list[torch.Tensor]) -> dict[str, list[int]]:
        """Real rows of every sequence, by dimension.

        Raises
        ------
        MaskError
            If a mask is not what it was on the example, or two differ in their lengths.
        """
        spaces = self.region.spaces
        lengths: dict[str, list[int]] = {}
        for op in self.region.attentions:
            own, masks = masks[: len(op.masks)], masks[len(op.masks) :]
            found, dim = key_lengths(op, own), spaces.dims[op.inputs[1]]
            if lengths.setdefault(dim, found) != found:
                raise MaskError(f"masks of {op.name} and of an attention before it differ")
        for dim, order in spaces.orders.items():
            lengths.setdefault(dim, [order.shape[1]] * order.shape[0])
        return lengths

    @staticmethod
    def _tensor(
        edge: Edge, rows: np.ndarray, shape: Sequence[int], dtype: torch.dtype
    ) -> torch.Tensor:
        real = torch.as_tensor(rows.astype(np.float64)) * edge.scale
        flat = torch.empty(real.numel(), dtype=torch.float64)
        flat[edge.positions.flatten()] = real.flatten()
        return flat.reshape(shape).to(dtype)


def _edge(region: FloatRegion, graph: Graph, name: str) -> Edge:
    value, source = graph.values[name], region.sources[name]
    positions = source.index[region.spaces.orders[value.dim]]
    scale = torch.as_tensor(value.scale)
    if source.sign is not None:
        scale = scale * source.sign
    return Edge(name, value.dim, positions, scale, value.limit)


def bind(frame: Frame, graphs: Sequence[Graph]) -> tuple[fx.GraphModule, list[Binding]]:
    """The frame's graph with one ``Binding`` for each of its regions."""
    bindings = [
        Binding(index, region, graph, frame)
        for index, (region, graph) in enumerate(zip(frame.regions, graphs, strict=True))
    ]
    return _Rewriter(frame, bindings).module(), bindings


class _Rewriter:
    """Copies the nodes that are still needed, regions as soon as their operands are there."""

    def __init__(self, frame: Frame, bindings: list[Binding]) -> None:
        self._frame, self._bindings = frame, bindings
        self._graph = fx.Graph()
        self._copies: dict[fx.Node, fx.Node] = {}
        self._results: dict[fx.Node, tuple[Binding, int]] = {}
        for binding in bindings:
            for index, name in enumerate(binding.region.outputs):
                self._results[binding.region.sources[name].node] = (binding, index)
        self._calls: dict[int, fx.Node] = {}

    def module(self) -> fx.GraphModule:
        """The new graph on the same parameters."""
        old = self._frame.module
        for node in old.graph.nodes:
            if node.op == "placeholder":
                self._copies[node] = self._graph.node_copy(node)
        for node in old.graph.nodes:
            if node.op == "output":
                self._need([node])
        root: dict[str, Any] = {f"region{b.index}": b for b in self._bindings}
        for node in self._graph.nodes:
            if node.op in ("get_attr", "call_module") and str(node.target) not in root:
                root[str(node.target)] = operator.attrgetter(str(node.target))(old)
        module = fx.GraphModule(root, self._graph)
        module.graph.set_codegen(old.graph._codegen)
        module.recompile()
        return module

    def _need(self, wanted: list[fx.Node]) -> None:
        """Copy nodes and what they need, without recursion: models are deep."""
        stack = list(wanted)
        while stack:
            node = stack[-1]
            if node in self._copies:
                stack.pop()
                continue
            missing = [n for n in self._operands(node) if n not in self._copies]
            if missing:
                stack += missing
            else:
                self._copies[node] = self._copy(node)

    def _operands(self, node: fx.Node) -> list[fx.Node]:
        if node not in self._results:
            return node.all_input_nodes
        return self._operands_of(self._results[node][0])

    @staticmethod
    def _operands_of(binding: Binding) -> list[fx.Node]:
        sources: dict[str, Source] = binding.region.sources
        inputs = [sources[name].node for name in binding.region.inputs]
        return [*inputs, *(mask.node for mask in binding.masks)]

    def _copy(self, node: fx.Node) -> fx.Node:
        if node not in self._results:
            return self._graph.node_copy(node, lambda n: self._copies[n])
        binding, index = self._results[node]
        if binding.index not in self._calls:
            operands = tuple(self._copies[n] for n in self._operands_of(binding))
            self._calls[binding.index] = self._graph.call_module(f"region{binding.index}", operands)
        return self._graph.call_function(operator.getitem, (self._calls[binding.index], index))
