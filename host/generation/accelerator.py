"""Sequences on an accelerator: pages for keys and values, the vocabulary projection beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from transept.host.compiler.executable import Executable
from transept.host.devices.catalogue import BOARD, open_device
from transept.host.generation.decoder import Cost, Growth
from transept.host.language.program import LanguageProgram
from transept.host.runtime.driver import Driver, RunReport
from transept.host.runtime.paged import PagedRegion, PagedSequence, page_bytes
from transept.host.runtime.verify import check_executable

__all__ = ["PagedDecoder"]

#: New rows and sequences that programs are compiled for; what lies between takes the next one. Of
#: more rows the activations of a layer fill the scratchpad, so that weights are loaded more often.
ROWS, SEQUENCES = (1, 2, 4, 8, 16, 32, 64), (1, 2, 4, 8, 16)
#: Rows of all sequences of a step that cost hardly more than one.
TILE_ROWS = 16
#: Rows that the vocabulary projection takes at once.
HEAD_ROWS = (1, 16)
#: Programs have room for a multiple of so many pages; those of more rows, for which every key
#: costs as much as for all of a tile, for a multiple of fewer.
ROOM_PAGES, ROOM_PAGES_OF_ROWS = 16, 8
#: Device memory for programs, inputs and outputs.
SPARE = 64 << 20


class PagedDecoder:
    """Up to sixteen sequences in one step (``host.generation.decoder``).

    pages: for all sequences together, of sixteen rows each.

    Raises
    ------
    DeviceError
        If the device does not answer as it should.
    OutOfMemoryError
        If its memory is too small for weights and pages.
    """

    def __init__(
        self, program: LanguageProgram, device: str, *, pages: int, **options: Any
    ) -> None:
        self._program = program
        layers, self._head = program.decoder, program.projection
        pages += SEQUENCES[-1]  # for sequences that fill up a step
        if device != BOARD:
            weights = layers.weights.size + self._head.weights.size
            size = weights + pages * page_bytes(layers.graph, program.config) + SPARE
            options = {"dram_bytes": size} | options
        self._driver = Driver(open_device(device, program.config, **options))
        self._paged = PagedRegion(layers, self._driver, pages)
        self._loaded = self._driver.load(self._head)
        self._idle = [PagedSequence() for _ in range(SEQUENCES[-1])]
        for sequence in self._idle:
            self._paged.reserve(sequence, 1)
        self._verified: set[Executable] = set()
        self._out, self._in = program.head.outputs[0], program.head.inputs[0]

    @property
    def free_pages(self) -> int:
        """Pages that no sequence has."""
        return self._paged.free_pages

    @property
    def paged(self) -> PagedRegion:
        """The layers."""
        return self._paged

    def together(self, rows: int) -> int:
        """Sequences of one step with so many new tokens each: rows of a tile of the array cost
        like one."""
        return max(1, TILE_ROWS // _next(ROWS, rows))

    def start(self) -> PagedSequence:
        """A sequence without tokens."""
        return PagedSequence()

    def fork(self, sequence: PagedSequence, length: int) -> PagedSequence:
        """Another sequence with the same first tokens, in the same pages."""
        return self._paged.fork(sequence, length)

    def truncate(self, sequence: PagedSequence, length: int) -> None:
        """Forget the tokens behind the first ``length``."""
        self._paged.truncate(sequence, length)

    def release(self, sequence: PagedSequence) -> None:
        """The sequence has ended."""
        self._paged.release(sequence)

    def parts(self, count: int) -> list[int]:
        """So many new tokens of a sequence in parts that ``step`` takes: up to a tile of the array
        costs like one token, and padding of more than that costs as much as tokens do."""
        parts = []
        while count > TILE_ROWS:
            parts.append(max(rows for rows in ROWS if rows <= count))
            count -= parts[-1]
        return [*parts, count] if count else parts

    def step(self, growths: Sequence[Growth]) -> tuple[list[np.ndarray], Cost]:
        """Let sequences grow; logits float64[wanted, tokens] of each."""
        rows = _next(ROWS, max(len(growth.ids) for growth in growths))
        batch = _next(SEQUENCES, len(growths))
        idle = self._idle[: batch - len(growths)]
        sequences = [*(growth.sequence for growth in growths), *idle]
        counts = [*(len(growth.ids) for growth in growths), *[1] * len(idle)]
        inputs = self._inputs(growths, batch, rows)
        whole = max(s.length + count for s, count in zip(sequences, counts, strict=True))
        pages = ROOM_PAGES if batch * rows <= TILE_ROWS else ROOM_PAGES_OF_ROWS
        room = self._paged.room(batch, rows, whole, pages)
        try:
            outputs, report = self._paged.step(sequences, inputs, counts, context=room)
        finally:
            for sequence in idle:
                sequence.length = 0
        predicted = self._paged.predicted_cycles(batch, rows, room)
        cost = Cost(steps=1) + _cost(report, predicted)
        last = [
            outputs[self._in][number, count - growth.wanted : count]
            for number, (growth, count) in enumerate(zip(growths, counts, strict=False))
        ]
        logits, more = self._logits(np.concatenate(last))
        ends = np.cumsum([growth.wanted for growth in growths])
        return np.split(logits, ends[:-1]), cost + more

    def _inputs(self, growths: Sequence[Growth], batch: int, rows: int) -> dict[str, np.ndarray]:
        """What enters the layers, [batch, rows, width], rows without a token as token 0."""
        ids = np.zeros((batch, rows), np.int64)
        positions = np.zeros((batch, rows), np.int64)
        for number, growth in enumerate(growths):
            ids[number, : len(growth.ids)] = growth.ids
            positions[number] = growth.sequence.length + np.arange(rows)
        return self._program.enter(ids, positions.clip(max=self._program.context - 1))

    def _logits(self, rows: np.ndarray) -> tuple[np.ndarray, Cost]:
        """float64[n, tokens] of integers [n, width] that leave the layers."""
        found, cost = [np.zeros((0, self._program.size))], Cost()
        (dim,) = self._head.graph.dims
        for start in range(0, len(rows), HEAD_ROWS[-1]):
            some = rows[start : start + HEAD_ROWS[-1]]
            given = np.zeros((1, _next(HEAD_ROWS, len(some)), rows.shape[1]), rows.dtype)
            given[0, : len(some)] = some
            executable = self._head.executable(self._head.shape(1, {dim.name: given.shape[1]}))
            if executable not in self._verified:
                check_executable(self._head, executable)
                self._verified.add(executable)
            outputs, report = self._driver.run(self._loaded, executable, {self._in: given})
            found.append(self._program.logits(outputs[self._out][0, : len(some)]))
            here = _cost(report, executable.predicted_cycles)
            cost += replace(here, head_cycles=here.cycles, head_array_cycles=here.array_cycles)
        return np.concatenate(found), cost


def _next(known: Sequence[int], count: int) -> int:
    """The smallest known number that is not below count."""
    return next(number for number in known if number >= count)


def _cost(report: RunReport, predicted: int) -> Cost:
    return Cost(
        cycles=report.cycles,
        predicted=predicted,
        bytes_read=report.bytes_read,
        bytes_written=report.bytes_written,
        array_cycles=report.array_cycles,
    )
