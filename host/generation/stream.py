"""Text as it comes: whole characters alone, and nothing of what ends it."""

from __future__ import annotations

from collections.abc import Sequence

from transept.host.generation.request import Request
from transept.host.language.tokenizer import Vocabulary

__all__ = ["TextStream"]

#: What stands where bytes make no character, yet.
_BROKEN = "\N{REPLACEMENT CHARACTER}"


class TextStream:
    """The answer of one request, in pieces.

    ends: texts that end it, and are no part of it; ended: whether one came.
    """

    def __init__(self, vocabulary: Vocabulary, request: Request, ends: Sequence[str] = ()) -> None:
        self._vocabulary, self._request, self._ends = vocabulary, request, tuple(ends)
        self.text, self.ended = "", False

    def new(self) -> str:
        """What there is of it since the last call; characters that miss bytes come later, and so
        does what may be the beginning of an end."""
        if self.ended:
            return ""
        text = self._vocabulary.decode(self._request.answer)
        if not self._request.reason:
            text = text.rstrip(_BROKEN)
        text = self._before_an_end(text)
        new = text[len(self.text) :]
        self.text += new
        return new

    def _before_an_end(self, text: str) -> str:
        found = [at for end in self._ends if (at := text.find(end)) >= 0]
        if found:
            self.ended = True
            return text[: min(found)]
        if self._request.reason:
            return text
        held = max((_beginning(text, end) for end in self._ends), default=0)
        return text[: len(text) - held]


def _beginning(text: str, end: str) -> int:
    """Characters at the end of a text that ``end`` begins with."""
    return next((n for n in range(len(end) - 1, 0, -1) if text.endswith(end[:n])), 0)
