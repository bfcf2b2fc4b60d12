"""The HTTP application: completions and conversations, whole or as a stream."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from transept.host.serve.protocol import ApiError, Call, Limits, read_call
from transept.host.serve.service import Event, QueueFullError, Service

__all__ = ["application"]

#: Bytes of a call.
MOST_BYTES = 1 << 20
#: Seconds between two looks whether a client is still there.
LOOK_S = 0.2


def application(service: Service, name: str, limits: Limits) -> Starlette:
    """``/v1/models``, ``/v1/completions``, ``/v1/chat/completions`` and ``/health``; name: of the
    model."""

    async def models(request: Request) -> Response:
        return JSONResponse(
            {
                "object": "list",
                "data": [{"id": name, "object": "model", "created": 0, "owned_by": "transept"}],
            }
        )

    async def health(request: Request) -> Response:
        session = service.session
        facts = {"device": session.device, "notes": session.notes}
        return JSONResponse(service.state._asdict() | facts)

    async def answer(request: Request) -> Response:
        chat = request.url.path.endswith("/chat/completions")
        try:
            body = await _json(request)
            call = await asyncio.to_thread(
                read_call, body, service.session.program, name, limits, chat=chat
            )
            answers = _Answers(service, call)
        except ClientDisconnect:
            return Response(status_code=499)
        except ApiError as error:
            return JSONResponse(error.body(), error.status)
        if call.stream:
            return _Stream(call, answers)
        return await _whole(request, call, answers)

    posts = [
        Route(path, answer, methods=["POST"])
        for path in ("/v1/completions", "/v1/chat/completions")
    ]
    return Starlette(routes=[Route("/v1/models", models), Route("/health", health), *posts])


class _Answers:
    """The requests of a call in the service; leaving it cancels what is not done."""

    def __init__(self, service: Service, call: Call) -> None:
        self._service, self._loop = service, asyncio.get_running_loop()
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self._tickets: list[Any] = []
        self.left = len(call.requests)
        try:
            for index, request in enumerate(call.requests):
                self._tickets.append(service.submit(request, call.ends, self._listener(index)))
        except ValueError as error:
            self.cancel()
            raise ApiError(400, str(error)) from None
        except QueueFullError as error:
            self.cancel()
            raise ApiError(429, str(error)) from None

    def _listener(self, index: int) -> Any:
        def listen(event: Event) -> None:
            with contextlib.suppress(RuntimeError):  # the server has ended
                self._loop.call_soon_threadsafe(self._events.put_nowait, (index, event))

        return listen

    async def next(self) -> tuple[int, Event]:
        """The index of a request, and what has become of it."""
        index, event = await self._events.get()
        if event.reason:
            self.left -= 1
        return index, event

    def cancel(self) -> None:
        """Nobody waits any more."""
        for ticket in self._tickets:
            self._service.cancel(ticket)


async def _json(request: Request) -> Any:
    """The body, which may be no longer than ``MOST_BYTES``."""
    parts, size = [], 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > MOST_BYTES:
            raise ApiError(413, f"the body exceeds {MOST_BYTES} bytes")
    try:
        body = json.loads(b"".join(parts))
        json.dumps(body, ensure_ascii=False).encode()  # no half of a surrogate pair
        return body
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"the body is no JSON: {error}") from None


async def _whole(request: Request, call: Call, answers: _Answers) -> Response:
    """All of the answers at once."""
    texts, reasons = [""] * len(call.requests), [""] * len(call.requests)
    waiting = asyncio.ensure_future(answers.next())
    try:
        while not all(reasons):
            done, _ = await asyncio.wait({waiting}, timeout=LOOK_S)
            if not done:
                if await request.is_disconnected():
                    return Response(status_code=499)
                continue
            index, event = waiting.result()
            waiting = asyncio.ensure_future(answers.next())
            if event.error:
                return JSONResponse(ApiError(500, event.error).body(), 500)
            texts[index] += event.text
            reasons[index] = event.reason
    finally:
        waiting.cancel()
        answers.cancel()
    return JSONResponse(call.whole(texts, reasons))


class _Stream(StreamingResponse):
    """The answers as they come; a client that goes away ends them, even before the first part."""

    def __init__(self, call: Call, answers: _Answers) -> None:
        super().__init__(_events(call, answers), media_type="text/event-stream")
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answers.cancel()


async def _events(call: Call, answers: _Answers) -> AsyncIterator[str]:
    told: set[int] = set()
    while answers.left:
        index, event = await answers.next()
        if event.error:
            yield _event(ApiError(500, event.error).body())
            return
        yield _event(call.part(index, event.text, event.reason, first=index not in told))
        told.add(index)
    if call.usage:
        yield _event(call.last_part())
    yield "data: [DONE]\n\n"


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body)}\n\n"
