"""``transept disasm``."""

from __future__ import annotations

from pathlib import Path

from transept.host.runtime.program import load

__all__ = ["disasm"]


def disasm(file: Path) -> None:
    """Print the instructions of a program file, with the operator of each."""
    for region in load(file).regions:
        for executable in region.executables.values():
            print(f"; {region.name}, {executable.shape}")
            lines = zip(executable.labels, executable.decoded(), strict=True)
            for index, (label, instruction) in enumerate(lines):
                print(f"{index:6} {instruction}  ; {label}")
