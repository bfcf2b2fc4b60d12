"""Buffers to addresses: by their lifetimes, and apart from those that are read at the same time.

A bank of the activation scratchpad has one read port, and the operand that streams into the array
always wins it. So a buffer that another engine works on while the array streams belongs into another
bank than the one that streams.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from transept.golden.config import Config
from transept.golden.isa import Engine
from transept.host.compiler.errors import CompileError
from transept.host.compiler.memories import buffers, capacities
from transept.host.compiler.order import Slot
from transept.host.compiler.stream import Group
from transept.host.compiler.tasks import Buffer

__all__ = ["place"]


@dataclass
class _Life:
    buffer: Buffer
    first: int  # position in the program of its first and its last user
    last: int

    def meets(self, other: _Life) -> bool:
        return self.first <= other.last and other.first <= self.last


def place(program: list[Group], config: Config, reserve: int) -> None:
    """Set the address of every buffer; ``program``: in the order of the instructions.

    Raises
    ------
    CompileError
        If the buffers of a memory do not fit.
    """
    lives = _lives(program)
    conflicts = _conflicts([slot for group in program for slot in group])
    for memory, capacity in capacities(config, reserve).items():
        bounds = _banks(config) if memory == "act" else [0, capacity]
        _Memory(memory, capacity, bounds, conflicts).place(lives[memory])


def _banks(config: Config) -> list[int]:
    return [0, *np.cumsum(config.memories.act_banks).tolist()]


def _lives(program: list[Group]) -> dict[str, list[_Life]]:
    lives: dict[Buffer, _Life] = {}
    for position, group in enumerate(program):
        for buffer in dict.fromkeys(buffer for slot in group for buffer in buffers(slot.task)):
            life = lives.setdefault(buffer, _Life(buffer, position, position))
            life.last = position
    found: dict[str, list[_Life]] = defaultdict(list)
    for life in lives.values():
        found[life.buffer.memory].append(life)
    return found


def _conflicts(program: list[Slot]) -> dict[Buffer, dict[Buffer, int]]:
    """Cycles for which the array streams one buffer while another engine reads another."""
    streams = sorted(
        (slot for slot in program if slot.task.engine == Engine.GEMM), key=lambda s: s.start
    )
    found: dict[Buffer, dict[Buffer, int]] = defaultdict(lambda: defaultdict(int))
    starts = [slot.start for slot in streams]
    for slot in program:
        if slot.task.engine in (Engine.GEMM, Engine.LOAD):
            continue
        at = int(np.searchsorted(starts, slot.start, side="right")) - 1
        for stream in streams[max(0, at) :]:
            if stream.start >= slot.end:
                break
            overlap = min(stream.end, slot.end) - max(stream.start, slot.start)
            if overlap <= 0:
                continue
            operand = next(u.buffer for u in stream.task.reads if u.buffer.memory == "act")
            for use in slot.task.reads:
                if use.buffer.memory == "act" and use.buffer is not operand:
                    found[operand][use.buffer] += overlap
                    found[use.buffer][operand] += overlap
    return found


class _Memory:
    """One memory; ``bounds``: where its banks begin and end."""

    def __init__(
        self,
        name: str,
        capacity: int,
        bounds: list[int],
        conflicts: dict[Buffer, dict[Buffer, int]],
    ) -> None:
        self._name, self._capacity, self._bounds = name, capacity, bounds
        self._conflicts = conflicts
        self._placed: list[_Life] = []

    def place(self, lives: list[_Life]) -> None:
        """The largest and longest lived first, each where it disturbs least."""
        for life in sorted(lives, key=lambda l: (-l.buffer.words, l.first)):
            self._place(life)
            self._placed.append(life)

    def _place(self, life: _Life) -> None:
        buffer = life.buffer
        around = [other.buffer for other in self._placed if other.meets(life)]
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
        starts = [bound - buffer.words for bound in (*self._bounds, *(o.addr for o in around))]
        align = buffer.align
        return sorted({-(-at // align) * align for at in (*ends, *starts)})

    def _cost(self, buffer: Buffer, addr: int) -> int:
        """Cycles in which it shares a bank with what streams while it is read, or the reverse."""
        mine = self._banks_of(addr, buffer.words)
        return sum(
            cycles
            for other, cycles in self._conflicts[buffer].items()
            if other.addr >= 0 and mine & self._banks_of(other.addr, other.words)
        )

    def _banks_of(self, addr: int, words: int) -> set[int]:
        first = int(np.searchsorted(self._bounds, addr, side="right")) - 1
        last = int(np.searchsorted(self._bounds, addr + words - 1, side="right")) - 1
        return set(range(first, last + 1))
