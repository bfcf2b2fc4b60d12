"""Requests that join between steps, grow together and leave: continuous batching (Orca, Yu et al.
2022)."""

from __future__ import annotations

from collections import deque

from transept.host.generation.decoder import Cost, Growth
from transept.host.generation.request import Request
from transept.host.generation.session import LanguageSession

__all__ = ["MOST_TOGETHER", "Batch"]

#: Requests that grow together, at most: the rows of the array.
MOST_TOGETHER = 16


class Batch:
    """What runs on a session, and what waits for pages.

    A request takes the pages of its longest answer when it joins, so that it never runs out of
    them. prefill, decode: what the first step of requests took, and all others.
    """

    def __init__(self, session: LanguageSession, most: int = MOST_TOGETHER) -> None:
        if not 1 <= most <= MOST_TOGETHER:
            raise ValueError(f"{most} sequences together are outside 1 to {MOST_TOGETHER}")
        self._session, self._most = session, most
        self._waiting: deque[Request] = deque()
        self.running: list[Request] = []
        self.prefill, self.decode = Cost(), Cost()

    def __bool__(self) -> bool:
        return bool(self._waiting or self.running)

    @property
    def waiting(self) -> int:
        """Requests that have not joined."""
        return len(self._waiting)

    def add(self, request: Request) -> None:
        """Let a request join as soon as there is room.

        Raises
        ------
        ValueError
            As ``check``.
        """
        self.check(request)
        self._waiting.append(request)

    def check(self, request: Request) -> None:
        """Look whether a request can join.

        Raises
        ------
        ValueError
            If there never is room for it, or its tokens are none of the model's.
        """
        program, session = self._session.program, self._session
        program.check_ids(request.ids)
        whole = len(request.ids) + request.tokens
        if whole > program.context:
            raise ValueError(
                f"{len(request.ids)} tokens of the prompt and {request.tokens} of the answer "
                f"exceed the context of {program.context}"
            )
        if session.counts_pages and request.pages > session.pages:
            raise ValueError(
                f"{whole} tokens need {request.pages} pages of keys and values, there are "
                f"{session.pages}"
            )

    def cancel(self, request: Request) -> None:
        """Nobody waits for a request any more: its pages are free."""
        if request in self._waiting:
            self._waiting.remove(request)
        if request in self.running:
            self.running.remove(request)
            self._leave(request)

    def step(self) -> list[Request]:
        """One step of all that run, after those that fit have joined; the requests that got
        tokens."""
        joined = self._join()
        if joined:
            return joined
        before = self._session.cost
        drafts, growths = [], []
        rows = self._session.rows_together(len(self.running))
        for request in self.running:
            assert request.sequence is not None
            ids = request.next_ids(rows)
            lacks = len(request.text) - len(request.sequence.tokens)
            drafts.append(ids[lacks:])
            growths.append(Growth(request.sequence, ids, len(ids) - lacks + 1))
        logits = self._session.grow(growths)
        grown = list(self.running)
        for request, drafted, found in zip(grown, drafts, logits, strict=True):
            assert request.sequence is not None
            length = len(request.sequence.tokens) - len(drafted)
            self._session.truncate(request.sequence, length + request.take(drafted, found))
        self.decode += self._session.cost - before
        self._end()
        return grown

    def _join(self) -> list[Request]:
        """Prompts of the first that wait; each on its own, so that the next can share with it."""
        joined = []
        while self._waiting and len(self.running) < self._most and self._fits(self._waiting[0]):
            request = self._waiting.popleft()
            before = self._session.cost
            request.sequence = self._session.open(request.ids)
            self.running.append(request)
            (rows,) = self._session.grow([Growth(request.sequence, request.next_ids(1), 1)])
            request.take([], rows)
            self.prefill += self._session.cost - before
            joined.append(request)
        self._end()
        return joined

    def _fits(self, request: Request) -> bool:
        taken = sum(other.pages for other in self.running)
        return not self._session.counts_pages or taken + request.pages <= self._session.pages

    def _end(self) -> None:
        for request in [request for request in self.running if request.reason]:
            self.running.remove(request)
            self._leave(request)

    def _leave(self, request: Request) -> None:
        if request.sequence is not None:
            self._session.close(request.sequence)
            request.sequence = None
