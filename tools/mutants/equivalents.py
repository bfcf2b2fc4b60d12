"""Faults that change nothing, each with the reason: a list kept by hand, beside this file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tomllib

from mutants.draw import Mutant
from mutants.mutations import mutations

__all__ = ["LIST", "Equivalent", "load", "reason", "stale"]

LIST = Path(__file__).with_suffix(".toml")


@dataclass(frozen=True)
class Equivalent:
    """A mutant, found by the text of its line before and after the fault, wherever that stands."""

    file: str
    line: str
    becomes: str
    reason: str


def load(path: Path = LIST) -> list[Equivalent]:
    """The list.

    Raises
    ------
    ValueError
        If an entry lacks something, or has something else, or gives no reason.
    """
    entries = tomllib.loads(path.read_text()).get("equivalent", [])
    for entry in entries:
        if set(entry) != set(Equivalent.__dataclass_fields__) or not entry["reason"].strip():
            raise ValueError(f"{path.name}: {entry} must have file, line, becomes and a reason")
    return [Equivalent(**entry) for entry in entries]


def reason(known: list[Equivalent], mutant: Mutant) -> str | None:
    """Why a mutant changes nothing; None if it is not on the list."""
    fault = mutant.mutation
    for entry in known:
        if (entry.file, entry.line, entry.becomes) == (mutant.file, fault.before, fault.after):
            return entry.reason
    return None


def stale(root: Path, known: list[Equivalent]) -> list[Equivalent]:
    """Entries that are no fault of today's source: to be deleted."""
    lost = []
    for entry in known:
        path = root / entry.file
        faults = mutations(path.read_text()) if path.is_file() else []
        if (entry.line, entry.becomes) not in {(fault.before, fault.after) for fault in faults}:
            lost.append(entry)
    return lost
