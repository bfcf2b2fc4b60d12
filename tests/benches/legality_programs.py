"""Instructions of which about half are illegal, and what the verifier says of each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import programs
from illegal import skeleton

from transept.golden import isa
from transept.golden.config import Config
from transept.golden.isa import Instruction, Opcode, Window
from transept.golden.registers import ErrorCode
from transept.golden.verify import State, verify

__all__ = ["instructions", "mutated", "verdict"]

#: Chance of a mutated operand, and of a flipped bit.
MUTATED, FLIPPED = 0.15, 0.03


def mutated(i: Instruction, rng: np.random.Generator) -> Instruction:
    """The instruction with another value of one operand."""
    fields = isa.FORMATS[i.opcode].fields
    field = fields[int(rng.integers(len(fields)))]
    most, old = (1 << field.width) - 1, int(i.operands[field.name])
    choices = [0, most, old - 1, old + 1, int(rng.integers(most + 1)), int(rng.integers(most + 1))]
    new = choices[int(rng.integers(len(choices)))] & most
    return Instruction(i.opcode, {**i.operands, field.name: new}, i.wait, i.signal)


def instructions(config: Config, rng: np.random.Generator, count: int) -> Iterator[bytes]:
    """``count`` instructions in the order of random programs, END left out, known opcodes only."""
    cases = list(programs.CASES.values())
    while True:
        if rng.random() < 0.5:
            program = list(skeleton(config).values())
        else:
            program = cases[int(rng.integers(len(cases)))](config, rng).program[:-1]
        for i in program:
            if not count:
                return
            raw = isa.encode(mutated(i, rng) if rng.random() < MUTATED else i)
            if rng.random() < FLIPPED:
                bit = 1 << int(rng.integers(isa.HEADER[0].width, 8 * len(raw)))
                raw = (int.from_bytes(raw, "little") ^ bit).to_bytes(len(raw), "little")
            yield raw
            count -= 1


def verdict(config: Config, raw: bytes, state: State) -> tuple[tuple[int, int] | None, State]:
    """(engine, rule) of the first rule that is broken, None if there is none; the state after it,
    that of a reset if there is one. Windows and tokens are not the checker's business."""
    windows = dict.fromkeys(Window, 1 << 50)
    for finding in verify(raw + bytes(isa.INSTRUCTION_BYTES), config, windows, state):
        if finding.code == ErrorCode.ILLEGAL_INSTRUCTION:
            return (isa.FORMATS[Opcode(raw[0])].engine or 0, finding.rule), State()
    return None, state
