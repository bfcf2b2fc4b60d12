"""A run from start to end: the map of the tests, then every mutant on trial."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mutants.draw import Mutant
from mutants.equivalents import Equivalent
from mutants.hardware import record_elaboration
from mutants.project import Project, Scratch
from mutants.testmap import Record, TestMap, digests, record_module, test_modules, tests_of
from mutants.trial import Verdict, judge
from mutants.workers import Workers

__all__ = ["Campaign", "Records", "Results", "digest"]

#: The record beside those of the test modules: how the accelerator is made.
ELABORATION = "elaboration"


class Records:
    """What was found about the tests, a file each; what has changed since is to be found again."""

    def __init__(self, folder: Path, project: Project) -> None:
        self._folder, self._project = folder, project
        self._wanted = test_modules(project.root)
        if project.builder:
            self._wanted.insert(0, ELABORATION)
        known = {name: self._load(name) for name in self._wanted}
        self._records = {name: record for name, record in known.items() if record is not None}

    @property
    def missing(self) -> list[str]:
        """What is to be found."""
        return [name for name in self._wanted if name not in self._records]

    @property
    def failing(self) -> list[str]:
        """Tests that fail without a fault."""
        return [
            name
            for record in self._modules()
            for name, facts in record["tests"].items()
            if not facts["passed"]
        ]

    def find(self, workers: Workers) -> Iterator[str]:
        """Find what is missing; yields each name when it is there."""
        for name, record in workers.each(_record, self.missing):
            self._records[name] = record
            self._path(name).parent.mkdir(parents=True, exist_ok=True)
            self._path(name).write_text(json.dumps(record))
            yield name

    def map(self) -> TestMap:
        """All of it."""
        tests = tuple(test for record in self._modules() for test in tests_of(record))
        if ELABORATION not in self._records:
            return TestMap(tests)
        facts = self._records[ELABORATION]
        return TestMap(tests, frozenset(facts["calls"]), facts["texts"])

    def _modules(self) -> Iterator[Record]:
        return (record for name, record in self._records.items() if name != ELABORATION)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name.replace('/', '.')}.json"

    def _load(self, name: str) -> Record | None:
        if not self._path(name).is_file():
            return None
        record = json.loads(self._path(name).read_text())
        current = digests(self._project.root, record["files"]) == record["files"]
        return record if current else None


def _record(scratch: Scratch, name: str) -> Record:
    return record_elaboration(scratch) if name == ELABORATION else record_module(scratch, name)


def digest(mutants: Sequence[Mutant]) -> str:
    """Hexadecimal digits that tell these mutants from others."""
    return hashlib.sha256("\n".join(map(str, mutants)).encode()).hexdigest()[:12]


class Results:
    """Verdicts, one JSON object a line, behind a line that says which mutants they are of."""

    def __init__(self, path: Path, mutants: Sequence[Mutant], *, resume: bool) -> None:
        header = {"mutants": len(mutants), "digest": digest(mutants)}
        self._path, self.mutants = path, mutants
        self.verdicts: dict[int, Verdict] = {}
        if resume:
            self._read(header)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(header) + "\n")

    def _read(self, header: dict[str, Any]) -> None:
        first, *lines = map(json.loads, self._path.read_text().splitlines())
        if first != header:
            raise ValueError(f"{self._path} is of other mutants, or the source has changed since")
        for line in lines:
            facts = {name: line[name] for name in Verdict.__dataclass_fields__}
            self.verdicts[line["index"]] = Verdict(**facts)

    @property
    def missing(self) -> list[int]:
        """The indices of mutants without a verdict."""
        return [index for index in range(len(self.mutants)) if index not in self.verdicts]

    def add(self, index: int, verdict: Verdict) -> None:
        """Keep a verdict."""
        self.verdicts[index] = verdict
        mutant = self.mutants[index]
        fault = mutant.mutation
        place = {"index": index, "file": mutant.file, "line": fault.line, "kind": fault.kind}
        text = {"before": fault.before, "after": fault.after}
        with self._path.open("a") as file:
            file.write(json.dumps(place | text | asdict(verdict)) + "\n")


@dataclass(frozen=True)
class Campaign:
    """Mutants to try with the tests of a map."""

    tests: TestMap
    known: list[Equivalent]
    results: Results

    def run(self, workers: Workers) -> Iterator[tuple[Mutant, Verdict]]:
        """Try every mutant that has no verdict yet; yields each as it is decided.

        The floors are mixed, so that the time which is left can be told from the time so far.
        """

        def decide(scratch: Scratch, index: int) -> Verdict:
            return judge(scratch, self.tests, self.known, self.results.mutants[index])

        mixed = random.Random(0).sample(self.results.missing, len(self.results.missing))
        for index, verdict in workers.each(decide, mixed):
            self.results.add(index, verdict)
            yield self.results.mutants[index], verdict
