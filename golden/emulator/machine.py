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
from transept.golden.emulator.rowwise import elementwise, norm, softmax
from transept.golden.emulator.transfer import load, store
from transept.golden.isa import Engine, Instruction, Opcode, Window
from transept.golden.registers import ErrorCode
from transept.golden.verify import Finding, verify

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
    clipped: tuple[int, ...]  # elements that were clipped, for each of ``isa.TALLIES``


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
            If the program is not legal (``golden.verify``), before anything runs, or its data are
            not; the message starts with ``instruction N (OPCODE)``.
        """
        try:
            return self._run(offset, limit, order)
        except EmulatorError:
            self.chip.forget()
            raise

    def _run(self, offset: int, limit: int | None, order: np.random.Generator | None) -> Statistics:
        program = self._fetch(offset, limit)
        self._bytes: Counter[Opcode] = Counter()
        self._macs = 0
        self.chip.tallies[:] = 0
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
            tokens_left=sum(len(i.signal) - len(i.wait) for i in program),
            clipped=tuple(self.chip.tallies.tolist()),
        )

    def _fetch(self, offset: int, limit: int | None) -> list[Instruction]:
        """Instructions before END, verified."""
        base, size = self.dram.windows.get(Window.PROGRAM, (0, 0))
        end = size if limit is None else min(limit, size)
        text = self.dram.data[base + offset : base + max(offset, end)].tobytes()
        sizes = {window: size for window, (_, size) in self.dram.windows.items()}
        findings = verify(text, self.config, sizes, self.chip.state)
        if offset % self.config.tile:
            says = f"window PROGRAM: offset {offset} is no multiple of {self.config.tile}"
            findings = [Finding(0, "", says, ErrorCode.WINDOW, offset=offset)]
        if findings:
            raise EmulatorError(str(findings[0]), findings[0])
        program: list[Instruction] = []
        while True:
            place = slice(*(isa.INSTRUCTION_BYTES * (len(program) + n) for n in (0, 1)))
            instruction = isa.decode(text[place])
            if instruction.opcode == Opcode.END:
                return program
            program.append(instruction)

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
            case Opcode.ELEMENTWISE:
                elementwise(self.chip, i)


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
