"""What pytest does otherwise in a test run of ours; it is told so by environment variables.

$MUTANTS_TESTS    a file with the tests to run, one a line, in this order
$MUTANTS_STATUS   a file descriptor to which every step is announced, so that it can be watched
$MUTANTS_RECORD   instead of both: a file that gets what each test calls and how long it takes
$MUTANTS_CACHE    the module whose ``Recipe.make`` builds what takes as long as it takes
$MUTANTS_MEMORY   bytes that a process may allocate
"""

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mutants_tracer
import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Draw no random examples, limit the memory, and watch or record."""
    memory = int(os.environ["MUTANTS_MEMORY"])
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    _same_examples_every_time()
    record = os.environ.pop("MUTANTS_RECORD", None)
    config.pluginmanager.register(Recorder(Path(record)) if record else Watched())


def _same_examples_every_time() -> None:
    try:
        from hypothesis import Phase, settings
    except ImportError:
        return
    phases = (Phase.explicit, Phase.generate)  # the smallest example is of no interest
    settings.register_profile(
        "mutants", deadline=None, database=None, derandomize=True, phases=phases
    )
    settings.load_profile("mutants")


class Builds:
    """Calls ``began`` and ``ended`` around what the build cache makes, and notes what is asked of
    it: bytes of Verilog, by the name of the entry."""

    def __init__(self, began: Callable[[], None], ended: Callable[[], None]) -> None:
        self._began, self._ended = began, ended
        self._depth = 0
        self.requests: dict[str, int] = {}

    def attach(self) -> None:
        """Stand before ``Recipe.make`` of $MUTANTS_CACHE."""
        if "MUTANTS_CACHE" not in os.environ:
            return
        try:
            module = importlib.import_module(os.environ["MUTANTS_CACHE"])
        except Exception:  # a fault that breaks this import breaks the tests of it, too
            return
        recipe = module.Recipe
        original = recipe.make

        def make(self: Any, fill: Callable[[Path], None]) -> Path:
            folder = original(self, lambda scratch: builds._build(fill, scratch))
            name = f"{self.kind}/{self.label}_{self.content}"
            builds.requests[name] = sum(path.stat().st_size for path in folder.glob("*.v"))
            return folder

        builds, recipe.make = self, make

    def _build(self, fill: Callable[[Path], None], scratch: Path) -> None:
        self._depth += 1
        if self._depth == 1:
            self._began()
        try:
            fill(scratch)
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._ended()


class Watched:
    """Runs the tests of a list in its order and announces every step."""

    def __init__(self) -> None:
        self._status = int(os.environ["MUTANTS_STATUS"])
        self._builds = Builds(lambda: self._say("build"), lambda: self._say("built"))

    def _say(self, *words: str) -> None:
        os.write(self._status, (" ".join(words) + "\n").encode())

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the tests of the list, in its order."""
        wanted = Path(os.environ["MUTANTS_TESTS"]).read_text().splitlines()
        found = {item.nodeid: item for item in items}
        items[:] = [found[name] for name in wanted if name in found]

    def pytest_collection_finish(self) -> None:
        """Everything is imported now."""
        self._builds.attach()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A module that cannot be imported is a failure."""
        if report.failed:
            self._say("failed", report.nodeid)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A test begins."""
        self._say("test", nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test has failed."""
        if report.failed:
            self._say("failed", report.nodeid)


class Recorder:
    """Writes what each test calls, how long it takes, and what it asks of the build cache."""

    def __init__(self, path: Path) -> None:
        self._path, self._tests = path, {}
        self._calls = mutants_tracer.Calls(os.environ["MUTANTS_ROOT"])
        self._builds = Builds(self._calls.stop, self._calls.start)
        self._children = path.with_suffix(".calls")
        os.environ["MUTANTS_CALLS"] = str(self._children)
        self._started = time.monotonic()
        self._record: dict[str, object] = {"startup": 0.0, "imports": [], "tests": self._tests}
        self._calls.start()

    def _take(self) -> list[str]:
        """What ran since the last time, in this process and in those that it started."""
        names = self._calls.names()
        self._calls.clear()
        if self._children.exists():
            names |= set(self._children.read_text().splitlines())
            self._children.write_text("")
        return sorted(names)

    def pytest_collection_finish(self) -> None:
        """Everything is imported now."""
        self._record["startup"] = time.monotonic() - self._started
        self._record["imports"] = self._take()
        self._builds.attach()
        self._take()  # what that imports is no business of the tests

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """One test, with its fixtures."""
        self._tests[item.nodeid] = {"passed": True}
        self._builds.requests.clear()
        started = time.monotonic()
        result = yield
        self._tests[item.nodeid] |= {
            "seconds": time.monotonic() - started,
            "requests": dict(self._builds.requests),
            "calls": self._take(),
        }
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Whether the test passes as it is."""
        if report.failed:
            self._tests[report.nodeid]["passed"] = False

    def pytest_sessionfinish(self) -> None:
        """Write it all."""
        self._calls.stop()
        self._record["loaded"] = _loaded_files(Path(os.environ["MUTANTS_ROOT"]).resolve())
        self._path.write_text(json.dumps(self._record))


def _loaded_files(root: Path) -> list[str]:
    """Files of the project that are imported, whether anything of them is called or not."""
    paths = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    found = {Path(path).resolve() for path in paths if path is not None}
    return sorted(p.relative_to(root).as_posix() for p in found if p.is_relative_to(root))
