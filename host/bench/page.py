"""Tables as notebooks and pages show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from transept.host.report import cell

if TYPE_CHECKING:
    from IPython.display import Markdown

__all__ = ["markdown", "table"]


def markdown(rows: Sequence[Mapping[str, object]]) -> str:
    """A Markdown table with the keys of the first row as its columns; numbers are on the right.

    Raises
    ------
    KeyError
        If a row lacks a column.
    """
    names = list(rows[0])
    numbers = [isinstance(rows[0][name], int | float) for name in names]
    rule = ["--:" if number else "---" for number in numbers]
    body = [[cell(row[name]).replace("|", "\\|") for name in names] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in (names, rule, *body))


def table(rows: Sequence[Mapping[str, object]]) -> Markdown:
    """``markdown``, as a notebook displays it."""
    from IPython.display import Markdown

    return Markdown(markdown(rows))  # type: ignore[no-untyped-call]
