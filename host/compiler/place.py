"""Buffers to addresses: by their lifetimes, and apart from those that are read at the same time.

A bank of the activation scratchpad has one read port, and the operand that streams into the array
always wins it. So a buffer that another engine works on while the array streams belongs into
another bank than the one that streams.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from transept.golden.config import Config
from transept.golden.isa import Engine
from transept.host.compiler.errors import CompileError
from transept.host.compiler.memories import Users, buffers, capacities
from transept.host.compiler.stream import Step, TaskStep
from transept.host.compiler.tasks import Buffer, Use

__all__ = ["place"]

#: Cycles that words rest between two buffers, where all buffers together need no more than so many
#: times the memory.
SLACK, PLENTY = 400, 4


@dataclass
class _Life:
    """From a buffer's first user to its last: positions in the program, and cycles.

    Two buffers may share words only if one's users all stand before the other's in the program,
    which keeps the bits right, and are done when the other opens, which keeps engines from waiting;
    with ``slack``, so many cycles before, for nothing runs exactly when it should.
    """

    buffer: Buffer
    opener: Engine
    first: int
    last: int
    start: int
    users: Users

    def meets(self, other: _Life, slack: int) -> bool:
        early, late = (self, other) if self.first <= other.first else (other, self)
        return early.last >= late.first or early.users.until(late.opener) + slack > late.start


def place(program: list[Step], config: Config, reserve: int) -> None:
    """Set the address of every buffer; ``program``: in the order of the instructions.

    Raises
    ------
    CompileError
        If the buffers of a memory do not fit.
    """
    lives = _lives(program)
    conflicts = _conflicts(program)
    for memory, capacity in capacities(config, reserve).items():
        bounds = _banks(config) if memory == "act" else [0, capacity]
        _Memory(memory, capacity, bounds, conflicts).place(lives[memory])


def _banks(config: Config) -> list[int]:
    return [0, *np.cumsum(config.memories.act_banks).tolist()]


def _lives(program: list[Step]) -> dict[str, list[_Life]]:
    lives: dict[Buffer, _Life] = {}
    for position, step in enumerate(program):
        for slot in step.slots if isinstance(step, TaskStep) else ():
            engine = slot.task.engine
            for buffer in buffers(slot.task):
                if buffer not in lives:
                    lives[buffer] = _Life(buffer, engine, position, position, slot.start, Users())
                life = lives[buffer]
                life.last = position
                life.start = min(life.start, slot.start)
                life.users.add(engine, slot.end, slot.visible)
    found: dict[str, list[_Life]] = defaultdict(list)
    for life in lives.values():
        found[life.buffer.memory].append(life)
    return found


class _Conflicts:
    """Cycles for which the array streams some words while another engine reads others: of another
    buffer, or, by both ranges, of the same one."""

    def __init__(self) -> None:
        self.others: dict[Buffer, dict[Buffer, int]] = defaultdict(lambda: defaultdict(int))
        self.within: dict[Buffer, dict[tuple[range, range], int]] = defaultdict(
            lambda: defaultdict(int)
        )

    def add(self, stream: Use, read: Use, cycles: int) -> None:
        """The array streams one use while the other one is read."""
        if stream.buffer is read.buffer:
            ranges = _words(stream), _words(read)
            first, second = sorted(ranges, key=lambda words: words.start)
            if first.stop <= second.start:
                self.within[stream.buffer][ranges] += cycles
            return
        self.others[stream.buffer][read.buffer] += cycles
        self.others[read.buffer][stream.buffer] += cycles


def _words(use: Use) -> range:
    return range(use.region.start, use.region.stop)


def _conflicts(program: list[Step]) -> _Conflicts:
    """Of a program, in the order of its instructions."""
    steps = (step for step in program if isinstance(step, TaskStep) and step.block == 0)
    slots = [slot for step in steps for slot in step.slots]
    streams = sorted(
        (slot for slot in slots if slot.task.engine == Engine.GEMM), key=lambda slot: slot.start
    )
    found = _Conflicts()
    starts = [slot.start for slot in streams]
    for slot in slots:
        if slot.task.engine in (Engine.GEMM, Engine.LOAD):
            continue
        at = int(np.searchsorted(starts, slot.start, side="right")) - 1
        for stream in streams[max(0, at) : int(np.searchsorted(starts, slot.end))]:
            overlap = min(stream.end, slot.end) - max(stream.start, slot.start)
            if overlap <= 0:
                continue
            operand = next(use for use in stream.task.reads if use.buffer.memory == "act")
            for use in slot.task.reads:
                if use.buffer.memory == "act":
                    found.add(operand, use, overlap)
    return found


class _Memory:
    """One memory; ``bounds``: where its banks begin and end."""

    def __init__(
        self,
        name: str,
        capacity: int,
        bounds: list[int],
        conflicts: _Conflicts,
    ) -> None:
        self._name, self._capacity, self._bounds = name, capacity, bounds
        self._conflicts = conflicts
        self._placed: list[_Life] = []
        self._across = False

    def place(self, lives: list[_Life]) -> None:
        """Each where it disturbs least: the largest first; if they do not fit so, those with the
        most words times cycles first; then in the order of the program. At first nothing lies where
        something else has just been, and buffers may lie across the end of a bank to keep their own
        parts apart, which leaves gaps."""
        plenty = sum(life.buffer.words for life in lives) <= PLENTY * self._capacity
        orders = (
            (lambda life: (-life.buffer.words, life.first), SLACK * plenty, True),
            (lambda life: (-life.buffer.words, life.first), SLACK * plenty, False),
            (lambda life: (-life.buffer.words, life.first), 0, False),
            (
                lambda life: (-life.buffer.words * (life.users.done - life.start), life.first),
                *(0, False),
            ),
            (lambda life: (life.first, -life.buffer.words), 0, False),
        )
        failure: CompileError | None = None
        for order, slack, self._across in orders:
            if self._across and not any(self._conflicts.within.get(x.buffer) for x in lives):
                continue
            try:
                return self._try(sorted(lives, key=order), slack)
            except CompileError as error:
                failure = failure or error
        assert failure is not None
        raise failure

    def _try(self, lives: list[_Life], slack: int) -> None:
        self._placed = []
        for life in lives:
            life.buffer.addr = -1
        for life in lives:
            self._place(life, slack)
            self._placed.append(life)

    def _place(self, life: _Life, slack: int) -> None:
        buffer = life.buffer
        around = [other.buffer for other in self._placed if other.meets(life, slack)]
        best: tuple[int, int] | None = None
        for addr in self._candidates(buffer, around):
            stop = addr + buffer.words
            if addr < 0 or stop > self._capacity:
                continue
            if any(addr < o.addr + o.words and o.addr < stop for o in around):
                continue
            cost = self._cost(buffer, addr)
            if best is None or (cost, addr) < best:
                best = cost, addr
            if not cost:
                break
        if best is None:
            raise CompileError(
                f"{buffer.name} needs {buffer.words} {self._name} words, "
                f"no {buffer.words} of {self._capacity} are free together"
            )
        buffer.addr = best[1]

    def _candidates(self, buffer: Buffer, around: list[Buffer]) -> list[int]:
        """Behind and before what lies there, and at both ends of every bank."""
        ends = [*self._bounds, *(o.addr + o.words for o in around)]
        if self._across:
            parts = {part.start for pair in self._within(buffer) for part in pair}
            ends += [bound - part for bound in self._bounds for part in parts]
        starts = [bound - buffer.words for bound in (*self._bounds, *(o.addr for o in around))]
        align = buffer.align
        return sorted({-(-at // align) * align for at in (*ends, *starts)})

    def _cost(self, buffer: Buffer, addr: int) -> int:
        """Cycles in which it shares a bank with what streams while it is read, or the reverse."""
        mine = self._banks_of(addr, buffer.words)
        others = sum(
            cycles
            for other, cycles in self._conflicts.others[buffer].items()
            if other.addr >= 0 and mine & self._banks_of(other.addr, other.words)
        )
        if not self._across:
            return others
        return others + sum(
            cycles
            for (stream, read), cycles in self._within(buffer).items()
            if self._banks_of(addr + stream.start, len(stream))
            & self._banks_of(addr + read.start, len(read))
        )

    def _within(self, buffer: Buffer) -> Mapping[tuple[range, range], int]:
        return self._conflicts.within.get(buffer, {})

    def _banks_of(self, addr: int, words: int) -> set[int]:
        first = int(np.searchsorted(self._bounds, addr, side="right")) - 1
        last = int(np.searchsorted(self._bounds, addr + words - 1, side="right")) - 1
        return set(range(first, last + 1))
