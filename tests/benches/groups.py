"""Groups of the GEMM engine as tests look at them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["flat"]


def flat(view: Any, wanted: Iterable[str]) -> dict[str, Any]:
    """The wanted fields of a group, by their paths: names with points between."""
    found = {}
    for path in wanted:
        part = view
        for name in path.split("."):
            part = part[name]
        found[path] = part
    return found
