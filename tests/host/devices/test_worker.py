"""Calls in another thread."""

import threading

import pytest

from transept.host.devices.worker import UnansweredError, Worker


def test_results_and_errors_come_back():
    worker = Worker("it")
    names = {worker.call(lambda: threading.current_thread().name, 10) for _ in range(3)}
    assert names == {"it"}
    with pytest.raises(ZeroDivisionError):
        worker.call(lambda: 1 // 0, 10)
    assert worker.call(lambda: 7, 10) == 7


def test_a_function_may_have_a_limit_of_its_own():
    def late():
        raise TimeoutError("the port has taken no byte")

    with pytest.raises(TimeoutError, match=r"^the port has taken no byte$"):
        Worker("it").call(late, 10)


def test_what_never_returns_is_given_up_and_keeps_nothing_from_ending():
    worker, free = Worker("it"), threading.Event()
    with pytest.raises(UnansweredError):
        worker.call(free.wait, 0.01)
    with pytest.raises(UnansweredError):
        worker.call(lambda: 7, 0.01)  # behind it
    free.set()
    assert worker.call(lambda: 8, 10) == 8
    assert all(t.daemon for t in threading.enumerate() if t.name == "it")
