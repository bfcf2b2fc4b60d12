"""Which test calls which function, found by running every test once under a tracer."""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mutants.draw import Mutant
from mutants.mutations import MODULE
from mutants.project import Scratch
from mutants.watch import PYTEST, tail

__all__ = [
    "Record",
    "Test",
    "TestMap",
    "batches",
    "cost",
    "digests",
    "elaborates",
    "record_module",
    "relevant",
    "runs",
    "test_modules",
    "tests_of",
]

#: Seconds for the tests of one module, with all that is built for them.
RECORD_LIMIT = 3600
#: Seconds from a megabyte of Verilog to a simulation, and to that Verilog; only their order counts.
BUILD_SECONDS, ELABORATE_SECONDS = 15, 10
#: A test that takes no time.
QUICK_SECONDS = 1
#: Seconds of the first and the second process that run the tests of a mutant; the third has the
#: rest.
BATCH_SECONDS = (10, 60)

#: Facts of one test module, as JSON.
Record = dict[str, Any]


@dataclass(frozen=True)
class Test:
    """One test, which passes as long as there is no fault."""

    name: str  # node id
    seconds: float
    startup: float  # seconds until its module is imported
    calls: frozenset[str] = field(repr=False)  # ``file::function``
    imports: frozenset[str] = field(repr=False)  # the same, while its module is imported
    files: frozenset[str] = field(repr=False)  # that its module loads
    accelerators: frozenset[str]  # configurations whose whole Verilog it runs
    building: float  # seconds for the simulations that it runs, if they are to be built
    elaborating: float  # seconds for the Verilog of those accelerators

    @property
    def module(self) -> str:
        """The file that it stands in."""
        return self.name.split("::")[0]


@dataclass(frozen=True)
class TestMap:
    """All tests, what they call, and what is called to make the accelerator's Verilog."""

    tests: tuple[Test, ...]
    elaboration: frozenset[str] = frozenset()  # ``file::function``
    texts: Mapping[str, str] = field(default_factory=dict)  # digest of the Verilog by configuration


def test_modules(root: Path) -> list[str]:
    """The files of the tests."""
    return [
        path.relative_to(root).as_posix() for path in sorted((root / "tests").rglob("test_*.py"))
    ]


def record_module(scratch: Scratch, module: str) -> Record:
    """Run the tests of one module and note what they call.

    Raises
    ------
    RuntimeError
        If they do not run at all; the message ends with what pytest printed.
    """
    result, log = scratch.root.with_name("record.json"), scratch.root.with_name("log.txt")
    result.unlink(missing_ok=True)
    facts = {"MUTANTS_RECORD": str(result)}
    if scratch.project.cache is not None:  # what is built without a fault is good for all
        facts["TRANSEPT_CACHE"] = str(scratch.project.cache)
    arguments = [*PYTEST, "-m", "not slow", module]
    with log.open("wb") as output:
        options: dict[str, Any] = {"stdout": output, "stderr": subprocess.STDOUT}
        options["env"] = scratch.environment() | facts
        with (
            scratch.started(*arguments, **options) as process,
            contextlib.suppress(subprocess.TimeoutExpired),
        ):
            process.wait(RECORD_LIMIT)
    if not result.exists():
        raise RuntimeError(f"{module} could not be recorded:\n{tail(log)}")
    record = json.loads(result.read_text())
    return record | {"files": digests(scratch.root, {module, *_loaded(record)})}


def _loaded(record: Record) -> set[str]:
    calls = [record["imports"], *(test["calls"] for test in record["tests"].values())]
    return {*record["loaded"], *(call.split("::")[0] for part in calls for call in part)}


def digests(root: Path, files: Iterable[str]) -> dict[str, str]:
    """A digest of each file, empty if it is gone."""
    paths = {name: root / name for name in sorted(files)}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for name, path in paths.items()
    }


def tests_of(record: Record) -> list[Test]:
    """The tests of a record that pass."""
    imports, files = frozenset(record["imports"]), frozenset(record["files"])
    return [
        Test(
            name,
            facts["seconds"],
            record["startup"],
            frozenset(facts["calls"]),
            imports,
            files,
            accelerators=frozenset(_names(facts["requests"], "verilog/")),
            building=_megabytes(facts["requests"], ("native/", "cocotb/")) * BUILD_SECONDS,
            elaborating=_megabytes(facts["requests"], ("verilog/",)) * ELABORATE_SECONDS,
        )
        for name, facts in record["tests"].items()
        if facts["passed"]
    ]


def _names(requests: Mapping[str, int], kind: str) -> Iterator[str]:
    """Configurations, from entries ``kind/NAME_digest`` of the build cache."""
    for entry in requests:
        if entry.startswith(kind):
            yield entry.removeprefix(kind).rpartition("_")[0]


def _megabytes(requests: Mapping[str, int], kinds: tuple[str, ...]) -> float:
    return sum(size for entry, size in requests.items() if entry.startswith(kinds)) / 1e6


def relevant(tests: TestMap, mutant: Mutant) -> list[Test]:
    """The tests that can see a fault, the cheapest first.

    First those that call its function, or run the Verilog that it makes; then the others of their
    modules, because a test may have called it on behalf of those behind it. What stands outside
    functions acts on all that load the file. A function that no test calls is left to the quick
    tests of its floor.
    """
    seeing = [test for test in tests.tests if _sees(tests, test, mutant)]
    if not seeing:
        floor = f"tests/{mutant.floor}/"
        return [t for t in tests.tests if t.name.startswith(floor) and t.seconds < QUICK_SECONDS]
    seen, modules = {test.name for test in seeing}, {test.module for test in seeing}
    rest = [test for test in tests.tests if test.module in modules and test.name not in seen]

    def order(test: Test) -> float:
        return test.startup + cost(test, mutant)

    return [*sorted(seeing, key=order), *sorted(rest, key=order)]


def _sees(tests: TestMap, test: Test, mutant: Mutant) -> bool:
    through_hardware = test.accelerators and _is_among(tests.elaboration, mutant)
    return bool(through_hardware) or runs(test, mutant)


def runs(test: Test, mutant: Mutant) -> bool:
    """Whether a test runs the faulty line itself, not only the Verilog that it makes."""
    if mutant.mutation.scope == MODULE:
        return mutant.file in test.files
    if mutant.mutation.compiled and f"{mutant.file}::{MODULE}" in test.calls:
        return True  # imported by the test, or by a process of it
    return _is_among(test.calls, mutant) or _is_among(test.imports, mutant)


def elaborates(tests: TestMap, mutant: Mutant) -> bool:
    """Whether the faulty line is run to make the Verilog of the map's accelerators."""
    if mutant.mutation.scope == MODULE:
        return any(call.startswith(f"{mutant.file}::") for call in tests.elaboration)
    return _is_among(tests.elaboration, mutant)


def _is_among(calls: frozenset[str], mutant: Mutant) -> bool:
    return f"{mutant.file}::{mutant.mutation.scope}" in calls


def cost(test: Test, mutant: Mutant) -> float:
    """Seconds of a test with the fault, its import left out."""
    if mutant.floor == "rtl":
        return test.seconds + test.building + test.elaborating
    # Verilog is cached by what all of golden is; a simulation, by its Verilog
    return test.seconds + (test.elaborating if mutant.floor == "golden" else 0)


def batches(tests: list[Test], mutant: Mutant) -> Iterator[list[Test]]:
    """Cut an ordered list into few processes, so that the first ones import little."""
    limits, batch, spent, modules = [*BATCH_SECONDS], [], 0.0, set()
    for test in tests:
        price = cost(test, mutant) + (0 if test.module in modules else test.startup)
        if batch and limits and spent + price > limits[0]:
            yield batch
            limits.pop(0)
            batch, spent, modules, price = [], 0.0, set(), cost(test, mutant) + test.startup
        batch.append(test)
        modules.add(test.module)
        spent += price
    if batch:
        yield batch
