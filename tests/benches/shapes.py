"""Ten shapes of transformers at full size, whose predicted cycles are guarded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from graphs import norms_in_front, post_norm

from transept.golden.config import PYNQ_Z2
from transept.golden.filters import Causal
from transept.golden.graph import Graph
from transept.host.compiler.compile import compile_graph
from transept.host.compiler.cut import Shape
from transept.host.compiler.executable import Executable

__all__ = ["SHAPES", "Workload"]


@dataclass(frozen=True)
class Workload:
    """A graph and a batch of sequences."""

    graph: Callable[[], Graph]
    batch: int
    length: int

    def compiled(self) -> Executable:
        """Its executable at full size."""
        return compile_graph(self.graph(), PYNQ_Z2, Shape(self.batch, {"rows": self.length}))


def _minilm(layers: int) -> Callable[[], Graph]:
    return lambda: post_norm(0, 384, 12, [1536] * layers, limit=512, block=16)


def _layer(hidden: int, heads: int, inner: int) -> Callable[[], Graph]:
    return lambda: post_norm(0, hidden, heads, [inner], limit=512, block=16)


SHAPES = {
    "MiniLM 128 x 1": Workload(_minilm(6), 1, 128),
    "MiniLM 32 x 4": Workload(_minilm(6), 4, 32),
    "two layers of MiniLM, 32 x 1": Workload(_minilm(2), 1, 32),
    "two layers of MiniLM, 64 x 1": Workload(_minilm(2), 1, 64),
    "a layer of MiniLM, 256 x 1": Workload(_minilm(1), 1, 256),
    "a layer of MiniLM, 512 x 1": Workload(_minilm(1), 1, 512),
    "a layer of BERT-base, 128 x 1": Workload(_layer(768, 12, 3072), 1, 128),
    "a layer of GPT-2, 128 x 1": Workload(
        lambda: norms_in_front(0, 768, 12, [3072], Causal(), limit=512, block=16), 1, 128
    ),
    "a layer of DeiT-S, 197 x 1": Workload(
        lambda: norms_in_front(0, 384, 6, [1536], limit=512, block=16), 1, 197
    ),
    "Lu et al. 2020, 64 x 1": Workload(_layer(512, 8, 2048), 1, 64),
}
