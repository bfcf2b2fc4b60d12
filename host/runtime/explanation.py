"""What ``explain`` said of a program, read from its file."""

from __future__ import annotations

from typing import Any

from transept.host.runtime.manifest import Node

__all__ = ["read_explanation"]

MOST_ENTRIES, MOST_OPERATORS = 1 << 12, 1 << 16
LONGEST_REASON = 4000
#: Counts and cycles; a real number keeps them exactly.
MOST = 1 << 53

_COUNTS = ("linears_total", "linears_on", "attention_total", "attention_on")


def read_explanation(node: Node) -> dict[str, Any] | None:
    """The dictionary that ``Program.explain`` gives; None if the file has none.

    Raises
    ------
    ProgramError
        If a field is not what it must be.
    """
    if node.optional() is None:
        return None
    parts = node.fields(*_COUNTS, "macs_share", "predicted_cycles", "regions", "fallback")
    found: dict[str, Any] = {name: parts[name].integer(0, MOST) for name in _COUNTS}
    found["macs_share"] = parts["macs_share"].number(0, 1)
    found["predicted_cycles"] = parts["predicted_cycles"].integer(0, MOST)
    found["regions"] = [_read_region(entry) for entry in parts["regions"].items(MOST_ENTRIES)]
    found["fallback"] = [_read_fallback(entry) for entry in parts["fallback"].items(MOST_ENTRIES)]
    return found


def _read_region(node: Node) -> dict[str, Any]:
    parts = node.fields("name", "operators", "macs", "predicted_cycles")
    return {
        "name": parts["name"].text(),
        "operators": [entry.text() for entry in parts["operators"].items(MOST_OPERATORS)],
        "macs": parts["macs"].integer(0, MOST),
        "predicted_cycles": parts["predicted_cycles"].integer(0, MOST),
    }


def _read_fallback(node: Node) -> dict[str, Any]:
    parts = node.fields("name", "operator", "macs", "reason")
    return {
        "name": parts["name"].text(LONGEST_REASON),
        "operator": parts["operator"].text(LONGEST_REASON),
        "macs": parts["macs"].integer(0, MOST),
        "reason": parts["reason"].text(LONGEST_REASON),
    }
