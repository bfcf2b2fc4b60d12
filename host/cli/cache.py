"""``transept cache``."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Annotated

import typer

from transept.host import report
from transept.sim.cache import Entry, cache_dir, entries, prune

__all__ = ["cache"]

DAY_S = 24 * 3600


def cache(
    remove: Annotated[
        bool, typer.Option("--prune", help="remove what was not used for --days")
    ] = False,
    days: Annotated[float, typer.Option("--days", min=0, help="with --prune")] = 30,
) -> None:
    """Show what is kept of builds and synthesis, and remove what is old."""
    if remove:
        _show(f"removed from {cache_dir()}", prune(days * DAY_S))
    _show(str(cache_dir()), entries())


def _show(title: str, found: list[Entry]) -> None:
    """One row for each kind and label."""
    groups: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in found:
        groups[entry.kind, "unfinished" if entry.unfinished else entry.label].append(entry)
    rows = [
        {
            "kind": kind,
            "what": label,
            "entries": len(members),
            "MiB": _mebibytes(members),
            "days_unused": (time.time() - max(entry.last_use for entry in members)) / DAY_S,
        }
        for (kind, label), members in groups.items()
    ]
    report.show_rows(title, rows)
    report.console.print(f"{len(found)} entries, {_mebibytes(found):,.1f} MiB", highlight=False)


def _mebibytes(found: list[Entry]) -> float:
    return sum(entry.nbytes for entry in found) / (1 << 20)
