"""Program order and dependency tokens: instructions in, a synchronised program out.

An emitter says what each instruction reads and writes; the assembly finds the hazards and turns
them into the fewest tokens. Engines run in order, so a token from the last of several producers on
one engine covers the earlier ones, and what an engine already knows to be complete is never waited
for again (vector clocks, Fidge 1988, Mattern 1989).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from transept.golden.isa import Engine, Instruction, Opcode

__all__ = ["Assembly", "Region"]


class Region(NamedTuple):
    """Words ``start`` to ``stop - 1`` of one memory (on chip, or a DRAM window in bytes).

    With ``stride``: of these only ``width`` words in every ``stride``, from ``start`` on, as a
    column of a row-major matrix has them.
    """

    memory: str
    start: int
    stop: int
    stride: int = 0
    width: int = 0

    def overlaps(self, other: Region) -> bool:
        """True if both may share a word of the same memory (exact for equal strides)."""
        if self.start >= other.stop or other.start >= self.stop:
            return False
        if not self.stride or self.stride != other.stride:
            return True
        distance = (other.start - self.start) % self.stride
        return distance < self.width or self.stride - distance < other.width

    def covers(self, other: Region) -> bool:
        """True if every word of ``other`` surely lies in this region."""
        inside = self.start <= other.start and other.stop <= self.stop
        return inside and (not self.stride or self == other)


#: The last instruction that touches each region, the latest region last.
_Latest = dict[Region, int]


@dataclass
class _Entry:
    opcode: Opcode
    engine: Engine
    operands: dict[str, int]
    label: str
    wait: set[Engine] = field(default_factory=set)
    signal: set[Engine] = field(default_factory=set)


class Assembly:
    """A growing program. ``labels`` names the layer of each instruction, for reports."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        #: per memory, engine and way (True: writes)
        self._accesses: dict[str, dict[tuple[Engine, bool], _Latest]] = defaultdict(
            lambda: defaultdict(dict)
        )
        #: per engine: the last instruction of every engine known complete before its next start
        self._known: dict[Engine, dict[Engine, int]] = {engine: {} for engine in Engine}
        self._complete: list[dict[Engine, int]] = []  # the same for each instruction's end

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def labels(self) -> list[str]:
        """One label for each instruction, END included."""
        return [entry.label for entry in self._entries] + ["end"]

    def emit(
        self,
        engine: Engine,
        opcode: Opcode,
        label: str,
        operands: Mapping[str, int],
        *,
        reads: Iterable[Region] = (),
        writes: Iterable[Region] = (),
    ) -> int:
        """Append one instruction after everything it depends on; returns its index."""
        index = len(self._entries)
        entry = _Entry(opcode, engine, dict(operands), label)
        reads, writes = list(reads), list(writes)
        for producer, last in self._producers(engine, reads, writes):
            self._wait_for(entry, producer, last)
        self._entries.append(entry)
        self._complete.append(self._known[engine] | {engine: index})
        self._record(index, engine, reads, writes)
        return index

    def _producers(
        self, engine: Engine, reads: list[Region], writes: list[Region]
    ) -> list[tuple[Engine, int]]:
        """The instructions that must be complete first: at most the last one of each engine.

        Within one engine only read-after-write needs a token: reads are issued in order, and
        writes land in order. What is known to be complete is not looked at.
        """
        known = self._known[engine]
        last: dict[Engine, int] = {}
        for regions, is_write in ((reads, False), (writes, True)):
            for region in regions:
                for (other, write), latest in self._accesses[region.memory].items():
                    if not (write or is_write):
                        continue
                    if other == engine and (is_write or engine == Engine.LOAD):
                        continue
                    after = max(last.get(other, -1), known.get(other, -1))
                    index = _last_overlap(region, latest, after)
                    if index > after:
                        last[other] = index
        return sorted(last.items(), key=lambda found: -found[1])

    def _wait_for(self, entry: _Entry, producer: Engine, last: int) -> None:
        known = self._known[entry.engine]
        if known.get(producer, -1) >= last:
            return
        entry.wait.add(producer)
        self._entries[last].signal.add(entry.engine)
        for engine, index in self._complete[last].items():
            known[engine] = max(known.get(engine, -1), index)

    def _record(
        self, index: int, engine: Engine, reads: list[Region], writes: list[Region]
    ) -> None:
        for region in writes:
            for latest in self._accesses[region.memory].values():
                _forget(region, latest)
        for regions, write in ((reads, False), (writes, True)):
            for region in regions:
                latest = self._accesses[region.memory][engine, write]
                latest.pop(region, None)
                latest[region] = index

    def program(self) -> list[Instruction]:
        """Every instruction with its tokens, END last."""
        body = [
            Instruction(
                entry.opcode, entry.operands, frozenset(entry.wait), frozenset(entry.signal)
            )
            for entry in self._entries
        ]
        return [*body, Instruction(Opcode.END, {})]


def _last_overlap(region: Region, latest: _Latest, after: int) -> int:
    """The last instruction behind ``after`` that shares a word with the region, else ``after``."""
    for other, index in reversed(latest.items()):
        if index <= after:
            break
        if region.overlaps(other):
            return index
    return after


def _forget(region: Region, latest: _Latest) -> None:
    """Leave out what the region covers."""
    if region.stride:
        latest.pop(region, None)
        return
    for other in [other for other in latest if region.covers(other)]:
        del latest[other]
