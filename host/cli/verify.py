"""``transept verify``."""

from __future__ import annotations

from pathlib import Path

from transept.host.report import console
from transept.host.runtime.file import check

__all__ = ["verify"]


def verify(file: Path) -> None:
    """Check a program file without running it, and say what is in it."""
    for line in check(file):
        console.print(line, highlight=False, markup=False)
