"""List scheduling: when each engine does what.

A task starts as early as its engine, what it depends on, its weights and the memory that it opens
allow. Among tasks of the array that can start equally early, the one that feeds the longest task of
another engine goes first, then the one that comes first in the source order. Longest path to the
end, the classical priority, loses up to an eighth of the array here: it starts rows that nothing
follows. LOAD leaves rows for later if the array would wait for weights behind them.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from transept.golden.config import Config
from transept.golden.isa import Engine
from transept.host.compiler.cost import MEMORY_LATENCY, Cost, Cycles
from transept.host.compiler.depend import Dependence, dependences
from transept.host.compiler.errors import CompileError
from transept.host.compiler.memories import Occupancy, stationary_reserve
from transept.host.compiler.tasks import ContextTask, Product, Task
from transept.host.compiler.weights import Block, ColumnTile, block_tiles

__all__ = ["Schedule", "Slot", "Streamed", "schedule", "schedule_below"]

#: Ready tasks of an engine that are weighed against each other, in their source order; and tasks of
#: the array in that order whose weights go before rows for others.
LOOKAHEAD = 16
#: From the last write of one engine to the first step of another that waited for it.
HOP = 20


class Streamed(NamedTuple):
    """When LOAD begins with one block of weights and is done, and when the array begins with it."""

    load: int
    loaded: int
    start: int


class Slot(NamedTuple):
    """When a task runs: start and end of its engine's work, and when its result is visible.

    load: when LOAD begins with the weights of a product; streamed: every block of them, those of
    the product before if it ``shares`` them.
    """

    task: Task
    start: int
    end: int
    visible: int
    load: int
    shares: bool = False
    streamed: tuple[Streamed, ...] = ()


@dataclass(frozen=True)
class Schedule:
    """Slots in the order in which they were taken; ``cycles``: until all is done."""

    slots: list[Slot]
    before: list[list[Dependence]]  # of the tasks, in their source order
    cycles: int
    reserve: int  # words of the stationary scratchpad below the weight ring


class _Weights:
    """LOAD, and the ring in the stationary scratchpad that weights stream through."""

    def __init__(self, cost: Cost, words: int, tile: int) -> None:
        self._cost, self._words = cost, words
        self._tile = tile
        self._waiting: deque[tuple[int, int]] = deque()  # (consumed at, words)
        self._held = 0

    def begin(self, free: int, words: int) -> int:
        """When LOAD can begin to bring so many words, if it is free then."""
        room, at = self._words - self._held, free
        for consumed, held in self._waiting:
            if room >= words:
                break
            room += held
            at = max(at, consumed)
        return at

    def check(self, label: str, words: int) -> None:
        """CompileError if a block of so many words has no room."""
        if words > self._words:
            raise CompileError(
                f"{label} takes weights in blocks of {words} words, {self._words} stationary words "
                "are left for them"
            )

    def arrives(self, block: Block, free: int) -> int:
        """When a block is on chip, if LOAD is free for it then."""
        stream = self._cost.stream(block.stored) + MEMORY_LATENCY / 2
        return self.begin(free, block.words) + round(stream)

    def blocks(self, task: Product, column: ColumnTile) -> list[tuple[int, int, Block]]:
        """The blocks in which a column of a product arrives, as ``ColumnTile.blocks``."""
        return column.blocks(block_tiles(self._words, self._tile, task.rows, fine=task.fine))

    def stream(
        self, task: Product, busy: int, start: int, free: int, storing: int
    ) -> tuple[list[Streamed], int, int]:
        """Bring the blocks of a product that starts then: (every block, end of the product, end of
        LOAD). free: when LOAD is; storing: until when STORE is busy."""
        blocks = [block for _, column in task.columns for block in self.blocks(task, column)]
        at, tiles = start, sum(k_tiles for _, k_tiles, _ in blocks)
        streamed = []
        for _, k_tiles, block in blocks:
            begin = self.begin(free, block.words)
            while self._waiting and self._waiting[0][0] <= begin:
                self._held -= self._waiting.popleft()[1]
            free = _shared(begin, round(self._cost.stream(block.stored)), storing)
            at = max(at, round(free + MEMORY_LATENCY / 2))
            streamed.append(Streamed(begin, free, at))
            at += busy * k_tiles // tiles
            self._waiting.append((at, block.words))
            self._held += block.words
        return streamed, max(at, start + busy), free


class _Scheduler:
    def __init__(self, tasks: list[Task], config: Config, fill: float) -> None:
        self._tasks = tasks
        self._cost = Cost(config)
        self._cycles = [self._cost(task) for task in tasks]
        self._before = dependences(tasks)
        self._after: list[list[tuple[int, Dependence]]] = [[] for _ in tasks]
        for index, before in enumerate(self._before):
            for dependence in before:
                self._after[dependence.task].append((index, dependence))
        self._urgent = [self._most_urgent(index) for index in range(len(tasks))]
        self._missing = [len(before) for before in self._before]
        self._reserve = stationary_reserve(tasks)
        if self._reserve > config.memories.stat_words:
            raise CompileError(
                f"{self._reserve} stationary words are needed at a time, {config.name} has "
                f"{config.memories.stat_words}"
            )
        self._occupancy = Occupancy(tasks, config, self._reserve, fill)
        ring = config.memories.stat_words - self._reserve
        self._weights = _Weights(self._cost, ring, config.tile)
        self._first = [self._first_block(task) for task in tasks]
        self._free = dict.fromkeys(Engine, 0)
        self._busy = dict.fromkeys(Engine, 0)  # with all that is left
        for task, cycles in zip(tasks, self._cycles, strict=True):
            self._busy[task.engine] += cycles.busy
        self._slots: dict[int, Slot] = {}
        self._ready: dict[Engine, list[int]] = {engine: [] for engine in Engine}
        self._from: list[int] = [0] * len(tasks)  # when what a task depends on is done
        self._products: list[Slot] = []  # the array's last ones, of the same weights
        self._max_rows = config.geometry.max_rows
        self._next = _chains(tasks)
        self._chained = set(self._next.values())
        self._chain: int | None = None  # the only product that may come next
        self._left = deque(  # products in the order of the source, from the first that has not run
            index for index, task in enumerate(tasks) if task.engine == Engine.GEMM
        )
        for index, missing in enumerate(self._missing):
            if not missing:
                self._ready[tasks[index].engine].append(index)

    def _most_urgent(self, index: int) -> int:
        """Of the array, cycles of the longest task of another engine that reads its result; of
        LOAD, whether the array reads it."""
        engine = self._tasks[index].engine
        readers = [after for after, dependence in self._after[index] if dependence.data]
        if engine == Engine.LOAD:
            return any(self._tasks[after].engine == Engine.GEMM for after in readers)
        if engine != Engine.GEMM:
            return 0
        others = (after for after in readers if self._tasks[after].engine != engine)
        return max((self._cycles[after].busy for after in others), default=0)

    def run(self, limit: float) -> Schedule | None:
        """The schedule; None as soon as some engine cannot be done before ``limit``."""
        for _ in self._tasks:
            index, slot = self._best()
            self._take(index, slot)
            engine = slot.task.engine
            self._busy[engine] -= self._cycles[index].busy
            if self._free[engine] + self._busy[engine] >= limit:
                return None
        slots = list(self._slots.values())
        cycles = max(slot.visible for slot in slots)
        return Schedule(slots, self._before, cycles, self._reserve) if cycles < limit else None

    def _best(self) -> tuple[int, Slot]:
        """The task that can start first, of those of any engine.

        LOAD brings weights rather than rows while it would wait for the rows' buffer, or the array
        would wait for the weights, even for those of a product that is not ready yet.
        """
        found = {engine: self._best_of(engine) for engine in Engine}
        keys = {engine: best[0] for engine, best in found.items() if best is not None}
        assert keys, "the earliest task can always run"
        engine = min(keys, key=lambda engine: keys[engine])
        rows, product = found[Engine.LOAD], found[Engine.GEMM]
        if engine == Engine.LOAD and len(keys) > 1 and rows and self._too_early(*rows[1:]):
            del keys[engine]
            engine = min(keys, key=lambda engine: keys[engine])
        if engine == Engine.LOAD and rows and product:
            _, index, slot = product
            first = self._arrives(index, slot.load + self._cycles[rows[1]].busy)
            if slot.load < rows[2].start or first > slot.start:
                engine = Engine.GEMM
        best = found[engine]
        assert best is not None
        return best[1:]

    def _too_early(self, index: int, slot: Slot) -> bool:
        """Whether stationary rows that the array reads behind its next tasks would make it wait for
        weights of these."""
        if not any(use.buffer.memory == "stat" for use in slot.task.writes):
            return False
        left = (task for task in self._left if task not in self._slots)
        tasks = list(itertools.islice(left, LOOKAHEAD))
        readers = [after for after, _ in self._after[index]]
        if not tasks or min(readers, default=0) <= tasks[-1]:
            return False
        begins = self._free[Engine.GEMM]
        for task in tasks:
            if block := self._first[task]:
                at_once = self._weights.arrives(block, self._free[Engine.LOAD])
                return at_once <= begins < self._weights.arrives(block, slot.end)
            begins += self._cycles[task].busy
        return False

    def _best_of(self, engine: Engine) -> tuple[tuple, int, Slot] | None:
        best: tuple[tuple, int, Slot] | None = None
        for index in self._candidates(engine):
            bound = max(self._free[engine], self._from[index])
            if best is not None and (bound, -self._urgent[index], False, index) >= best[0]:
                continue
            slot = self._slot(index)
            if slot is None:
                continue
            key = (slot.start, -self._urgency(index, slot), not slot.shares, index)
            if best is None or key < best[0]:
                best = (key, index, slot)
        return best

    def _candidates(self, engine: Engine) -> list[int]:
        """Ready tasks that are weighed. A context that others add to is followed by these alone,
        and begins after all products before it: what it adds may wait for one of them."""
        ready = self._ready[engine]
        if engine == Engine.GEMM:
            if self._chain is not None:
                return [self._chain] if not self._missing[self._chain] else []
            if self._chained:
                ready = [
                    index
                    for index in ready
                    if index not in self._chained
                    and (index not in self._next or index == self._left[0])
                ]
        return ready[:LOOKAHEAD]

    def _now(self) -> int:
        """No task to come starts before."""
        return min(
            (
                max(self._free[engine], min(self._from[index] for index in ready))
                for engine, ready in self._ready.items()
                if ready
            ),
            default=0,
        )

    def _urgency(self, index: int, slot: Slot) -> int:
        """Of tasks that can start equally early, the one with the largest goes first."""
        waits = slot.task.engine != Engine.LOAD or self._free[Engine.GEMM] <= slot.start
        return self._urgent[index] if waits else 0

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
        if engine == Engine.STORE:
            end = _shared(start, cycles.busy, self._free[Engine.LOAD])
        elif engine == Engine.LOAD:
            end = _shared(start, cycles.busy, self._free[Engine.STORE])
        return Slot(task, start, end, end + cycles.drain, start)

    def _shares(self, index: int) -> bool:
        """Whether one instruction can do this product and those that the array does last, and this
        one could have started with them."""
        task, group = self._tasks[index], self._products
        if not (isinstance(task, Product) and group) or self._urgent[index]:
            return False
        products = [slot.task for slot in group if isinstance(slot.task, Product)]
        rows = task.rows + sum(product.rows for product in products)
        return (
            rows <= self._max_rows >> task.op.halves
            and any(task.joins(product) for product in products)
            and self._from[index] <= group[0].start
            and self._occupancy.room(index, group[0].start) == group[0].start
        )

    def _streamed(self, index: int, task: Product, cycles: Cycles, start: int) -> Slot:
        """A product that waits for its weights, unless the one before it has the same."""
        if self._shares(index):
            end = start + cycles.busy
            return Slot(task, start, end, end + cycles.drain, start, shares=True)
        first = self._first[index]
        assert first is not None
        load = self._weights.begin(self._free[Engine.LOAD], first.words)
        start = max(start, self._arrives(index, load))
        return Slot(task, start, start + cycles.busy, start + cycles.busy, load)

    def _first_block(self, task: Task) -> Block | None:
        """The first block of weights, if they are streamed.

        Raises
        ------
        CompileError
            If the ring has no room for some block.
        """
        if not isinstance(task, Product) or task.resident is not None:
            return None
        blocks = [block for _, _, block in self._weights.blocks(task, task.columns[0][1])]
        self._weights.check(task.label, max(block.words for block in blocks))
        return blocks[0]

    def _arrives(self, index: int, load: int) -> int:
        """When enough of the first block is on chip for the array to begin, if it has weights."""
        block = self._first[index]
        return round(load + MEMORY_LATENCY + self._cost.stream(block.words) / 2) if block else 0

    def _take(self, index: int, slot: Slot) -> None:
        task = slot.task
        if isinstance(task, Product) and task.resident is None and not slot.shares:
            cycles, load = self._cycles[index], self._free[Engine.LOAD]
            streamed, end, self._free[Engine.LOAD] = self._weights.stream(
                task, cycles.busy, slot.start, load, self._free[Engine.STORE]
            )
            slot = slot._replace(end=end, visible=end + cycles.drain, streamed=tuple(streamed))
        if task.engine == Engine.STORE and self._free[Engine.LOAD] > slot.start:
            self._free[Engine.LOAD] += self._cycles[index].busy
        self._slots[index] = slot
        self._free[task.engine] = slot.end
        self._ready[task.engine].remove(index)
        if task.engine == Engine.GEMM:
            again = slot.shares and self._products
            self._products = [*again, slot] if again else [slot]
            self._chain = self._next.get(index)
            while self._left and self._left[0] in self._slots:
                self._left.popleft()
        self._occupancy.take(index, slot.end, slot.visible, self._now())
        for after, dependence in self._after[index]:
            self._missing[after] -= 1
            self._from[after] = max(self._from[after], self._allows(dependence, slot))
            if not self._missing[after]:
                bisect.insort(self._ready[self._tasks[after].engine], after)

    @staticmethod
    def _allows(dependence: Dependence, slot: Slot) -> int:
        """When a task that depends on this one may start."""
        return slot.visible + HOP if dependence.complete else slot.start


def _chains(tasks: list[Task]) -> dict[int, int]:
    """The context that adds to the accumulators of another one, by the number of that."""
    numbers = {task: number for number, task in enumerate(tasks)}
    return {
        numbers[task.part.before]: number
        for number, task in enumerate(tasks)
        if isinstance(task, ContextTask) and task.part.before is not None
    }


def _shared(start: int, busy: int, other: int) -> int:
    """End of a transfer that has half of memory's time until the ``other`` way is done."""
    return start + busy + min(busy, max(0, other - start))


def schedule(tasks: list[Task], config: Config, fill: float = 1.0) -> Schedule:
    """When every task runs; fill: share of the activation scratchpad that may be in use.

    Raises
    ------
    CompileError
        If the buffers of the source order do not fit.
    """
    made = schedule_below(math.inf, tasks, config, fill)
    assert made is not None
    return made


def schedule_below(
    limit: float, tasks: list[Task], config: Config, fill: float = 1.0
) -> Schedule | None:
    """The same; None if it takes ``limit`` cycles or more, which is often seen early.

    Raises
    ------
    CompileError
        If the buffers of the source order do not fit.
    """
    return _Scheduler(tasks, config, fill).run(limit)
