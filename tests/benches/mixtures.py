"""Random programs made of several, whose instructions overlap as far as their operands allow."""

from __future__ import annotations

import numpy as np
import programs
from bench import Case, image, instruction
from hazards import footprint

from transept.golden import isa
from transept.golden.config import Config
from transept.golden.isa import INSTRUCTION_BYTES, Engine, Instruction, Opcode, Window

__all__ = ["mixture", "relaxed", "spoilt"]


def mixture(config: Config, rng: np.random.Generator, parts: int) -> Case:
    """Programs of random kinds one after the other, in memories that keep what was there before,
    with no token more than they need."""
    kinds = list(programs.cases(config).values())
    cases = [kinds[rng.integers(len(kinds))](config, rng) for _ in range(parts)]
    body: list[Instruction] = []
    contents = {Window.WEIGHTS: b"", Window.IO: b""}
    for case in cases:
        ahead = {window: len(data) for window, data in contents.items()}
        body += [_moved(i, ahead) for i in case.program[:-1]]
        for window in contents:
            base, limit = case.windows[window]
            contents[window] += case.dram[base : base + limit].tobytes()
    program = [*relaxed(body, config), instruction(Opcode.END)]
    return image(program, contents, rng)


def _moved(i: Instruction, ahead: dict[Window, int]) -> Instruction:
    """A transfer behind what other programs have in its window."""
    if i.opcode not in (Opcode.LOAD, Opcode.STORE):
        return i
    offset = i.offset + ahead[i.window]
    return Instruction(i.opcode, {**i.operands, "offset": offset}, i.wait, i.signal)


def relaxed(program: list[Instruction], config: Config) -> list[Instruction]:
    """The program, without END, with only the tokens that conflicting operands ask for.

    Engines end in order, so a consumer waits for the latest instruction of each engine that it
    conflicts with, and for none that an earlier consumer of its own engine has waited for.
    """
    touched = [footprint(i, config) for i in program]
    tokens: list[tuple[set[Engine], set[Engine]]] = [(set(), set()) for _ in program]
    waited: dict[tuple[Engine, Engine], int] = {}
    for consumer, i in enumerate(program):
        for engine in Engine:
            producer = _producer(program, touched, consumer, engine)
            if producer > waited.get((engine, i.engine), -1):
                waited[engine, i.engine] = producer
                tokens[consumer][0].add(engine)
                tokens[producer][1].add(i.engine)
    return [
        Instruction(i.opcode, i.operands, frozenset(wait), frozenset(signal))
        for i, (wait, signal) in zip(program, tokens, strict=True)
    ]


def spoilt(case: Case, config: Config, rng: np.random.Generator) -> Case:
    """The case with one instruction that has another operand, or with a bit or two of its program
    changed; the program of the case is no longer what its window holds."""
    dram = case.dram.copy()
    base, limit = case.windows[Window.PROGRAM]
    text = dram[base : base + limit]
    if rng.random() < 0.5:
        for bit in rng.integers(0, 8 * limit, rng.integers(1, 3)).tolist():
            text[bit // 8] ^= 1 << bit % 8
        return case._replace(dram=dram)
    index = int(rng.integers(len(case.program) - 1))
    i = case.program[index]
    fields = isa.FORMATS[i.opcode].fields
    field = fields[rng.integers(len(fields))]
    most = (1 << field.width) - 1
    value = int(rng.choice([0, 1, most, most // 2, most >> 4, int(rng.integers(0, most + 1))]))
    wrong = Instruction(i.opcode, {**i.operands, field.name: value}, i.wait, i.signal)
    place = slice(INSTRUCTION_BYTES * index, INSTRUCTION_BYTES * (index + 1))
    text[place] = np.frombuffer(isa.encode(wrong), np.uint8)
    return case._replace(dram=dram)


def _producer(program: list[Instruction], touched: list, consumer: int, engine: Engine) -> int:
    """The latest instruction of an engine that must end before another one; -1 if there is none.

    Within one engine only a read after a write conflicts, and not in LOAD.
    """
    reads, writes = touched[consumer]
    same = program[consumer].engine == engine
    for index in reversed(range(consumer)):
        if program[index].engine != engine:
            continue
        before, after = touched[index]
        conflict = after & reads and engine != Engine.LOAD
        if not same:
            conflict = after & reads or before & writes or after & writes
        if conflict:
            return index
    return -1
