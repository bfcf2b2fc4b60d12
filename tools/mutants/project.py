"""The project under test, and copies of it in which the tests run."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutants.draw import Mutant

__all__ = ["STARTUP", "Project", "Scratch"]

TOP = "transept"
STARTUP = Path(__file__).resolve().parent / "startup"
#: What a copy does without, wherever it is, and at the top: what is installed, cached and built.
_LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".hypothesis", ".*cache", "__pycache__")
_LEFT_OUT_AT_THE_TOP = "build"


@dataclass(frozen=True)
class Project:
    """A checkout: its folder, its packages, and the module that caches what is built."""

    root: Path
    packages: Mapping[str, str]  # folder by package, from the root
    builder: str | None = None  # its ``Recipe.make(fill)`` makes folders of ``cache``
    cache: Path | None = None

    @classmethod
    def of(cls, root: Path, builder: str | None = None, cache: Path | None = None) -> Project:
        """The project in a folder; every other package in it is one inside its own."""
        folders = sorted(path.parent.name for path in root.glob("*/__init__.py"))
        packages = {name if name == TOP else f"{TOP}.{name}": name for name in folders}
        return cls(root.resolve(), packages, builder, cache)


class Scratch:
    """A copy of a project that may be spoilt, with a view of the build cache.

    What the cache of the project holds is found here as well; what is built here stays here, and is
    thrown away by ``clean``.
    """

    def __init__(self, project: Project, folder: Path) -> None:
        self.project, self.root, self.cache = project, folder / "copy", folder / "cache"
        self._process: subprocess.Popen | None = None
        self._stopped = False
        shutil.copytree(project.root, self.root, symlinks=True, ignore=_ignore(project.root))
        self.clean()

    @contextlib.contextmanager
    def started(self, *arguments: str, **options: Any) -> Iterator[subprocess.Popen]:
        """A Python process in the copy, one at a time; at the end nothing is left of it, or of what
        it has started."""
        command = [sys.executable, *arguments]
        self._process = subprocess.Popen(command, cwd=self.root, start_new_session=True, **options)
        if self._stopped:
            self.stop()
        try:
            yield self._process
        finally:
            self._kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Stop the process, and every later one."""
        self._stopped = True
        self._kill()

    def _kill(self) -> None:
        process = self._process
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    @contextlib.contextmanager
    def planted(self, mutant: Mutant) -> Iterator[None]:
        """The fault is in the copy, until the end."""
        path = self.root / mutant.file
        text = path.read_text()
        path.write_text(mutant.mutation.apply(text))
        try:
            yield
        finally:
            path.write_text(text)
            self.clean()

    def clean(self) -> None:
        """Throw away what was built here, and find what is built there by now."""
        shutil.rmtree(self.cache, ignore_errors=True)
        if self.project.cache is None:
            return
        for entry in self.project.cache.glob("*/*"):
            if entry.is_dir():
                link = self.cache / entry.relative_to(self.project.cache)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(entry)

    def environment(self) -> dict[str, str]:
        """Environment of processes that use the copy in place of the installed package."""
        packages = {name: str(self.root / path) for name, path in self.project.packages.items()}
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
        facts = {
            "MUTANTS_PACKAGES": json.dumps(packages),
            "MUTANTS_ROOT": str(self.root),
            "MUTANTS_MEMORY": str(memory),
            "TRANSEPT_CACHE": str(self.cache),
            "PYTHONPATH": str(STARTUP),
            # a fault may leave size and time of a file as they were
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
        }
        if self.project.builder:
            facts["MUTANTS_CACHE"] = self.project.builder
        outside = {name: value for name, value in os.environ.items() if "MUTANTS_" not in name}
        return outside | facts


def _ignore(root: Path) -> Callable[[str, list[str]], set[str]]:
    """What ``copytree`` leaves out."""

    def ignored(folder: str, names: list[str]) -> set[str]:
        top = {_LEFT_OUT_AT_THE_TOP} if Path(folder) == root else set()
        return _LEFT_OUT(folder, names) | top

    return ignored
