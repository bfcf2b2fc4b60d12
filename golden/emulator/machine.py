"""The accelerator, one instruction at a time: fetch, tokens, order, statistics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from transept.golden import isa
from transept.golden.config import Config
from transept.golden.emulator.gemm import context, matmul, scores
from transept.golden.emulator.memory import Dram, EmulatorError, OnChip
from transept.golden.emulator.rowwise import norm, softmax
from transept.golden.emulator.transfer import load, store
from transept.golden.isa import Engine, Instruction, Opcode, Window

__all__ = ["Emulator", "Statistics"]

#: Chance that a shuffled run changes the relative speed of the engines before an instruction.
SPEED_CHANGE = 0.1


@dataclass(frozen=True)
class Statistics:
    """What a run did. Bytes are those of DRAM; MACs include padding, but no tile left out."""

    instructions: Mapping[Opcode, int]
    bytes_fetched: int
    bytes_read: int
    bytes_written: int
    macs: int
    tokens_left: int  # given and never taken; the next program would find them


class Emulator:
    """A bit-exact model of the accelerator with configuration ``config``.

    dram: uint8[n], changed in place by STORE; windows: {window: (base, limit)} in bytes; seed: of
    the random bits that on-chip memories start with. On-chip state (``chip``) outlives a run.

    Raises
    ------
    ValueError
        If a window does not fit into ``dram``.
    """

    def __init__(
        self,
        config: Config,
        dram: np.ndarray,
        windows: Mapping[Window, tuple[int, int]],
        seed: int = 0,
    ) -> None:
        self.config = config
        self.dram = Dram(dram, windows)
        self.chip = OnChip(config, seed)

    def run(
        self,
        offset: int = 0,
        limit: int | None = None,
        order: np.random.Generator | None = None,
    ) -> Statistics:
        """Run the program in window PROGRAM from ``offset`` to its END.

        limit: bytes of the window the program may use, all by default. order: run instructions in a
        random order that engines could choose: each engine in program order, one whole instruction
        at a time, tokens respected. A program whose result depends on ``order`` lacks a token.

        Raises
        ------
        EmulatorError
            If the program has no END or an instruction is not legal; the message starts with
            ``instruction N (OPCODE)``.
        """
        program = self._fetch(offset, limit)
        tokens = _check_tokens(program)
        self._bytes: Counter[Opcode] = Counter()
        self._macs = 0
        indices = range(len(program)) if order is None else _shuffle(program, order)
        for index in indices:
            try:
                self._execute(program[index])
            except EmulatorError as error:
                name = program[index].opcode.name
                raise EmulatorError(f"instruction {index} ({name}): {error}") from None
        return Statistics(
            instructions=Counter(instruction.opcode for instruction in program)
            + Counter([Opcode.END]),
            bytes_fetched=(len(program) + 1) * isa.INSTRUCTION_BYTES,
            bytes_read=self._bytes[Opcode.LOAD],
            bytes_written=self._bytes[Opcode.STORE],
            macs=self._macs,
            tokens_left=tokens,
        )

    def _fetch(self, offset: int, limit: int | None) -> list[Instruction]:
        """Instructions before END."""
        if limit is None:
            limit = self.dram.windows.get(Window.PROGRAM, (0, 0))[1]
        program: list[Instruction] = []
        for start in range(offset, limit, isa.INSTRUCTION_BYTES):
            data = self.dram.rows(
                Window.PROGRAM, start, 0, 1, isa.INSTRUCTION_BYTES, self.config.tile
            )
            try:
                instruction = isa.decode(data.tobytes())
            except ValueError as error:
                raise EmulatorError(f"instruction {len(program)}: {error}") from None
            if instruction.opcode == Opcode.END:
                return program
            program.append(instruction)
        raise EmulatorError(f"no END in {len(program)} instructions up to byte {limit}")

    def _execute(self, i: Instruction) -> None:
        match i.opcode:
            case Opcode.LOAD:
                self._bytes[i.opcode] += load(self.chip, self.dram, i)
            case Opcode.STORE:
                self._bytes[i.opcode] += store(self.chip, self.dram, i)
            case Opcode.MATMUL:
                self._macs += matmul(self.chip, i)
            case Opcode.SCORES:
                self._macs += scores(self.chip, i)
            case Opcode.CONTEXT:
                self._macs += context(self.chip, i)
            case Opcode.SOFTMAX:
                softmax(self.chip, i)
            case Opcode.NORM:
                norm(self.chip, i)


def _check_tokens(program: list[Instruction]) -> int:
    """Take and give every token in program order; returns the tokens left.

    If program order never waits, no order of the engines does: they only take tokens of
    instructions that come before them.
    """
    tokens: Counter[tuple[Engine | None, Engine | None]] = Counter()
    for index, instruction in enumerate(program):
        engine = instruction.engine
        for giver in sorted(instruction.wait):
            if not tokens[giver, engine]:
                raise EmulatorError(
                    f"instruction {index} ({instruction.opcode.name}): waits for a token that "
                    f"{giver.name} has not given"
                )
            tokens[giver, engine] -= 1
        tokens.update((engine, taker) for taker in instruction.signal)
    return tokens.total()


def _shuffle(program: list[Instruction], rng: np.random.Generator) -> Iterator[int]:
    """Indices in a random order that respects tokens and the order within each engine.

    Engines have random speeds that change now and then, so that any one can run far ahead.
    """
    queues: dict[Engine | None, list[int]] = {engine: [] for engine in Engine}
    for index in reversed(range(len(program))):
        queues[program[index].engine].append(index)
    tokens: Counter[tuple[Engine | None, Engine | None]] = Counter()
    speed: dict[Engine | None, float] = dict.fromkeys(Engine, 1.0)
    for _ in program:
        if rng.random() < SPEED_CHANGE:
            speed = {engine: rng.random() ** 8 for engine in Engine}
        ready = [
            engine
            for engine, queue in queues.items()
            if queue and all(tokens[giver, engine] for giver in program[queue[-1]].wait)
        ]
        engine = max(ready, key=lambda name: rng.random() * speed[name])
        index = queues[engine].pop()
        tokens.subtract((giver, engine) for giver in program[index].wait)
        tokens.update((engine, taker) for taker in program[index].signal)
        yield index
