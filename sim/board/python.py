"""The Python that has ``pynq``: this one, or one of an environment of its own, for pynq wants
another NumPy than torch and the tools of the RTL."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from transept.sim.tools import ToolMissing

__all__ = ["ENVIRONMENT", "PORT", "board_python"]

#: Where a PYNQ.remote server listens; its client knows no other.
PORT = 7967

#: Environment variable with that Python.
ENVIRONMENT = "TRANSEPT_BOARD_PYTHON"
#: Where ``make board`` puts it.
_MADE = Path(__file__).resolve().parents[2] / ".venv-board" / "bin" / "python"


def board_python() -> str:
    """Path of that Python.

    Raises
    ------
    ToolMissing
        If there is none; the message says how to get one.
    """
    if importlib.util.find_spec("pynq") is not None:
        return sys.executable
    named = os.environ.get(ENVIRONMENT)
    if named and Path(named).is_file():
        return named
    if named:
        raise ToolMissing(f"{ENVIRONMENT} is {named}, which is no file")
    if _MADE.is_file():
        return str(_MADE)
    raise ToolMissing(
        "pynq missing; run: make board, or pip install 'transept[board]' in an environment of its "
        f"own and set {ENVIRONMENT} to its python"
    )
