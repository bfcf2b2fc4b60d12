"""Tensor-parallel runs: one process a rank, gathering through ``torch.distributed``."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.distributed

from transept.golden.graph import Graph, Lengths
from transept.host.backends.base import PreparedGraph
from transept.host.parallel.shards import Columns, stages

__all__ = ["TensorParallelGraph"]


class TensorParallelGraph:
    """One rank's share of a graph. Every rank runs it on the same inputs, and has all outputs.

    prepare: makes a graph ready on this rank's device (``CpuGraph``, ``GpuGraph``); group: of
    ``torch.distributed``, all processes by default.

    Raises
    ------
    RuntimeError
        If ``torch.distributed`` is not initialised.
    """

    def __init__(
        self,
        graph: Graph,
        prepare: Callable[[Graph], PreparedGraph],
        group: torch.distributed.ProcessGroup | None = None,
    ) -> None:
        if not torch.distributed.is_initialized():
            raise RuntimeError("torch.distributed is not initialised: start with torchrun")
        self._graph, self._group = graph, group
        rank, ranks = torch.distributed.get_rank(group), torch.distributed.get_world_size(group)
        self._stages = [(stage, prepare(stage.graph)) for stage in stages(graph, rank, ranks)]
        nccl = torch.distributed.get_backend(group) == "nccl"
        self._transport = torch.device("cuda" if nccl else "cpu")

    def run(
        self, inputs: Mapping[str, np.ndarray], lengths: Lengths | None = None
    ) -> dict[str, np.ndarray]:
        """Every output for integers [batch, length, width], in the types of the values."""
        held = {name: (x, 0) for name, x in inputs.items()}
        for stage, prepared in self._stages:
            given = {name: _cut(*held[name], columns) for name, columns in stage.columns.items()}
            dims = {dim.name for dim in stage.graph.dims}
            real = {dim: rows for dim, rows in (lengths or {}).items() if dim in dims}
            for name, y in prepared.run(given, real).items():
                held[name] = y, stage.starts[name]
            for name, columns in stage.gathered.items():
                held[name] = self._gathered(held[name][0], columns), 0
        return {name: held[name][0] for name in self._graph.outputs}

    def _gathered(self, own: np.ndarray, columns: list[Columns]) -> np.ndarray:
        """All columns of a value of which every rank has some."""
        widest = max(end - first for first, end in columns)
        mine = np.zeros((*own.shape[:2], widest), own.dtype)
        mine[..., : own.shape[2]] = own
        # as bytes: not every transport knows int16
        sent = torch.from_numpy(mine.view(np.uint8)).to(self._transport)
        parts = [torch.empty_like(sent) for _ in columns]
        torch.distributed.all_gather(parts, sent, group=self._group)
        cut = [
            part.cpu().numpy().view(own.dtype)[..., : end - first]
            for part, (first, end) in zip(parts, columns, strict=True)
        ]
        return np.concatenate(cut, -1)


def _cut(x: np.ndarray, start: int, columns: Columns) -> np.ndarray:
    """Columns of a value of which ``x`` has those from ``start`` on."""
    first, end = columns
    return np.ascontiguousarray(x[..., first - start : end - start])
