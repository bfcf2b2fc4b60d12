"""How much of each on-chip memory is in use while tasks are ordered."""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict

from transept.golden.config import Config
from transept.golden.layouts import RECORD_BYTES, table_words
from transept.host.compiler.tasks import Buffer, Ring, Task

__all__ = ["Occupancy", "capacities", "stationary_reserve"]


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


def buffers(task: Task) -> set[Buffer]:
    """Every buffer that the task touches."""
    return {use.buffer for use in (*task.reads, *task.writes)}


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


class Occupancy:
    """Words of every memory in use over time; a buffer is in use from its first task to the last."""

    def __init__(self, tasks: list[Task], config: Config, reserve: int) -> None:
        self._capacity = capacities(config, reserve)
        self._buffers = [buffers(task) for task in tasks]
        self._left = Counter(buffer for used in self._buffers for buffer in used)
        self._open: set[Buffer] = set()
        self._used: Counter[str] = Counter()  # of buffers whose end is not known yet
        self._until: dict[Buffer, int] = {}
        self._ends: dict[str, list[tuple[int, int]]] = defaultdict(list)  # (end, words), sorted

    def room(self, index: int, start: int) -> int | None:
        """When, not before ``start``, all that the task opens fits; None: not before others end."""
        needs: Counter[str] = Counter()
        for buffer in self._buffers[index]:
            if buffer not in self._open:
                needs[buffer.memory] += buffer.words
        for memory, words in needs.items():
            found = self._when(memory, words, start)
            if found is None:
                return None
            start = max(start, found)
        return start

    def _when(self, memory: str, words: int, start: int) -> int | None:
        ends = self._ends[memory]
        later = ends[bisect.bisect_right(ends, (start, words + self._capacity[memory])) :]
        free = self._capacity[memory] - self._used[memory] - words
        free -= sum(held for _, held in later)
        if free >= 0:
            return start
        for end, held in later:
            free += held
            if free >= 0:
                return end
        return None

    def take(self, index: int, visible: int) -> None:
        """The task runs and its result is visible then."""
        for buffer in self._buffers[index]:
            if buffer not in self._open:
                self._open.add(buffer)
                self._used[buffer.memory] += buffer.words
            self._until[buffer] = max(self._until.get(buffer, 0), visible)
            self._left[buffer] -= 1
            if not self._left[buffer]:
                self._used[buffer.memory] -= buffer.words
                end = (self._until[buffer], buffer.words)
                bisect.insort(self._ends[buffer.memory], end)
