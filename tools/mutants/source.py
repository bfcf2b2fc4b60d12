"""A source file, addressed as ``ast`` does: lines from 1, columns in bytes."""

from __future__ import annotations

import ast
import re
from itertools import accumulate

__all__ = ["Source", "Span"]

#: First byte, and the one behind the last.
Span = tuple[int, int]

_COMMENT = re.compile(rb"#[^\n]*")


class Source:
    """The text of a file and its syntax tree.

    Raises
    ------
    SyntaxError
        If it is no Python.
    """

    def __init__(self, text: str) -> None:
        self.raw = text.encode()
        self.tree = ast.parse(text)
        lines = self.raw.split(b"\n")
        self._starts = [0, *accumulate(len(line) + 1 for line in lines)]

    def span(self, node: ast.AST) -> Span:
        """Where a node stands."""
        start = self._starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
        end = self._starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]
        return start, end

    def text(self, node: ast.AST) -> str:
        """The text of a node."""
        start, end = self.span(node)
        return self.raw[start:end].decode()

    def between(self, left: ast.AST, right: ast.AST, token: str) -> Span:
        """Where ``token`` stands between two nodes, which have nothing but operators, parentheses
        and comments between them."""
        start, end = self.span(left)[1], self.span(right)[0]
        gap = _COMMENT.sub(lambda found: b" " * len(found[0]), self.raw[start:end])
        found = re.search(re.escape(token).replace(r"\ ", r"\s+").encode(), gap)
        assert found, f"no {token} in {gap!r}"
        return start + found.start(), start + found.end()

    def line(self, position: int) -> int:
        """The number of the line that holds a byte."""
        return self.raw.count(b"\n", 0, position) + 1

    def lines(self, span: Span) -> Span:
        """The bytes of all lines that a span touches."""
        start = self.raw.rfind(b"\n", 0, span[0]) + 1
        end = self.raw.find(b"\n", span[1])
        return start, len(self.raw) if end < 0 else end
