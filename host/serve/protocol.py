"""OpenAI's requests and answers as JSON."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transept.host.generation.request import MOST_DRAFT, Request
from transept.host.generation.sampling import Sampling
from transept.host.language.program import LanguageProgram

__all__ = ["ApiError", "Call", "Limits", "read_call"]

#: Tokens of an answer to a prompt that does not say; of one of a conversation: as many as go.
COMPLETION_TOKENS = 16
#: Texts that end an answer, and characters of each.
MOST_ENDS, LONGEST_END = 4, 200
MOST_SEED = 1 << 63
#: What is known of others' options, with the one value that changes nothing.
_NEUTRAL: dict[str, Sequence[Any]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "logprobs": (False, 0),
    "top_logprobs": (0,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "response_format": ({"type": "text"},),
}
_IGNORED = {"user", "store", "metadata", "parallel_tool_calls", "service_tier"}
_COMMON = {
    "model",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "speculate",
}


class ApiError(ValueError):
    """What is wrong with a call: HTTP status, message, and the field."""

    def __init__(self, status: int, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.status, self.field = status, field

    def body(self) -> dict[str, Any]:
        """As clients read it."""
        kind = (
            "invalid_request_error" if self.status < 500 and self.status != 429 else "server_error"
        )
        return {"error": {"message": str(self), "type": kind, "param": self.field, "code": None}}


@dataclass(frozen=True)
class Limits:
    """What a call may ask for, at most: tokens of an answer, prompts, and tokens of a text that
    pages hold; None: as many as the context."""

    tokens: int
    prompts: int
    text: int | None = None


@dataclass(frozen=True)
class Call:
    """A checked call: its requests, texts that end their answers, and how they are told.

    chat: whether it is a conversation; usage: whether a stream ends with the numbers of tokens.
    """

    chat: bool
    model: str
    requests: list[Request]
    ends: tuple[str, ...]
    stream: bool
    usage: bool
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, texts: Sequence[str], reasons: Sequence[str]) -> dict[str, Any]:
        """The answer to the call."""
        key, kind = ("message", "chat.completion") if self.chat else ("text", "text_completion")
        choices = [
            {
                "index": index,
                key: {"role": "assistant", "content": text} if self.chat else text,
                "logprobs": None,
                "finish_reason": reason,
            }
            for index, (text, reason) in enumerate(zip(texts, reasons, strict=True))
        ]
        return self._body(kind, choices) | {"usage": self.tokens()}

    def part(self, index: int, text: str, reason: str, *, first: bool) -> dict[str, Any]:
        """One event of a stream."""
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        said: dict[str, Any] = {"text": text}
        if self.chat:
            delta = {"role": "assistant"} if first else {}
            said = {"delta": delta | ({"content": text} if text or first else {})}
        choice = {"index": index, **said, "logprobs": None, "finish_reason": reason or None}
        return self._body(kind, [choice])

    def last_part(self) -> dict[str, Any]:
        """The event that tells the numbers of tokens."""
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return self._body(kind, []) | {"usage": self.tokens()}

    def _body(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        name = f"{'chatcmpl' if self.chat else 'cmpl'}-{self.id}"
        return {
            "id": name,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }

    def tokens(self) -> dict[str, int]:
        """Of prompts and answers."""
        prompt = sum(len(request.ids) for request in self.requests)
        answer = sum(len(request.answer) for request in self.requests)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": answer,
            "total_tokens": prompt + answer,
        }


def read_call(
    body: Any, program: LanguageProgram, name: str, limits: Limits, *, chat: bool
) -> Call:
    """A call's JSON, checked.

    name: of the model; chat: whether it is a conversation.

    Raises
    ------
    ApiError
        The message names the field, its value and the limit.
    """
    if not isinstance(body, Mapping):
        raise ApiError(400, "the body must be a JSON object")
    _check_names(body, chat=chat)
    asked = _of(body, "model", str, name)
    if asked != name:
        raise ApiError(404, f"there is no model {asked!r}, there is {name}", "model")
    prompts = [_messages(body, program)] if chat else _prompts(body, program)
    if len(prompts) > limits.prompts:
        raise ApiError(400, f"{len(prompts)} prompts, at most {limits.prompts} go", "prompt")
    sampling = _sampling(body)
    speculate = _integer(body, "speculate", 0, MOST_DRAFT, 0)
    requests = []
    for number, ids in enumerate(prompts):
        try:
            program.check_ids(ids)
        except ValueError as error:
            raise ApiError(400, str(error), "messages" if chat else "prompt") from None
        tokens = _most_tokens(body, program.context - len(ids), limits, len(ids), chat=chat)
        stops = program.vocabulary.stops
        requests.append(Request(number, ids, tokens, sampling, stops, speculate))
    stream = _of(body, "stream", bool, False)
    usage = _of(_of(body, "stream_options", Mapping, {}), "include_usage", bool, False)
    return Call(chat, name, requests, _ends(body), stream, usage)


def _check_names(body: Mapping[str, Any], *, chat: bool) -> None:
    known = _COMMON | ({"messages", "max_completion_tokens"} if chat else {"prompt"})
    for name, value in body.items():
        if name in known or name in _IGNORED or value is None:
            continue
        if name not in _NEUTRAL:
            raise ApiError(400, f"there is no option {name}", name)
        if value not in _NEUTRAL[name]:
            raise ApiError(400, f"{name} {value!r:.60} is not there", name)


def _of(body: Mapping[str, Any], name: str, kind: Any, default: Any) -> Any:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (kind in (int, float) and isinstance(value, bool)):
        raise ApiError(400, f"{name} is {value!r:.60}, must be {kind.__name__}", name)
    return value


def _integer(body: Mapping[str, Any], name: str, low: int, high: int, default: int) -> int:
    value = _of(body, name, int, default)
    if not low <= value <= high:
        raise ApiError(400, f"{name} {value} is outside {low} to {high}", name)
    return int(value)


def _real(body: Mapping[str, Any], name: str, default: float) -> float:
    value = body.get(name)
    if value is None:
        return default
    known = isinstance(value, int | float) and not isinstance(value, bool)
    if not known or not abs(value) <= sys.float_info.max:
        raise ApiError(400, f"{name} is {value!r:.60}, must be a number", name)
    return float(value)


def _sampling(body: Mapping[str, Any]) -> Sampling:
    seed = _integer(body, "seed", -MOST_SEED, MOST_SEED - 1, secrets.randbits(62))
    top_k = _integer(body, "top_k", 0, MOST_SEED, 0)
    temperature, top_p = _real(body, "temperature", 1.0), _real(body, "top_p", 1.0)
    try:
        return Sampling(temperature, top_k, top_p, seed % (2 * MOST_SEED))
    except ValueError as error:
        raise ApiError(400, str(error)) from None


def _most_tokens(
    body: Mapping[str, Any], room: int, limits: Limits, prompt: int, *, chat: bool
) -> int:
    """Of an answer to ``prompt`` tokens; what does not say takes what there is room for."""
    name = (
        "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
    )
    if body.get(name) is None:
        held = room if limits.text is None else max(1, limits.text - prompt)
        return min(room, held, limits.tokens if chat else min(limits.tokens, COMPLETION_TOKENS))
    wanted = _integer(body, name, 1, limits.tokens, limits.tokens)
    if wanted > room:
        raise ApiError(400, f"{name} {wanted} exceeds the {room} that the context leaves", name)
    return wanted


def _prompts(body: Mapping[str, Any], program: LanguageProgram) -> list[list[int]]:
    prompt = body.get("prompt")
    if isinstance(prompt, str) or (isinstance(prompt, list) and _are_ids(prompt)):
        prompt = [prompt]
    if not isinstance(prompt, list) or not prompt:
        raise ApiError(400, "prompt must be a text, tokens, or a list of either", "prompt")
    found = []
    for one in prompt:
        if isinstance(one, str):
            found.append(program.vocabulary.encode(one))
        elif isinstance(one, list) and _are_ids(one):
            found.append(one)
        else:
            raise ApiError(400, f"prompt holds {one!r:.60}", "prompt")
    return found


def _are_ids(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(x, int) and not isinstance(x, bool) for x in values)


def _messages(body: Mapping[str, Any], program: LanguageProgram) -> list[int]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ApiError(400, "messages must be a list of at least one", "messages")
    found = []
    for message in messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise ApiError(400, f"messages holds {message!r:.60}, must have a role", "messages")
        found.append({"role": message["role"], "content": _content(message.get("content"))})
    try:
        return program.vocabulary.chat(found)
    except ValueError as error:
        raise ApiError(400, str(error), "messages") from None


def _content(content: Any) -> str:
    """The text of a message, which may come in parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [None]
    texts = [
        part["text"]
        for part in parts
        if isinstance(part, Mapping)
        and part.get("type") == "text"
        and isinstance(part.get("text"), str)
    ]
    if len(texts) < len(parts):
        raise ApiError(400, f"content is {content!r:.60}, must be text", "messages")
    return "".join(texts)


def _ends(body: Mapping[str, Any]) -> tuple[str, ...]:
    stop = body.get("stop")
    ends = [] if stop is None else [stop] if isinstance(stop, str) else stop
    if not isinstance(ends, list) or len(ends) > MOST_ENDS:
        raise ApiError(400, f"stop must be a text, or a list of at most {MOST_ENDS}", "stop")
    for end in ends:
        if not isinstance(end, str) or not 1 <= len(end) <= LONGEST_END:
            raise ApiError(
                400, f"stop holds {end!r:.60}, must be 1 to {LONGEST_END} characters", "stop"
            )
    return tuple(ends)
