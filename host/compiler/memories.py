"""How much of each on-chip memory is in use while tasks are ordered."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np

from transept.golden.config import Config
from transept.golden.isa import Engine
from transept.golden.layouts import RECORD_BYTES, table_words
from transept.host.compiler.errors import CompileError
from transept.host.compiler.tasks import Buffer, Ring, Task

__all__ = ["Occupancy", "buffers", "capacities", "stationary_reserve"]


def capacities(config: Config, reserve: int) -> dict[str, int]:
    """Words (entries) of each memory that buffers may take; of the stationary one ``reserve``."""
    return {
        "act": config.act_words,
        "stat": reserve,
        "rowstat": config.memories.rowstat_entries,
        "select": config.query_blocks,
        "vparam": config.geometry.max_hidden * RECORD_BYTES // config.tile,
        "table": table_words(config.tile),
    }


def buffers(task: Task) -> list[Buffer]:
    """Every buffer that the task touches, once."""
    return list(dict.fromkeys(use.buffer for use in (*task.reads, *task.writes)))


def stationary_reserve(tasks: list[Task]) -> int:
    """Words of the stationary scratchpad for everything but streamed weights: all slots of every
    ring, and what is in no ring."""
    rings: dict[Ring, int] = defaultdict(int)
    counts: Counter[Ring] = Counter()
    alone = 0
    for buffer in dict.fromkeys(b for task in tasks for b in buffers(task) if b.memory == "stat"):
        words = -(-buffer.words // buffer.align) * buffer.align
        if buffer.ring is None:
            alone += words
        else:
            rings[buffer.ring] = max(rings[buffer.ring], words)
            counts[buffer.ring] += 1
    return alone + sum(min(ring.slots, counts[ring]) * words for ring, words in rings.items())


class Users:
    """Until when each engine works on a buffer, and until its results are visible."""

    def __init__(self) -> None:
        self._last: dict[Engine, tuple[int, int]] = {}

    def add(self, engine: Engine, end: int, visible: int) -> None:
        """One more task."""
        before = self._last.get(engine, (end, visible))
        self._last[engine] = max(before[0], end), max(before[1], visible)

    def until(self, engine: Engine) -> int:
        """When ``engine`` may write to the same place: what it did itself comes first anyway."""
        return max(end if user == engine else done for user, (end, done) in self._last.items())

    @property
    def done(self) -> int:
        """When nothing at all is left."""
        return max(done for _, done in self._last.values())


@dataclass
class _Memory:
    capacity: int
    opened: int = 0  # words of buffers in use
    ahead: int = 0  # of these, words of buffers that the source order opens later
    closed: list[tuple[int, Users]] = field(default_factory=list)  # words that were in use
    leaving: int = 0  # all of them


class Occupancy:
    """Words of every memory in use over time; a buffer is in use from its first task to its last.

    A task may open buffers ahead of the source order only if all tasks up to it could still run in
    that order: so the earliest task that is left can always run (Dijkstra's banker).

    Raises
    ------
    CompileError
        If the buffers of the source order do not fit.
    """

    def __init__(self, tasks: list[Task], config: Config, reserve: int, fill: float) -> None:
        self._tasks = tasks
        self._buffers = [buffers(task) for task in tasks]
        self._users = Counter(buffer for used in self._buffers for buffer in used)
        self._first: dict[Buffer, int] = {}
        last: dict[Buffer, int] = {}
        for index, used in enumerate(self._buffers):
            for buffer in used:
                self._first.setdefault(buffer, index)
                last[buffer] = index
        self._memories = {
            name: _Memory(capacity) for name, capacity in capacities(config, reserve).items()
        }
        self._memories["act"].capacity = int(fill * config.act_words)
        self._profile = self._in_source_order(last)
        for name, memory in self._memories.items():
            most = int(self._profile[name].max(initial=0))
            if most > memory.capacity:
                raise CompileError(
                    f"{tasks[int(self._profile[name].argmax())].label} needs {most} {name} words, "
                    f"{memory.capacity} of {config.name} may be used"
                )
        self._open: dict[Buffer, Users] = {}
        self._opens = [list(used) for used in self._buffers]  # what no task has opened yet
        self._tasks_of: dict[Buffer, list[int]] = defaultdict(list)
        for index, used in enumerate(self._buffers):
            for buffer in used:
                self._tasks_of[buffer].append(index)
        self._oldest = 0
        self._done = [False] * len(tasks)

    def _in_source_order(self, last: dict[Buffer, int]) -> dict[str, np.ndarray]:
        """Words in use at each task if they ran one after the other."""
        changes = {name: np.zeros(len(self._tasks) + 1, np.int64) for name in self._memories}
        for buffer, first in self._first.items():
            changes[buffer.memory][first] += buffer.words
            changes[buffer.memory][last[buffer] + 1] -= buffer.words
        return {name: change[:-1].cumsum() for name, change in changes.items()}

    def room(self, index: int, start: int) -> int | None:
        """When, not before ``start``, all that the task opens fits; None: not before others end."""
        if not self._opens[index]:
            return start
        needs: dict[str, int] = {}
        for buffer in self._opens[index]:
            needs[buffer.memory] = needs.get(buffer.memory, 0) + buffer.words
        engine = self._tasks[index].engine
        for name, words in needs.items():
            memory = self._memories[name]
            if index > self._oldest:
                most = int(self._profile[name][self._oldest : index].max())
                if memory.ahead + words + most > memory.capacity:
                    return None
            found = self._when(memory, words, start, engine)
            if found is None:
                return None
            start = max(start, found)
        return start

    @staticmethod
    def _when(memory: _Memory, words: int, start: int, engine: Engine) -> int | None:
        free = memory.capacity - memory.opened - words
        if free < 0:
            return None
        if free >= memory.leaving:
            return start
        ends = [(users.until(engine), held) for held, users in memory.closed]
        later = [(end, held) for end, held in ends if end > start]
        free -= sum(held for _, held in later)
        if free >= 0:
            return start
        for end, held in sorted(later):
            free += held
            if free >= 0:
                return end
        return None

    def take(self, index: int, end: int, visible: int, now: int) -> None:
        """The task's engine works until ``end``, its result is visible then; no task to come starts
        before ``now``."""
        engine = self._tasks[index].engine
        for buffer in self._buffers[index]:
            memory = self._memories[buffer.memory]
            if buffer not in self._open:
                self._open[buffer] = Users()
                for user in self._tasks_of[buffer]:
                    self._opens[user].remove(buffer)
                memory.opened += buffer.words
                memory.ahead += buffer.words * (self._first[buffer] > self._oldest)
            users = self._open[buffer]
            users.add(engine, end, visible)
            self._users[buffer] -= 1
            if not self._users[buffer]:
                memory.opened -= buffer.words
                memory.ahead -= buffer.words * (self._first[buffer] > self._oldest)
                memory.closed = [held for held in memory.closed if held[1].done > now]
                memory.closed.append((buffer.words, users))
                memory.leaving = sum(words for words, _ in memory.closed)
        self._advance(index)

    def _advance(self, index: int) -> None:
        """Move on to the earliest task that is left."""
        self._done[index] = True
        while self._oldest < len(self._done) and self._done[self._oldest]:
            self._oldest += 1
            if self._oldest == len(self._done):
                return
            for buffer in self._buffers[self._oldest]:
                mine = self._first[buffer] == self._oldest and self._users[buffer]
                if mine and buffer in self._open:
                    self._memories[buffer.memory].ahead -= buffer.words
