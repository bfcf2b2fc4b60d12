"""Which faults are planted: drawn by a seed, spread evenly over the lines that can have one."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from mutants.mutations import Mutation, mutations

__all__ = ["Mutant", "draw"]


@dataclass(frozen=True)
class Mutant:
    """A fault in a file, named from the root of the project."""

    file: str
    mutation: Mutation

    @property
    def floor(self) -> str:
        """The top folder of the file."""
        return self.file.split("/")[0]

    def __str__(self) -> str:
        fault = self.mutation
        return f"{self.file}:{fault.line}: {fault.before} -> {fault.after}"


def draw(root: Path, places: Sequence[str], seed: int, count: int) -> list[Mutant]:
    """``count`` different mutants of the files and folders ``places``, the same for the same seed.

    All lines that can have a fault are laid end to end and cut into ``count`` pieces of the same
    length; each piece gives one line, and that line one of its faults: first a kind, then one of
    that kind. So files have mutants by their size, and dense lines no more than others.

    Raises
    ------
    ValueError
        If a place does not exist, or there are fewer lines than ``count``.
    """
    lines = [line for place in places for line in _lines(root, place)]
    if not 1 <= count <= len(lines):
        raise ValueError(f"{count} mutants of {', '.join(places)}: there are 1 to {len(lines)}")
    rng = random.Random(f"mutants {seed}")
    chosen = []
    for index in range(count):
        first, last = index * len(lines) // count, (index + 1) * len(lines) // count
        file, faults = lines[rng.randrange(first, last)]
        kind = rng.choice(sorted({fault.kind for fault in faults}))
        chosen.append(Mutant(file, rng.choice([fault for fault in faults if fault.kind == kind])))
    return chosen


def _lines(root: Path, place: str) -> Iterator[tuple[str, list[Mutation]]]:
    path = root / place
    if not path.exists():
        raise ValueError(f"no {place} in {root}")
    for source in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
        found = mutations(source.read_text())
        for _, faults in groupby(found, key=lambda fault: fault.line):
            yield source.relative_to(root).as_posix(), list(faults)
