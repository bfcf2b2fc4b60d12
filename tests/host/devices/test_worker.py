"""Calls in a thread of their own."""

import threading
from concurrent.futures import TimeoutError as FutureTimeoutError

import pytest

from transept.host.devices.worker import Worker


def test_results_and_errors_come_back():
    worker = Worker("it")
    names = {worker.call(lambda: threading.current_thread().name, 10) for _ in range(3)}
    assert names == {"it"}
    with pytest.raises(ZeroDivisionError):
        worker.call(lambda: 1 // 0, 10)
    assert worker.call(lambda: 7, 10) == 7


def test_what_never_returns_is_given_up_and_keeps_nothing_from_ending():
    worker, free = Worker("it"), threading.Event()
    with pytest.raises(FutureTimeoutError):
        worker.call(free.wait, 0.01)
    with pytest.raises(FutureTimeoutError):
        worker.call(lambda: 7, 0.01)  # behind it
    free.set()
    assert worker.call(lambda: 8, 10) == 8
    assert all(t.daemon for t in threading.enumerate() if t.name == "it")
