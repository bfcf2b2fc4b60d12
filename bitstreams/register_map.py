"""The registers as tools for hardware describe them: an element of an array is a register too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from transept.golden import registers
from transept.golden.config import Config
from transept.golden.registers import Access, Field

__all__ = ["DescribedRegister", "described"]

_ACCESS = {Access.RO: "read-only", Access.RW: "read-write", Access.W1C: "read-write"}


@dataclass(frozen=True)
class DescribedRegister:
    """One register of 32 bits; access: ``read-only`` or ``read-write``."""

    name: str
    offset: int
    access: str
    doc: str
    fields: tuple[Field, ...]


def described(config: Config) -> Iterator[DescribedRegister]:
    """Every register of a configuration, in ascending order; element n of an array X is X_n."""
    for entry in registers.table(config):
        for index, offset in enumerate(entry.offsets):
            name = entry.name if entry.count == 1 else f"{entry.name}_{index}"
            access = _ACCESS[entry.access]
            yield DescribedRegister(name, offset, access, entry.doc, entry.fields)
