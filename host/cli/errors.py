"""One line for each error: what happened, and where if it was in the user's own code."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

import typer

from transept.host.doctor import PACKAGES
from transept.sim import tools
from transept.sim.tools import BuildError

__all__ = ["describe"]

#: Errors whose message says everything. Of others the kind is named too.
_PLAIN = (ValueError, RuntimeError, OSError, ImportError)

_PACKAGE = Path(__file__).resolve().parents[2]
#: Code that is not the user's: Transept, installed packages, and Python itself.
_FOREIGN = (
    *(
        _PACKAGE / name
        for name in ("golden", "hls", "rtl", "bitstreams", "sim", "host", "transept")
    ),
    *(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
)


def describe(error: BaseException) -> str:
    """The error in one line, without a traceback."""
    if isinstance(error, typer.Abort) and error.__cause__ is not None:
        error = error.__cause__  # what typer took for the end of the user's input
    if isinstance(error, ModuleNotFoundError) and (hint := _remedy(error)):
        return hint
    if isinstance(error, BuildError):
        return _brief(str(error).splitlines())
    where = _place(error)
    message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if isinstance(error, SyntaxError):
        message = str(error.msg)
    if where or not isinstance(error, _PLAIN) or not message:
        message = f"{type(error).__name__}: {message}".removesuffix(": ")
    return f"{where}: {message}" if where else message


def _brief(lines: list[str]) -> str:
    """What a tool complained about first, of the many lines that it printed."""
    reason = next((line for line in lines[1:] if "error" in line.lower()), lines[-1])
    return f"{lines[0]} {reason.strip()} (transept --debug shows more)"


def _remedy(error: ModuleNotFoundError) -> str:
    """The command that brings a package of an extra; empty for other modules."""
    root = (error.name or "").partition(".")[0]
    found = [tool for tool in PACKAGES if tool.module == root]
    return tools.absence(found) if found else ""


def _place(error: BaseException) -> str:
    """File and line of the user's code that the error came from; empty if there is none."""
    if isinstance(error, SyntaxError) and error.filename:
        return _short(error.filename, error.lineno or 0)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_own(frame.filename)]
    return _short(own[-1].filename, own[-1].lineno or 0) if own else ""


def _is_own(file: str) -> bool:
    path = Path(file)
    return path.is_file() and not any(path.is_relative_to(folder) for folder in _FOREIGN)


def _short(file: str, line: int) -> str:
    path = Path(file)
    here = Path.cwd()
    return f"{path.relative_to(here) if path.is_relative_to(here) else path}:{line}"
