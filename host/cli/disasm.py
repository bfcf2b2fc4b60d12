"""``transept disasm``."""

from __future__ import annotations

from pathlib import Path

from transept.host.launch import Launch

__all__ = ["disasm"]


def disasm(file: Path) -> None:
    """Print the instructions of a program file."""
    for index, instruction in enumerate(Launch.load(file).decoded()):
        print(f"{index:6} {instruction}")
