"""Requests of one service, each told what becomes of it, once."""

import threading

import pytest

from transept.host.generation.request import Request
from transept.host.generation.session import LanguageSession
from transept.host.serve.service import Event, QueueFullError, Service


class Told(list):
    """Events of one request."""

    def __init__(self):
        super().__init__()
        self.ended = threading.Event()

    def __call__(self, event):
        self.append(event)
        if event.reason:
            self.ended.set()


def opened(llama, **options):
    return Service(LanguageSession(llama, "cpu"), **{"queue": 9, "together": 4} | options)


def test_who_is_done_hears_no_more(llama):
    service, told = opened(llama), Told()
    service.submit(Request(0, [3, 4], 5), (), told)
    assert told.ended.wait(60)
    assert (service.state.running, service.state.waiting) == (0, 0)
    service.close()
    assert [event.reason for event in told if event.reason] == ["length"]


def test_the_end_is_told_to_all(llama):
    service = opened(llama, together=1)
    each = [Told() for _ in range(3)]
    for number, told in enumerate(each):
        service.submit(Request(number, [3, 4], 60), (), told)
    service.close()
    for told in each:
        assert told[-1] == Event("", "error", "the service has ended")
        assert not any(event.reason for event in told[:-1])
    with pytest.raises(QueueFullError, match="the service has ended"):
        service.submit(Request(0, [3], 5), (), Told())


def test_who_leaves_hears_no_more(llama):
    service, told, other = opened(llama), Told(), Told()
    service.cancel(service.submit(Request(0, [3, 4], 60), (), told))
    service.submit(Request(1, [3, 4], 5), (), other)
    assert other.ended.wait(60)
    service.close()
    assert not any(event.reason for event in told)


def test_a_queue_has_room(llama):
    with pytest.raises(ValueError, match="a queue of 0 requests, must be at least 1"):
        opened(llama, queue=0)
