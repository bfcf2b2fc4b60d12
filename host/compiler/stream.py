"""One stream of instructions from the streams of the engines, in the order that dispatch wants."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from transept.golden.isa import Engine
from transept.host.compiler.order import Schedule, Slot
from transept.host.compiler.tasks import Product, Task

__all__ = ["LoadStep", "Step", "TaskStep", "program_order"]


@dataclass(eq=False)
class TaskStep:
    """The instructions of one task. Of products that share their weights, ``slots`` are all: they
    take turns block by block, this step is block ``block`` of each."""

    slots: tuple[Slot, ...]
    block: int


@dataclass(eq=False)
class LoadStep:
    """The load of one block of weights; ``step``: what uses it."""

    step: TaskStep


Step = TaskStep | LoadStep


def program_order(schedule: Schedule, tasks: list[Task]) -> list[Step]:
    """The steps in the order of their instructions.

    By start, so that dispatch, which runs ahead of every engine by its queue, meets each one before
    its engine is free. Nothing stands before what it depends on, and every engine keeps its order.
    """
    return _Merge(schedule, tasks).run()


class _Merge:
    def __init__(self, schedule: Schedule, tasks: list[Task]) -> None:
        self._steps: list[Step] = []
        self._times: list[int] = []
        self._before: list[set[int]] = []
        self._first: dict[Task, int] = {}  # first and last step of a task
        self._last: dict[Task, int] = {}
        loads: list[tuple[int, int]] = []  # (time, step) of everything that LOAD does
        for group in _groups(schedule.slots):
            self._add(group, loads)
        self._depend(schedule, tasks)
        self._keep_order(loads)

    def _add(self, group: tuple[Slot, ...], loads: list[tuple[int, int]]) -> None:
        """The steps of a task, or of products that share their weights."""
        head = group[0]
        blocks = len(head.streamed) or 1
        for block in range(blocks):
            step = TaskStep(group, block)
            if head.streamed:
                loads.append((head.streamed[block].load, len(self._steps)))
                self._append(LoadStep(step), head.streamed[block].load)
                start = head.streamed[block].start
            else:
                start = head.start
            index = self._append(step, start)
            for slot in group:
                self._first.setdefault(slot.task, index)
                self._last[slot.task] = index
        if head.task.engine == Engine.LOAD:
            loads.append((head.start, self._first[head.task]))

    def _append(self, step: Step, time: int) -> int:
        self._steps.append(step)
        self._times.append(time)
        self._before.append(set())
        return len(self._steps) - 1

    def _depend(self, schedule: Schedule, tasks: list[Task]) -> None:
        for task, dependences in zip(tasks, schedule.before, strict=True):
            first = self._first[task]
            for dependence in dependences:
                before = self._last[tasks[dependence.task]]
                if self._first[tasks[dependence.task]] != first:
                    self._before[first].add(before)

    def _keep_order(self, loads: list[tuple[int, int]]) -> None:
        """Each step behind the one before it of the same engine."""
        orders: dict[Engine, list[int]] = {engine: [] for engine in Engine}
        for index, step in enumerate(self._steps):
            if isinstance(step, TaskStep) and step.slots[0].task.engine != Engine.LOAD:
                orders[step.slots[0].task.engine].append(index)
        orders[Engine.LOAD] = [index for _, index in sorted(loads)]
        for order in orders.values():
            for earlier, later in itertools.pairwise(order):
                self._before[later].add(earlier)
        for index, step in enumerate(self._steps):
            if isinstance(step, LoadStep):
                self._before[index + 1].add(index)

    def run(self) -> list[Step]:
        ordered: list[Step] = []
        done: set[int] = set()
        for first in sorted(range(len(self._steps)), key=lambda i: (self._times[i], i)):
            stack = [first]
            while stack:
                missing = self._before[stack[-1]] - done
                if missing:
                    stack += sorted(missing, reverse=True)
                    continue
                index = stack.pop()
                if index not in done:
                    done.add(index)
                    ordered.append(self._steps[index])
        return ordered


def _groups(slots: list[Slot]) -> list[tuple[Slot, ...]]:
    """Tasks in the order in which they were taken, products that share their weights together."""
    groups: list[list[Slot]] = []
    product: list[Slot] = []
    for slot in slots:
        if slot.shares:
            product.append(slot)
            continue
        groups.append([slot])
        if isinstance(slot.task, Product):
            product = groups[-1]
    return [tuple(group) for group in groups]
