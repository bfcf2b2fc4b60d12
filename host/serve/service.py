"""One session that many ask: a thread that lets their requests join, grow and leave."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from transept.host.generation.batch import Batch
from transept.host.generation.request import Request
from transept.host.generation.session import LanguageSession
from transept.host.generation.stream import TextStream

__all__ = ["Event", "QueueFullError", "Service", "State", "Ticket"]


class QueueFullError(RuntimeError):
    """As many requests wait as may; the message has the number."""


class Event(NamedTuple):
    """New text of an answer; reason: why it ended, ``stop``, ``length`` or ``error``, at its end;
    error: what went wrong."""

    text: str
    reason: str = ""
    error: str = ""


class State(NamedTuple):
    """Requests that run and wait, and pages that no one has."""

    running: int
    waiting: int
    free_pages: int
    pages: int


@dataclass(eq=False)
class Ticket:
    """One request; listen: called in the thread of the service with all that becomes of it."""

    request: Request
    stream: TextStream
    listen: Callable[[Event], None]


class Service:
    """Requests of any thread on one session, which the thread of the service alone uses.

    queue: requests that may wait, at most; together: that grow in one step.
    """

    def __init__(self, session: LanguageSession, *, queue: int, together: int) -> None:
        if queue < 1:
            raise ValueError(f"a queue of {queue} requests, must be at least 1")
        self.session, self._queue = session, queue
        self._batch = Batch(session, together)
        self._changed = threading.Condition()
        self._tickets: dict[Request, Ticket] = {}
        self._new: list[Ticket] = []
        self._cancelled: list[Ticket] = []
        self._ends = False
        self._thread = threading.Thread(target=self._work, name="transept", daemon=True)
        self._thread.start()

    def check(self, request: Request) -> None:
        """ValueError if there will never be room for a request."""
        self._batch.check(request)

    def submit(
        self, request: Request, ends: Sequence[str], listen: Callable[[Event], None]
    ) -> Ticket:
        """Let a request join; ends: texts that end its answer.

        Raises
        ------
        ValueError
            If there will never be room for it, or its tokens are none of the model's.
        QueueFullError
            If too many wait.
        """
        self.check(request)
        stream = TextStream(self.session.program.vocabulary, request, ends)
        ticket = Ticket(request, stream, listen)
        with self._changed:
            if self._ends:
                raise QueueFullError("the service has ended")
            waiting = len(self._new) + self._batch.waiting
            if waiting >= self._queue:
                raise QueueFullError(f"{waiting} requests wait, at most {self._queue} may")
            self._new.append(ticket)
            self._changed.notify()
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Nobody listens any more; what the request has is freed before the next step."""
        with self._changed:
            self._cancelled.append(ticket)
            self._changed.notify()

    @property
    def state(self) -> State:
        """What runs and waits now."""
        with self._changed:
            waiting = len(self._new) + self._batch.waiting
        session = self.session
        return State(len(self._batch.running), waiting, session.free_pages, session.pages)

    def close(self) -> None:
        """End after the step that runs; what is not done then ends with an error."""
        with self._changed:
            self._ends = True
            self._changed.notify()
        self._thread.join()

    # --- the thread
    def _work(self) -> None:
        while self._take():
            try:
                grown = self._batch.step()
            except Exception as error:  # of the device: nobody else can tell those who wait
                self._fail(str(error))
                continue
            for request in grown:
                self._tell(self._tickets[request])
        self._fail("the service has ended")

    def _take(self) -> bool:
        """Wait until there is something to do, and let requests join and leave; False: end."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._batch or self._new or self._cancelled or self._ends
            )
            for ticket in self._new:
                self._tickets[ticket.request] = ticket
                self._batch.add(ticket.request)
            for ticket in self._cancelled:
                if self._tickets.pop(ticket.request, None) is not None:
                    self._batch.cancel(ticket.request)
            self._new, self._cancelled = [], []
            return not self._ends

    def _tell(self, ticket: Ticket) -> None:
        text = ticket.stream.new()
        reason = "stop" if ticket.stream.ended else ticket.request.reason
        if reason:
            del self._tickets[ticket.request]
            self._batch.cancel(ticket.request)
        if text or reason:
            ticket.listen(Event(text, reason))

    def _fail(self, error: str) -> None:
        """End all that there are."""
        with self._changed:
            tickets = [*self._tickets.values(), *self._new]
            self._new = []
        self._tickets.clear()
        for ticket in tickets:
            self._batch.cancel(ticket.request)
            ticket.listen(Event("", "error", error))
