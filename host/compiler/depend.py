"""What a task must wait for, whatever the order: who reads what it overwrites, who writes what it
reads, and whose turn of a ring comes first."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from transept.golden.isa import Engine
from transept.host.compiler.hazards import Region
from transept.host.compiler.tasks import Buffer, Task

__all__ = ["Dependence", "dependences"]


class Dependence(NamedTuple):
    """An earlier task; ``complete``: its result must be visible, else the order alone matters;
    ``data``: it is read, and not only overwritten."""

    task: int
    complete: bool
    data: bool


class _Access(NamedTuple):
    region: Region
    task: int
    engine: Engine
    write: bool


class _Analysis:
    def __init__(self, tasks: list[Task]) -> None:
        self._tasks = tasks
        self._accesses: dict[object, list[_Access]] = defaultdict(list)
        self._users: dict[Buffer, list[int]] = defaultdict(list)

    def run(self) -> list[list[Dependence]]:
        return [self._of(index) for index in range(len(self._tasks))]

    def _of(self, index: int) -> list[Dependence]:
        task = self._tasks[index]
        reads: list[tuple[object, Region]] = [(use.buffer, use.region) for use in task.reads]
        reads += [(region.memory, region) for region in task.dram_reads]
        writes: list[tuple[object, Region]] = [(use.buffer, use.region) for use in task.writes]
        writes += [(region.memory, region) for region in task.dram_writes]
        found: dict[int, tuple[bool, bool]] = {}
        for places, is_write in ((reads, False), (writes, True)):
            for place, region in places:
                self._conflicts(index, found, place, region, is_write)
        for use in (*task.reads, *task.writes):
            if not self._users[use.buffer]:
                self._turn(index, found, use.buffer)
            if index not in self._users[use.buffer][-1:]:
                self._users[use.buffer].append(index)
        for places, is_write in ((reads, False), (writes, True)):
            for place, region in places:
                self._record(index, place, region, is_write)
        return [Dependence(task, *kind) for task, kind in sorted(found.items())]

    def _conflicts(
        self,
        index: int,
        found: dict[int, tuple[bool, bool]],
        place: object,
        region: Region,
        is_write: bool,
    ) -> None:
        engine = self._tasks[index].engine
        for access in self._accesses[place]:
            if not (access.write or is_write) or not region.overlaps(access.region):
                continue
            # within one engine, reads and writes happen in order; what is written must be there
            data = access.write and not is_write
            _join(found, access.task, access.engine != engine or data, data)

    def _turn(self, index: int, found: dict[int, tuple[bool, bool]], buffer: Buffer) -> None:
        """The first use of a buffer comes after all uses of the one whose place it takes."""
        engine = self._tasks[index].engine
        ring = buffer.ring
        if ring is not None and buffer.turn >= ring.slots:
            for user in self._users[ring.buffers[buffer.turn - ring.slots]]:
                _join(found, user, self._tasks[user].engine != engine, data=False)

    def _record(self, index: int, place: object, region: Region, is_write: bool) -> None:
        accesses = self._accesses[place]
        if is_write:
            accesses[:] = [a for a in accesses if not region.covers(a.region)]
        accesses.append(_Access(region, index, self._tasks[index].engine, is_write))


def _join(found: dict[int, tuple[bool, bool]], task: int, complete: bool, data: bool) -> None:
    before = found.get(task, (False, False))
    found[task] = before[0] or complete, before[1] or data


def dependences(tasks: list[Task]) -> list[list[Dependence]]:
    """For each task, the earlier ones that it depends on."""
    return _Analysis(tasks).run()
