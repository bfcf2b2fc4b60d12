"""Requests of one service, each told what becomes of it, once."""

import threading

import pytest

from transept.host.devices.base import DeviceError
from transept.host.generation.request import Request
from transept.host.generation.session import LanguageSession
from transept.host.serve.service import Event, QueueFullError, Service, State


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
    opened(llama, queue=1).close()
    with pytest.raises(ValueError, match="a queue of 0 requests, must be at least 1"):
        opened(llama, queue=0)


def test_a_thread_of_a_service_ends_with_the_program(llama):
    before = {*threading.enumerate()}
    service = opened(llama)
    (thread,) = {*threading.enumerate()} - before
    assert thread.daemon
    service.close()
    assert not thread.is_alive()


def test_what_runs_and_waits(llama):
    service = opened(llama, together=1, queue=3)
    grow, seen, told = service.session.grow, [], [Told() for _ in range(4)]
    started, go = threading.Event(), threading.Event()

    def held(growths):
        started.set()
        assert go.wait(60)
        return grow(growths)

    service.session.grow = held
    service.submit(Request(0, [3, 4], 1), (), told[0])
    assert started.wait(60)
    for number in (1, 2):
        service.submit(Request(number, [3, 4], 1), (), told[number])
        seen.append(service.state)
    service.session.grow = lambda growths: (seen.append(service.state), grow(growths))[1]
    go.set()
    assert told[2].ended.wait(60)
    service.close()
    pages = service.session.pages
    assert seen == [
        State(1, 1, pages, pages),
        State(1, 2, pages, pages),
        State(1, 1, pages, pages),
        State(1, 0, pages, pages),
    ]


def test_a_failure_is_told_once_to_all_that_there_are(llama):
    service, told = opened(llama), [Told() for _ in range(3)]
    grow = service.session.grow

    def failing(growths):
        service.session.grow = grow
        service.submit(Request(1, [3, 4], 5), (), told[1])
        raise DeviceError("cpu: no interrupt")

    service.session.grow = failing
    service.submit(Request(0, [3, 4], 5), (), told[0])
    assert told[1].ended.wait(60)
    service.submit(Request(2, [3, 4], 5), (), told[2])
    assert told[2].ended.wait(60)
    service.close()
    for each in told[:2]:
        assert each == [Event("", "error", "cpu: no interrupt")]
    assert [event.reason for event in told[2] if event.reason] == ["length"]
