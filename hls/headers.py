"""The kernels in C++ for Vitis, with the tables that they include.

``python -m transept.hls.headers FOLDER`` writes all of it for a project of one's own.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from transept.golden.layouts import CHANNEL_RECORD
from transept.golden.numerics import tables
from transept.hls.kernels import VANISHED

__all__ = ["VITIS", "sources", "write"]

VITIS = Path(__file__).resolve().parent / "vitis"


def sources() -> dict[str, str]:
    """The text of every file by its name."""
    found = {path.name: path.read_text() for path in sorted(VITIS.iterdir()) if path.is_file()}
    return found | {"tables.h": _tables()}


def write(folder: Path) -> None:
    """Write every file into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in sources().items():
        (folder / name).write_text(text)


def _tables() -> str:
    numbers = {
        "VANISHED": VANISHED,
        "SHIFT_BIT": CHANNEL_RECORD["shift"].low,
        "BIAS_BIT": CHANNEL_RECORD["bias"].low,
    }
    parts = ["// Written from golden.", "#pragma once", '#include "polynomial.h"']
    parts += ["namespace transept {"]
    parts += [f"const int {name} = {value};" for name, value in numbers.items()]
    parts += [
        _table("EXP2", tables.EXP2),
        _table("RSQRT", tables.RSQRT),
        "}  // namespace transept",
    ]
    return "\n".join(parts) + "\n"


def _table(name: str, rows: Sequence[tuple[int, int, int]]) -> str:
    lines = "".join(f"  {{{c0}, {c1}, {c2}}},\n" for c0, c1, c2 in rows)
    return f"const Segment {name}[{len(rows)}] = {{\n{lines}}};"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m transept.hls.headers FOLDER")
    write(Path(sys.argv[1]))
