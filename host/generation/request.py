"""One prompt, and what has come of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from transept.host.generation.lookup import draft
from transept.host.generation.sampling import Sampling, log_softmax
from transept.host.generation.session import LanguageSequence
from transept.host.runtime.paged import pages_of

__all__ = ["MOST_DRAFT", "Request"]

#: Tokens of a draft, at most: with the one before them they fill the rows of the array.
MOST_DRAFT = 15


@dataclass(eq=False)
class Request:
    """A prompt with its answer.

    number: tells it from others that are drawn with the same seed; ids: of the prompt; tokens: of
    the answer, at most; stops: tokens that end it; speculate: tokens of a draft, at most.
    answer, logprobs: so far; reason: why it ended, ``stop`` or ``length``, empty before; steps: in
    which it got tokens.

    Raises
    ------
    ValueError
        If a number is outside its limits.
    """

    number: int
    ids: list[int]
    tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    stops: frozenset[int] = frozenset()
    speculate: int = 0
    answer: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    reason: str = ""
    steps: int = 0
    sequence: LanguageSequence | None = None

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise ValueError(f"{self.tokens} tokens of an answer, must be at least 1")
        if not 0 <= self.speculate <= MOST_DRAFT:
            raise ValueError(f"drafts of {self.speculate} tokens are outside 0 to {MOST_DRAFT}")

    @property
    def text(self) -> list[int]:
        """Prompt and answer."""
        return [*self.ids, *self.answer]

    @property
    def pages(self) -> int:
        """Those of its longest text."""
        return pages_of(len(self.ids) + self.tokens)

    def next_ids(self, rows: int) -> list[int]:
        """What the sequence is to grow by: what it lacks, and a draft of what may follow, in all up
        to so many tokens."""
        assert self.sequence is not None
        lacks = self.text[len(self.sequence.tokens) :]
        if not self.answer:
            return lacks
        room = min(self.speculate, rows - len(lacks), self.tokens - len(self.answer) - 1)
        return [*lacks, *draft(self.text, room)] if room > 0 else lacks

    def take(self, drafted: Sequence[int], logits: np.ndarray) -> int:
        """Choose tokens from the logits behind the last token and each of a draft, as far as the
        draft is what is chosen; returns how many of it are."""
        self.steps += 1
        for index, row in enumerate(logits):
            token = self.sampling.choose(row, self.number, len(self.ids) + len(self.answer))
            self.answer.append(token)
            self.logprobs.append(float(log_softmax(row)[token]))
            if token in self.stops:
                self.reason = "stop"
            elif len(self.answer) == self.tokens:
                self.reason = "length"
            if self.reason or index == len(drafted) or drafted[index] != token:
                return index
        raise AssertionError("there are logits behind the whole draft")
