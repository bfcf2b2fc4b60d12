"""Run tests in a copy of the project until the first fails, and never wait for ever."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mutants.project import Scratch

__all__ = ["BUILD_LIMIT", "PYTEST", "Failure", "limit", "run_tests", "tail"]

#: Seconds until all tests are imported.
IMPORT_LIMIT = 180
#: Seconds for one build of a simulation, which takes longer the busier the machine is.
BUILD_LIMIT = 1200
#: What a test may take: so many times what it takes without a fault, and seconds.
FACTOR, SLACK = 10, 60

PYTEST = ("-m", "pytest", "-p", "mutants_plugin", "-p", "no:cacheprovider", "-q")

#: What pytest says if a fault is met while the fixtures of a folder are imported.
_CONFTEST = "ImportError while loading conftest"
#: Exit statuses of pytest: all passed, wrong arguments, no test found.
_PASSED, _USAGE, _NONE = 0, 4, 5


@dataclass(frozen=True)
class Failure:
    """The test that saw a fault, and how: it ``failed``, or ``hung``, or its process ``died``."""

    test: str
    how: str


def limit(seconds: float) -> float:
    """What a test may take that takes ``seconds`` without a fault."""
    return FACTOR * seconds + SLACK


def run_tests(scratch: Scratch, tests: Mapping[str, float]) -> Failure | None:
    """Run tests in their order until one fails; None if none does.

    tests: seconds that each may take, by node id (``limit``).

    Raises
    ------
    RuntimeError
        If pytest refuses; the message ends with what it printed.
    """
    wanted, log = scratch.root.with_name("tests.txt"), scratch.root.with_name("log.txt")
    wanted.write_text("\n".join(tests))
    files = dict.fromkeys(test.split("::")[0] for test in tests)
    read, write = os.pipe()
    facts = {"MUTANTS_TESTS": str(wanted), "MUTANTS_STATUS": str(write)}
    options = {"env": scratch.environment() | facts, "pass_fds": (write,)}
    with log.open("wb") as output:
        options |= {"stdout": output, "stderr": subprocess.STDOUT}
        with scratch.started(*PYTEST, "-x", *files, **options) as process:
            os.close(write)
            course = _Course(tests)
            try:
                failure = course.follow(read)
            finally:
                os.close(read)
            code = None if failure else process.wait(SLACK)
    if failure or code in (_PASSED, _NONE):
        return failure
    if code != _USAGE:
        return Failure(course.test, "died")
    if _CONFTEST in log.read_text(errors="replace"):
        return Failure("import", "failed")
    raise RuntimeError(f"pytest refuses:\n{tail(log)}")


def tail(log: Path) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-40:])


class _Course:
    """What a test run is doing, from what it announces, and how long it may go on."""

    def __init__(self, tests: Mapping[str, float]) -> None:
        self.test = "import"
        self._tests = tests
        self._deadline = time.monotonic() + IMPORT_LIMIT
        self._kept = 0.0  # of the test, while something is built for it

    def follow(self, status: int) -> Failure | None:
        """Read announcements until there is a failure, or no more of them."""
        for line in self._lines(status):
            if line is None:
                return Failure(self.test, "hung")
            word, _, test = line.partition(" ")
            if word == "failed":
                return Failure(test, "failed")
            self._step(word, test)
        return None

    def _step(self, word: str, test: str) -> None:
        now = time.monotonic()
        if word == "test":
            self.test = test
            self._deadline = now + self._tests.get(test, SLACK)
        elif word == "build":
            self._kept, self._deadline = self._deadline - now, now + BUILD_LIMIT
        elif word == "built":
            self._deadline = now + self._kept

    def _lines(self, status: int) -> Iterator[str | None]:
        """Lines, then None if time is up before the other end closes."""
        rest = b""
        while True:
            left = self._deadline - time.monotonic()
            if left <= 0 or not select.select([status], [], [], left)[0]:
                yield None
                return
            data = os.read(status, 1 << 16)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            yield from (line.decode() for line in lines)
