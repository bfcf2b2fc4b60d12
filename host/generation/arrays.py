"""Sequences on devices that take graphs as they are: ``cpu`` or ``golden``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from transept.host.generation.decoder import Cost, Growth
from transept.host.language.cached import CONTEXT
from transept.host.language.program import LanguageProgram
from transept.host.runtime.session import Session

__all__ = ["ArrayDecoder", "ArraySequence"]

#: States grow by so many rows.
GROWTH = 64
#: New tokens that are computed at once.
MOST_ROWS = 128


@dataclass(eq=False)
class ArraySequence:
    """Keys and values of one sequence, int8[1, room, width] by state."""

    length: int = 0
    states: dict[str, np.ndarray] = field(default_factory=dict)


class ArrayDecoder:
    """One sequence after the other (``host.generation.decoder``)."""

    def __init__(self, program: LanguageProgram, device: str, **options: Any) -> None:
        self._program = program
        self._session = Session(program.config, device, fallback=False, **options)
        self._layers, self._head = program.decoder, program.projection
        self._rows = self._layers.graph.values[program.layers.inputs[0]].dim
        self._out, self._in = program.head.outputs[0], program.head.inputs[0]

    def together(self, rows: int) -> int:
        """Sequences of one step: as many as there are."""
        return MOST_ROWS

    def start(self) -> ArraySequence:
        """A sequence without tokens."""
        return ArraySequence()

    def fork(self, sequence: ArraySequence, length: int) -> ArraySequence:
        """Another sequence with the same first tokens."""
        states = {name: rows.copy() for name, rows in sequence.states.items()}
        return ArraySequence(length, states)

    def truncate(self, sequence: ArraySequence, length: int) -> None:
        """Forget the tokens behind the first ``length``."""
        sequence.length = length

    def release(self, sequence: ArraySequence) -> None:
        """The sequence has ended."""
        sequence.states.clear()
        sequence.length = 0

    def parts(self, count: int) -> list[int]:
        """So many new tokens of a sequence in parts that ``step`` takes."""
        return [min(MOST_ROWS, count - start) for start in range(0, count, MOST_ROWS)]

    def states(self, sequence: ArraySequence) -> dict[str, np.ndarray]:
        """int8[length, width] of every state, by the name of its output."""
        return {
            state.output: sequence.states[state.input][0, : sequence.length]
            for state in self._layers.graph.states
        }

    def step(self, growths: Sequence[Growth]) -> tuple[list[np.ndarray], Cost]:
        """Let sequences grow; logits float64[wanted, tokens] of each."""
        return [self._grow(*growth) for growth in growths], Cost(steps=1)

    def _grow(self, sequence: ArraySequence, ids: Sequence[int], wanted: int) -> np.ndarray:
        whole = sequence.length + len(ids)
        self._make_room(sequence, whole)
        positions = np.arange(sequence.length, whole)[None]
        given = self._program.enter(np.asarray(ids, np.int64)[None], positions)
        lengths = {self._rows: [len(ids)], CONTEXT: [whole]}
        found = self._session.run(self._layers, given | sequence.states, lengths).outputs
        for state in self._layers.graph.states:
            sequence.states[state.input] = found[state.output]
        sequence.length = whole
        if not wanted:
            return np.zeros((0, self._program.size))
        last = np.ascontiguousarray(found[self._in][:, len(ids) - wanted : len(ids)])
        logits = self._session.run(self._head, {self._in: last}).outputs[self._out]
        return self._program.logits(logits[0])

    def _make_room(self, sequence: ArraySequence, rows: int) -> None:
        graph = self._layers.graph
        room = min(-(-rows // GROWTH) * GROWTH, self._program.context)
        for state in graph.states:
            old = sequence.states.get(state.input)
            if old is None or old.shape[1] < room:
                larger = np.zeros((1, room, graph.values[state.input].width), np.int8)
                if old is not None:
                    larger[:, : old.shape[1]] = old
                sequence.states[state.input] = larger
