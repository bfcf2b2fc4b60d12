"""One stream of instructions from the streams of the engines, in the order that dispatch wants."""

from __future__ import annotations

from bisect import bisect_left

from transept.golden.isa import Engine
from transept.host.compiler.order import Schedule, Slot
from transept.host.compiler.tasks import Product, Task

__all__ = ["Group", "program_order"]

#: Tasks whose instructions are emitted together: one, or products that share their weights.
Group = list[Slot]


def program_order(schedule: Schedule, tasks: list[Task]) -> list[Group]:
    """The tasks in the order of their instructions.

    By start, so that dispatch, which runs ahead of every engine by its queue, meets each task before
    its engine is free. A load stands before the product whose weights LOAD brings after it. Nothing
    stands before what it depends on, and every engine keeps its own order.
    """
    return _Merge(schedule, tasks).run()


class _Merge:
    def __init__(self, schedule: Schedule, tasks: list[Task]) -> None:
        self._groups: list[Group] = []
        for slot in schedule.slots:
            if slot.shares:
                self._group_of_last_product().append(slot)
            else:
                self._groups.append([slot])
        self._group = {slot.task: i for i, group in enumerate(self._groups) for slot in group}
        self._before: list[set[int]] = [set() for _ in self._groups]
        for task, dependences in zip(tasks, schedule.before, strict=True):
            mine = self._group[task]
            self._before[mine] |= {self._group[tasks[d.task]] for d in dependences} - {mine}
        last: dict[Engine, int] = {}
        for index, group in enumerate(self._groups):
            engine = group[0].task.engine
            if engine in last:
                self._before[index].add(last[engine])
            last[engine] = index

    def _group_of_last_product(self) -> Group:
        return next(g for g in reversed(self._groups) if g[0].task.engine == Engine.GEMM)

    def run(self) -> list[Group]:
        ordered: list[Group] = []
        done: set[int] = set()
        keys = self._keys()
        for first in sorted(range(len(self._groups)), key=lambda index: (keys[index], index)):
            stack = [first]
            while stack:
                missing = self._before[stack[-1]] - done
                if missing:
                    stack += sorted(missing, reverse=True)
                    continue
                index = stack.pop()
                if index not in done:
                    done.add(index)
                    ordered.append(self._groups[index])
        return ordered

    def _keys(self) -> list[float]:
        """The time by which each group is sorted."""
        first = [group[0] for group in self._groups]
        streamed = [s for s in first if isinstance(s.task, Product) and s.task.resident is None]
        loads = [slot.load for slot in streamed]
        keys = []
        for slot in first:
            at = float(slot.start)
            if slot.task.engine == Engine.LOAD:
                following = bisect_left(loads, slot.start)
                at = streamed[following].start - 0.5 if following < len(streamed) else at
            keys.append(at)
        return keys
