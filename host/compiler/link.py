"""What changes from run to run in a program that is otherwise fixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transept.golden import isa
from transept.golden.graph import Lengths

__all__ = ["Patch", "link"]


@dataclass(frozen=True)
class Patch:
    """Operand ``operand`` of an instruction is ``scale * length + offset`` of a sequence."""

    instruction: int
    operand: str
    dim: str
    sequence: int
    scale: int = 1
    offset: int = 0


def link(image: bytes, patches: Sequence[Patch], lengths: Lengths) -> bytes:
    """The instructions for sequences of these lengths.

    Raises
    ------
    ValueError
        If a value does not fit its operand.
    """
    linked = bytearray(image)
    for patch in patches:
        value = patch.scale * lengths[patch.dim][patch.sequence] + patch.offset
        start = patch.instruction * isa.INSTRUCTION_BYTES
        place = slice(start, start + isa.INSTRUCTION_BYTES)
        opcode = isa.Opcode(linked[start])
        field, low = isa.FORMATS[opcode].place(patch.operand)
        bits = int.from_bytes(linked[place], "little")
        bits &= ~(((1 << field.width) - 1) << low)
        linked[place] = (bits | field.check(value) << low).to_bytes(isa.INSTRUCTION_BYTES, "little")
    return bytes(linked)
