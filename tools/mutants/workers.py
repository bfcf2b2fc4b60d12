"""Copies of the project that work side by side."""

from __future__ import annotations

import contextlib
import queue
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TypeVar

from mutants.project import Project, Scratch

__all__ = ["Workers"]

Job = TypeVar("Job")
Outcome = TypeVar("Outcome")


class Workers:
    """Copies of a project, each used by one job at a time, and deleted at the end."""

    def __init__(self, project: Project, count: int) -> None:
        self._stack = contextlib.ExitStack()
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="mutants."))
        self._free: queue.SimpleQueue[Scratch] = queue.SimpleQueue()
        self._copies = [Scratch(project, Path(folder, str(index))) for index in range(count)]
        for scratch in self._copies:
            self._free.put(scratch)
        self._pool = ThreadPoolExecutor(count)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        for scratch in self._copies:
            scratch.stop()
        self._pool.shutdown()
        self._stack.close()

    def each(
        self, work: Callable[[Scratch, Job], Outcome], jobs: Iterable[Job]
    ) -> Iterator[tuple[Job, Outcome]]:
        """Work on every job in a copy; outcomes come as they are ready."""

        def run(job: Job) -> tuple[Job, Outcome]:
            scratch = self._free.get()
            try:
                return job, work(scratch, job)
            finally:
                self._free.put(scratch)

        futures = [self._pool.submit(run, job) for job in jobs]
        yield from (future.result() for future in as_completed(futures))
