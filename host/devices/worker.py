"""Calls that may never return: made in another thread, and given up after some seconds."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError  # the built-in one since 3.11
from typing import Any, TypeVar

__all__ = ["UnansweredError", "Worker"]

Answer = TypeVar("Answer")


class UnansweredError(Exception):
    """A call has neither returned nor raised in time."""


class Worker:
    """One thread, which does one call after the other and keeps no process from ending."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def call(self, function: Callable[[], Answer], seconds: float) -> Answer:
        """What a function returns or raises.

        Raises
        ------
        UnansweredError
            If it does neither within so many seconds, or one before it still does not.
        """
        answer: Future[Answer] = Future()
        self._calls.put((answer, function))
        try:
            return answer.result(seconds)
        except FutureTimeoutError:
            if answer.done():  # just now, or what the function raised
                return answer.result()
            raise UnansweredError(f"no answer within {seconds:g} s") from None

    def _run(self) -> None:
        while True:
            answer, function = self._calls.get()
            try:
                answer.set_result(function())
            except BaseException as error:
                answer.set_exception(error)
