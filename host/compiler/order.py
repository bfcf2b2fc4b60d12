"""List scheduling: when each engine does what.

A task starts as early as its engine, what it depends on, its weights and the memory that it opens
allow. Among tasks of the array that can start equally early, the one that feeds the longest task of
another engine goes first, then the one that comes first in the source order. Longest path to the
end, the classical priority, loses up to an eighth of the array here: it starts rows that nothing
follows.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from transept.golden.config import Config
from transept.golden.isa import Engine
from transept.host.compiler.cost import MEMORY_LATENCY, Cost, Cycles
from transept.host.compiler.depend import Dependence, dependences
from transept.host.compiler.errors import CompileError
from transept.host.compiler.memories import Occupancy, stationary_reserve
from transept.host.compiler.tasks import Product, Task

__all__ = ["Schedule", "Slot", "schedule"]

#: From the last write of one engine to the first step of another that waited for it.
HOP = 20


@dataclass(frozen=True)
class Slot:
    """When a task runs: start and end of its engine's work, and when its result is visible."""

    task: Task
    start: int
    end: int
    visible: int
    #: when LOAD begins with its weights
    load: int
    #: its weights are those of the task before, which leaves them for it
    shares: bool


@dataclass(frozen=True)
class Schedule:
    """Slots in the order in which they were taken; ``cycles``: until all is done."""

    slots: list[Slot]
    before: list[list[Dependence]]  # of the tasks, in their source order
    cycles: int
    reserve: int  # words of the stationary scratchpad below the weight ring


class _Weights:
    """LOAD, and the ring in the stationary scratchpad that weights stream through."""

    def __init__(self, cost: Cost, words: int) -> None:
        self._cost, self.words = cost, words
        self._waiting: deque[tuple[int, int]] = deque()  # (consumed at, words)

    def begin(self, free: int, words: int) -> int:
        """When LOAD can begin to bring so many words."""
        room, at = self.words - sum(held for _, held in self._waiting), free
        for consumed, held in self._waiting:
            if room >= min(words, self.words):
                break
            room += held
            at = max(at, consumed)
        return at

    def bring(self, begin: int, words: int, consumed: int) -> None:
        """Words that LOAD brings from ``begin`` on and the array has used at ``consumed``."""
        while self._waiting and self._waiting[0][0] <= begin:
            self._waiting.popleft()
        self._waiting.append((consumed, min(words, self.words)))


class _Scheduler:
    def __init__(self, tasks: list[Task], config: Config) -> None:
        self._tasks = tasks
        self._cost = Cost(config)
        self._cycles = [self._cost(task) for task in tasks]
        self._before = dependences(tasks)
        self._after: list[list[int]] = [[] for _ in tasks]
        for index, before in enumerate(self._before):
            for dependence in before:
                self._after[dependence.task].append(index)
        self._feeds = [self._fed(index) for index in range(len(tasks))]
        self._missing = [len(before) for before in self._before]
        self._reserve = stationary_reserve(tasks)
        self._occupancy = Occupancy(tasks, config, self._reserve)
        self._weights = _Weights(self._cost, config.memories.stat_words - self._reserve)
        self._free = dict.fromkeys(Engine, 0)
        self._slots: dict[int, Slot] = {}
        self._ready: dict[Engine, list[int]] = {engine: [] for engine in Engine}
        self._from: list[int] = [0] * len(tasks)  # when what a task depends on is done
        self._last: Slot | None = None  # of the array
        for index, missing in enumerate(self._missing):
            if not missing:
                self._ready[tasks[index].engine].append(index)

    def _fed(self, index: int) -> int:
        """Cycles of the longest task of another engine that reads the result."""
        engine = self._tasks[index].engine
        others = (after for after in self._after[index] if self._tasks[after].engine != engine)
        return max((self._cycles[other].busy for other in others), default=0)

    def run(self, *, in_order: bool) -> Schedule:
        for step in range(len(self._tasks)):
            best = self._candidate(step) if in_order else self._best()
            if best is None:
                raise CompileError("the buffers of this cut do not fit at the same time")
            self._take(*best)
        slots = list(self._slots.values())
        cycles = max(slot.visible for slot in slots)
        return Schedule(slots, self._before, cycles, self._reserve)

    def _candidate(self, index: int) -> tuple[int, Slot] | None:
        slot = self._slot(index)
        return None if slot is None else (index, slot)

    def _best(self) -> tuple[int, Slot] | None:
        """The task that can start first, of those of any engine."""
        best: tuple[tuple, int, Slot] | None = None
        for engine, ready in self._ready.items():
            for index in ready:
                bound = max(self._free[engine], self._from[index])
                if best is not None and bound > best[0][0]:
                    continue
                slot = self._slot(index)
                if slot is None:
                    continue
                key = (slot.start, not slot.shares, -self._feeds[index], index)
                if best is None or key < best[0]:
                    best = (key, index, slot)
        return None if best is None else best[1:]

    def _slot(self, index: int) -> Slot | None:
        """When the task would run next; None if what it opens does not fit before others end."""
        task, cycles = self._tasks[index], self._cycles[index]
        engine = task.engine
        start = self._occupancy.room(index, max(self._free[engine], self._from[index]))
        if start is None:
            return None
        if isinstance(task, Product) and task.resident is None:
            return self._streamed(index, task, cycles, start)
        end = start + cycles.busy
        return Slot(task, start, end, end + cycles.drain, start, shares=False)

    def _shares(self, index: int) -> bool:
        """Whether the array's last task is the same product of other rows, and this one could have
        started with it: column by column, both use the same weights."""
        task, last = self._tasks[index], self._last
        return (
            last is not None
            and isinstance(task, Product)
            and isinstance(last.task, Product)
            and last.task.op is task.op
            and last.task.columns == task.columns
            and self._from[index] <= last.start
            and self._occupancy.room(index, last.start) == last.start
        )

    def _streamed(self, index: int, task: Product, cycles: Cycles, start: int) -> Slot:
        """A product that waits for its weights, unless the one before it has the same."""
        if self._shares(index):
            end = start + cycles.busy
            return Slot(task, start, end, end + cycles.drain, start, shares=True)
        words = task.streamed_words
        load = self._weights.begin(self._free[Engine.LOAD], words)
        first = self._cost.stream(words / len(task.columns))
        start = max(start, round(load + MEMORY_LATENCY + min(first, self._cost.stream(words) / 4)))
        last_column = cycles.busy // len(task.columns)
        loaded = round(load + MEMORY_LATENCY + self._cost.stream(words))
        end = max(start + cycles.busy, loaded + last_column // 4)
        return Slot(task, start, end, end + cycles.drain, load, shares=False)

    def _take(self, index: int, slot: Slot) -> None:
        task = slot.task
        self._slots[index] = slot
        self._free[task.engine] = slot.end
        if index in self._ready[task.engine]:
            self._ready[task.engine].remove(index)
        if isinstance(task, Product) and task.resident is None and not slot.shares:
            words = task.streamed_words
            self._weights.bring(slot.load, words, slot.end)
            self._free[Engine.LOAD] = round(slot.load + self._cost.stream(words))
        if task.engine == Engine.GEMM:
            self._last = slot
        self._occupancy.take(index, slot.visible)
        for after in self._after[index]:
            self._missing[after] -= 1
            dependence = next(d for d in self._before[after] if d.task == index)
            self._from[after] = max(self._from[after], self._allows(dependence, slot))
            if not self._missing[after]:
                self._ready[self._tasks[after].engine].append(after)

    @staticmethod
    def _allows(dependence: Dependence, slot: Slot) -> int:
        """When a task that depends on this one may start."""
        return slot.visible + HOP if dependence.complete else slot.start


def schedule(tasks: list[Task], config: Config) -> Schedule:
    """When every task runs.

    If the greedy choice ends with buffers that cannot be opened, the source order is taken.

    Raises
    ------
    CompileError
        If the buffers of the source order do not fit either.
    """
    try:
        return _Scheduler(tasks, config).run(in_order=False)
    except CompileError:
        return _Scheduler(tasks, config).run(in_order=True)
