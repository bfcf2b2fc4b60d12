"""Random programs for dispatch, whose tokens are what matters."""

from __future__ import annotations

import random

from transept.golden import isa
from transept.golden.isa import Engine, Instruction, Opcode

__all__ = ["instruction", "random_program"]

OPCODES = {
    Engine.LOAD: [Opcode.LOAD],
    Engine.GEMM: [Opcode.MATMUL, Opcode.SCORES, Opcode.CONTEXT],
    Engine.SOFTMAX: [Opcode.SOFTMAX],
    Engine.VECTOR: [Opcode.NORM, Opcode.ELEMENTWISE],
    Engine.STORE: [Opcode.STORE],
}


def instruction(rng: random.Random, engine: Engine, wait=(), signal=()) -> Instruction:
    """Random operands: dispatch must carry every bit of them."""
    opcode = rng.choice(OPCODES[engine])
    operands = {
        field.name: rng.choice(list(field.enum))
        if field.enum
        else field.extract(rng.getrandbits(field.width))
        for field in isa.FORMATS[opcode].fields
    }
    return Instruction(opcode, operands, frozenset(wait), frozenset(signal))


def random_program(rng: random.Random, length: int) -> list[Instruction]:
    """Each wait has a signal earlier in the program, so that no program hangs."""
    engines = [rng.choice(list(Engine)) for _ in range(length)]
    waits, signals = [set() for _ in engines], [set() for _ in engines]
    for i in range(1, length):
        for j in {rng.randrange(i) for _ in range(rng.choice([0, 1, 1, 3]))}:
            if engines[i] not in signals[j] and engines[j] not in waits[i]:
                signals[j].add(engines[i])
                waits[i].add(engines[j])
    parts = zip(engines, waits, signals, strict=True)
    return [instruction(rng, *part) for part in parts]
