"""Cycles of tasks, as the RTL takes them when nothing else disturbs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transept.golden.config import Config
from transept.golden.isa import Filter
from transept.host.compiler.pages import PAGE_ROWS
from transept.host.compiler.tasks import (
    ContextTask,
    ElementwiseTask,
    LoadBlock,
    LoadNew,
    LoadPages,
    LoadRows,
    NormTask,
    Product,
    ScoresTask,
    SoftmaxTask,
    StorePages,
    StoreRows,
    Task,
)

__all__ = ["Cost", "Cycles"]

#: Share of the bus that memory keeps up with.
BUS_SHARE = 0.8
#: Cycles from the request of a burst to its first beat, and from its last beat to the answer.
MEMORY_LATENCY = 45
#: From the last element that enters an engine's pipeline until its result is visible.
DRAIN = {"gemm": 60, "softmax": 30, "vector": 50}
#: Row statistics of the vector unit, between the two sweeps of a row.
NORM_LATENCY = 90
#: The activation table has one lane for so many of the requantiser.
ACTIVATION_SHARE = 4


@dataclass(frozen=True)
class Cycles:
    """busy: the engine can take nothing else; drain: until the result is visible after that."""

    busy: int
    drain: int


class Cost:
    """Cycles of every kind of task on one configuration."""

    def __init__(self, config: Config) -> None:
        self._config, self._tile = config, config.tile
        self.bytes_per_cycle = BUS_SHARE * config.axi_bytes

    def __call__(self, task: Task) -> Cycles:
        """Cycles of one task."""
        return _FUNCTIONS[type(task)](self, task)

    def stream(self, words: int) -> float:
        """Cycles in which memory delivers words, of ``tile`` bytes each."""
        return words * self._tile / self.bytes_per_cycle

    def _transfer(self, task: LoadRows | StoreRows) -> Cycles:
        place = task.source if isinstance(task, LoadRows) else task.target
        nbytes = task.rows * task.words * self._tile * place.element
        return Cycles(round(nbytes / self.bytes_per_cycle), MEMORY_LATENCY)

    def _pages(self, task: LoadPages) -> Cycles:
        return Cycles(round(self.stream(task.pages * PAGE_ROWS * task.words)), MEMORY_LATENCY)

    def _new(self, task: LoadNew | StorePages) -> Cycles:
        return Cycles(round(self.stream(task.rows * task.words)), MEMORY_LATENCY)

    def _block(self, task: LoadBlock) -> Cycles:
        return Cycles(round(self.stream(task.block.stored)), MEMORY_LATENCY)

    def _epilogue(self, *, activation: bool = False) -> int:
        """Cycles of a row of a finished group."""
        beats = self._tile // self._config.engines.epilogue_lanes
        return beats * (ACTIVATION_SHARE if activation else 1)

    def _product(self, task: Product) -> Cycles:
        row = self._epilogue(activation=task.op.table is not None) + task.op.halves
        passes = max(task.rows << task.op.halves, self._tile)
        column = max(task.columns[0][1].k_tiles * passes, task.rows * row)
        return Cycles(len(task.columns) * column, task.rows * row + DRAIN["gemm"])

    def _tiles(self, task: ScoresTask | SoftmaxTask | ContextTask) -> list[tuple[int, int]]:
        """(rows, key tiles) of every block of query rows."""
        blocks = []
        for start in range(0, task.rows, self._tile):
            rows = min(self._tile, task.rows - start)
            keys = task.keys
            if task.op.filter.kind == Filter.CAUSAL:
                keys = min(keys, task.position + start + self._tile - task.key_base)
            blocks.append((rows, -(-keys // self._tile)))
        return blocks

    def _scores(self, task: ScoresTask) -> Cycles:
        row = self._epilogue()
        group = max(task.d_tiles * self._tile, row * min(self._tile, task.rows))
        busy = sum(tiles * group for _, tiles in self._tiles(task))
        return Cycles(busy, self._tile * row + DRAIN["gemm"])

    def _context(self, task: ContextTask) -> Cycles:
        row = self._epilogue()
        busy = sum(
            task.d_tiles * max(tiles * self._tile, row * rows) for rows, tiles in self._tiles(task)
        )
        return Cycles(busy, self._tile * row + DRAIN["gemm"])

    def _softmax(self, task: SoftmaxTask) -> Cycles:
        word = max(2, self._tile // self._config.engines.exp_lanes)
        busy = sum(rows * tiles * word for rows, tiles in self._tiles(task))
        return Cycles(busy, DRAIN["softmax"])

    def _visit(self, task: NormTask | ElementwiseTask) -> int:
        """Cycles in which the vector unit visits all rows once."""
        word = max(2, self._tile // self._config.engines.vector_lanes)
        return task.rows * task.words * word

    def _norm(self, task: NormTask) -> Cycles:
        return Cycles(2 * self._visit(task), NORM_LATENCY + DRAIN["vector"])

    def _elementwise(self, task: ElementwiseTask) -> Cycles:
        return Cycles(self._visit(task), DRAIN["vector"])


_FUNCTIONS: dict[type[Task], Callable[[Cost, Any], Cycles]] = {
    LoadRows: Cost._transfer,
    StoreRows: Cost._transfer,
    LoadBlock: Cost._block,
    LoadPages: Cost._pages,
    LoadNew: Cost._new,
    StorePages: Cost._new,
    Product: Cost._product,
    ScoresTask: Cost._scores,
    SoftmaxTask: Cost._softmax,
    ContextTask: Cost._context,
    NormTask: Cost._norm,
    ElementwiseTask: Cost._elementwise,
}
