"""The specification itself: the interpreter of the graph, on torch if it is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from transept.golden.graph import Graph, Lengths
from transept.host.compiler.cut import Shape
from transept.host.runtime.region import dtype_of

__all__ = ["GoldenGraph"]


class GoldenGraph:
    """``Graph.evaluate`` on NumPy arrays; torch multiplies faster, and gives the same bits."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def prepare(self, shape: Shape, lengths: Lengths | None = None) -> None:
        """Nothing to do."""

    def run(
        self, inputs: Mapping[str, np.ndarray], lengths: Lengths | None = None
    ) -> dict[str, np.ndarray]:
        """Every output for integers [batch, length, width], in the types of the values."""
        try:
            import torch
        except ImportError:
            arrays: dict[str, Any] = dict(inputs)
        else:
            arrays = {name: torch.as_tensor(np.ascontiguousarray(x)) for name, x in inputs.items()}
        found = self._graph.evaluate(arrays, lengths)
        values = self._graph.values
        return {name: np.asarray(y).astype(dtype_of(values[name])) for name, y in found.items()}
