"""Drafts of what comes next, from what was there before: no second model."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["LONGEST_MATCH", "draft"]

#: Tokens at the end of a sequence that are looked up, at most.
LONGEST_MATCH = 4


def draft(tokens: Sequence[int], count: int) -> list[int]:
    """Up to ``count`` tokens that may follow: those behind the latest earlier place where the last
    tokens stand, as many of them as possible (prompt lookup; Saxena 2023, Yang et al. 2023)."""
    for length in range(LONGEST_MATCH, 0, -1):
        end = list(tokens[-length:])
        for start in range(len(tokens) - length - 1, -1, -1):
            if list(tokens[start : start + length]) == end:
                return list(tokens[start + length :][:count])
    return []
