"""Text as it comes: whole characters alone."""

from __future__ import annotations

from transept.host.generation.request import Request
from transept.host.language.tokenizer import Vocabulary

__all__ = ["TextStream"]

#: What stands where bytes make no character, yet.
_BROKEN = "\N{REPLACEMENT CHARACTER}"


class TextStream:
    """The answer of one request, in pieces."""

    def __init__(self, vocabulary: Vocabulary, request: Request) -> None:
        self._vocabulary, self._request = vocabulary, request
        self._shown = ""

    def new(self) -> str:
        """What there is of it since the last call; characters that miss bytes come later."""
        text = self._vocabulary.decode(self._request.answer)
        if not self._request.reason:
            text = text.rstrip(_BROKEN)
        new = text[len(self._shown) :]
        self._shown += new
        return new
