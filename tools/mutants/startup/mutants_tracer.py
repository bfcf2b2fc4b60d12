"""Notes which functions of the project run, at the price of one look for each call."""

import os
import sys
import threading
from types import CodeType, FrameType


class Calls:
    """Which functions ran since ``clear``, as ``file::qualified name`` from the project's root."""

    def __init__(self, root: str) -> None:
        self._prefix = root + os.sep
        self._seen: dict[int, CodeType] = {}  # kept, so that no other code gets its number
        self._log: int | None = None

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        """What ``sys.settrace`` calls; returns nothing, so that lines are not traced."""
        code = frame.f_code
        if code.co_filename.startswith(self._prefix) and id(code) not in self._seen:
            self._seen[id(code)] = code
            if self._log is not None:
                os.write(self._log, f"{self._name(code)}\n".encode())

    def start(self) -> None:
        """Trace this thread and those that it starts."""
        threading.settrace(self)
        sys.settrace(self)

    def stop(self) -> None:
        """Trace no more."""
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]

    def clear(self) -> None:
        """Forget what ran."""
        self._seen.clear()

    def names(self) -> set[str]:
        """What ran."""
        return {self._name(code) for code in self._seen.values()}

    def log_to(self, path: str) -> None:
        """Append every new name to a file at once: a simulator does not end as a program does."""
        self._log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def _name(self, code: CodeType) -> str:
        return f"{code.co_filename[len(self._prefix) :]}::{code.co_qualname}"


def write_calls(path: str) -> None:
    """Note the calls of this process in a file."""
    calls = Calls(os.environ["MUTANTS_ROOT"])
    calls.log_to(path)
    calls.start()
