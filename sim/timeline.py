"""What each engine did when: a trace for Perfetto and sums for a table."""

from __future__ import annotations

import bisect
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transept.golden.isa import Engine
from transept.golden.registers import Stall

__all__ = [
    "ENGINE_BITS",
    "EngineSummary",
    "Slice",
    "last_run",
    "retirements",
    "slices",
    "summarise",
    "trace_events",
    "write_trace",
]

#: ``activity``: for each engine, from bit 0 on, one bit busy and three bits of stall code ...
ENGINE_BITS = 4
#: ... above them one bit that is high while the array computes ...
ARRAY_BIT = ENGINE_BITS * len(Engine)
#: ... and one bit for each engine that retires an instruction.
RETIRE_BIT = ARRAY_BIT + 1

ARRAY = "ARRAY"


@dataclass(frozen=True)
class Slice:
    """One stretch of cycles in which a track did not change.

    ``state`` is "busy" or the name of a stall; ``index`` counts the instructions of the engine: an
    engine works on, and waits for, the one that it retires next.
    """

    track: str
    state: str
    start: int
    stop: int
    index: int = 0


@dataclass(frozen=True)
class EngineSummary:
    """Cycles of one engine. ``stalled`` are part of ``busy``, except waits for tokens."""

    busy: int
    stalled: dict[str, int]
    total: int

    @property
    def utilisation(self) -> float:
        """Share of all cycles in which the engine advanced."""
        inside = sum(cycles for state, cycles in self.stalled.items() if state != "token")
        return (self.busy - inside) / self.total if self.total else 0.0


def _runs(codes: np.ndarray, cycles: np.ndarray, end: int) -> Iterator[tuple[int, int, int]]:
    """(code, start, stop) of equal neighbours."""
    heads = np.flatnonzero(np.diff(codes, prepend=~codes[:1]))
    stops = np.append(cycles[heads[1:]], end)
    return zip(codes[heads].tolist(), cycles[heads].tolist(), stops.tolist(), strict=True)


def _cut(start: int, stop: int, retired: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """(index of the instruction, start, stop) of a stretch, cut behind each retirement."""
    index = bisect.bisect_left(retired, start)
    while start < stop:
        end = min(stop, retired[index] + 1) if index < len(retired) else stop
        yield index, start, end
        start, index = end, index + 1


def last_run(changes: np.ndarray, cycles: int) -> np.ndarray:
    """The rows of the last of several runs, counted from its start.

    changes : rows of (cycle, activity), as ``NativeSimulation.timeline`` returns; the last is the
        end of the run
    cycles : which it took
    """
    begin = int(changes[-1, 0]) - cycles
    found = changes[changes[:, 0] >= begin]
    found[:, 0] -= np.uint64(begin)
    return found


def slices(changes: np.ndarray, end: int) -> list[Slice]:
    """Slices of all tracks, one after the other, without idle ones.

    Parameters
    ----------
    changes : rows of (cycle, activity), as ``NativeSimulation.timeline`` returns
    end : the cycle after the last
    """
    if not len(changes):
        return []
    cycles, values = changes[:, 0].astype(np.int64), changes[:, 1].astype(np.int64)
    found = []
    retired = retirements(changes)
    for engine in Engine:
        codes = values >> (ENGINE_BITS * engine) & (1 << ENGINE_BITS) - 1
        for code, start, stop in _runs(codes, cycles, end):
            busy, stall = code & 1, code >> 1
            if busy or stall:
                # an engine at work does not wait for the tokens of its next instruction
                advancing = stall == Stall.NONE or (busy and stall == Stall.TOKEN)
                state = "busy" if advancing else Stall(stall).name.lower()
                for index, first, last in _cut(start, stop, retired[engine]):
                    found.append(Slice(engine.name, state, first, last, index))
    for active, start, stop in _runs(values >> ARRAY_BIT & 1, cycles, end):
        if active:
            found.append(Slice(ARRAY, "busy", start, stop))
    return found


def summarise(changes: np.ndarray, end: int) -> dict[str, EngineSummary]:
    """Busy and stalled cycles of each engine and of the array, from the first change to ``end``."""
    total = end - int(changes[0, 0]) if len(changes) else 0
    tracks = [engine.name for engine in Engine] + [ARRAY]
    busy = dict.fromkeys(tracks, 0)
    stalled: dict[str, dict[str, int]] = {track: {} for track in tracks}
    for piece in slices(changes, end):
        length = piece.stop - piece.start
        if piece.state != "busy":
            sums = stalled[piece.track]
            sums[piece.state] = sums.get(piece.state, 0) + length
        if piece.state != "token":
            busy[piece.track] += length
    return {track: EngineSummary(busy[track], stalled[track], total) for track in tracks}


def trace_events(
    pieces: Sequence[Slice],
    *,
    clock_mhz: float,
    names: Mapping[str, Sequence[str]] | None = None,
    process: str = "accelerator",
) -> list[dict[str, object]]:
    """Events of the Chrome trace format, one thread for each track; times in microseconds.

    Each instruction is one event; inside it, or before it, lie the stalls.

    names: of the instructions of each engine, in order.
    """
    tracks = {track: n for n, track in enumerate(dict.fromkeys(p.track for p in pieces), 1)}
    events: list[dict[str, object]] = [
        {"ph": "M", "name": "process_name", "pid": 1, "args": {"name": process}}
    ]
    for track, thread in tracks.items():
        title = {"name": "thread_name", "args": {"name": track}}
        events.append({"ph": "M", "pid": 1, "tid": thread, **title})

    def event(
        track: str, name: str, category: str, start: int, stop: int, **facts: object
    ) -> dict[str, object]:
        times = {"ts": start / clock_mhz, "dur": (stop - start) / clock_mhz}
        where = {"ph": "X", "pid": 1, "tid": tracks[track], **times}
        cycles = {"cycle": start, "cycles": stop - start}
        return {**where, "name": name, "cat": category, "args": cycles | facts}

    for (track, index), parts in _by_instruction(pieces).items():
        known = (names or {}).get(track, ())
        name = known[index] if index < len(known) else f"instruction {index}"
        work = [part for part in parts if part.state != "token"]
        if work:
            events.append(event(track, name, "work", work[0].start, work[-1].stop))
        for part in parts:
            if part.state != "busy":
                why = f"waits: {part.state}"
                span = part.start, part.stop
                events.append(event(track, why, "stall", *span, instruction=name))
    array = [piece for piece in pieces if piece.track == ARRAY]
    return events + [event(ARRAY, "computes", "work", part.start, part.stop) for part in array]


def _by_instruction(pieces: Sequence[Slice]) -> dict[tuple[str, int], list[Slice]]:
    """The slices of each instruction of each engine."""
    found: dict[tuple[str, int], list[Slice]] = defaultdict(list)
    for piece in pieces:
        if piece.track != ARRAY:
            found[piece.track, piece.index].append(piece)
    return found


def write_trace(
    path: Path,
    changes: np.ndarray,
    end: int,
    *,
    clock_mhz: float,
    names: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Write a trace that ui.perfetto.dev and chrome://tracing open; parameters as above."""
    events = trace_events(slices(changes, end), clock_mhz=clock_mhz, names=names)
    path.write_text(json.dumps({"traceEvents": events, "displayTimeUnit": "ns"}))


def retirements(changes: np.ndarray) -> dict[Engine, list[int]]:
    """The cycles in which each engine retired an instruction.

    changes : rows of (cycle, activity), as ``NativeSimulation.timeline`` returns; two instructions
        that retire in neighbouring cycles are two.
    """
    found: dict[Engine, list[int]] = {engine: [] for engine in Engine}
    cycles, values = changes[:, 0].astype(np.int64), changes[:, 1].astype(np.int64)
    stops = np.append(cycles[1:], cycles[-1:] + 1)
    for engine in Engine:
        high = values >> (RETIRE_BIT + engine) & 1 == 1
        for start, stop in zip(cycles[high].tolist(), stops[high].tolist(), strict=True):
            found[engine] += range(start, stop)
    return found
