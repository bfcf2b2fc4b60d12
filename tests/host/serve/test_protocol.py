"""Calls as JSON: what they may ask for, what is refused, and how answers are told."""

import re

import pytest

from transept.host.generation.request import Request
from transept.host.generation.sampling import Sampling
from transept.host.serve.protocol import ApiError, Call, Limits, read_call

LIMITS = Limits(40, 4)
QUESTION = [{"role": "user", "content": "he was here"}]


def read(program, limits=LIMITS, **body):
    chat = "messages" in body
    if not chat:
        body = {"prompt": "once"} | body
    return read_call(body, program, "it", limits, chat=chat)


# --- answers
@pytest.fixture(params=[True, False], ids=["chat", "completion"])
def call(request):
    """Of two requests, one of which has more tokens."""
    one, other = Request(0, [3, 4], 5, answer=[7, 8, 9]), Request(1, [5], 5, answer=[6])
    return Call(request.param, "it", [one, other], (), True, True, "1a", 99)


USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


def told(call, kind, choices):
    name = "chatcmpl-1a" if call.chat else "cmpl-1a"
    return {"id": name, "object": kind, "created": 99, "model": "it", "choices": choices}


def choice(index, said, reason):
    return {"index": index, "logprobs": None, "finish_reason": reason, **said}


def test_the_whole_answer(call):
    said = [{"text": "a"}, {"text": "b"}]
    if call.chat:
        said = [{"message": {"role": "assistant", "content": text}} for text in "ab"]
    kind = "chat.completion" if call.chat else "text_completion"
    choices = [choice(0, said[0], "stop"), choice(1, said[1], "length")]
    found = call.whole(["a", "b"], ["stop", "length"])
    assert found == told(call, kind, choices) | {"usage": USAGE}


def test_parts_of_a_stream(call):
    kind = "chat.completion.chunk" if call.chat else "text_completion"
    for text, reason, first, delta in (
        ("a", "", True, {"role": "assistant", "content": "a"}),
        ("", "", True, {"role": "assistant", "content": ""}),
        ("a", "", False, {"content": "a"}),
        ("", "stop", False, {}),
    ):
        said = {"delta": delta} if call.chat else {"text": text}
        found = call.part(1, text, reason, first=first)
        assert found == told(call, kind, [choice(1, said, reason or None)])
    assert call.last_part() == told(call, kind, []) | {"usage": USAGE}


def test_every_call_has_a_name_of_its_own(llama):
    names = {read(llama).id for _ in range(3)}
    assert len(names) == 3
    assert all(re.fullmatch("[0-9a-f]{24}", name) for name in names)


@pytest.mark.parametrize("status", [400, 404, 413, 428, 429, 430, 499, 500, 501])
def test_errors_tell_whose_fault_it_is(status):
    kind = "server_error" if status in (429, 500, 501) else "invalid_request_error"
    error = {"message": "it is so", "type": kind, "param": "prompt", "code": None}
    assert ApiError(status, "it is so", "prompt").body() == {"error": error}


# --- what a call may say
def test_options_that_change_nothing(llama):
    neutral = {
        "n": [1],
        "best_of": [1],
        "echo": [False],
        "suffix": [""],
        "logprobs": [False, 0],
        "top_logprobs": [0],
        "presence_penalty": [0],
        "frequency_penalty": [0.0],
        "logit_bias": [{}],
        "tools": [[]],
        "tool_choice": ["none", "auto"],
        "response_format": [{"type": "text"}],
        "user": ["he"],
        "store": [True],
        "metadata": [{"a": 1}],
        "parallel_tool_calls": [False],
        "service_tier": ["auto"],
        "colour": [None],
    }
    for name, values in neutral.items():
        for value in (*values, None):
            read(llama, **{name: value})


def test_what_a_call_says(llama):
    said = {
        "model": "it",
        "prompt": [[3, 4], [5], [6], [7]],
        "max_tokens": 40,
        "temperature": 0,
        "top_p": 1,
        "top_k": 1 << 63,
        "seed": -1 << 63,
        "speculate": 15,
        "stop": ["a", "b" * 200, "cd", "e"],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    call = read(llama, **said)
    for number, request in enumerate(call.requests):
        assert (request.number, request.ids, request.tokens) == (number, said["prompt"][number], 40)
        assert request.sampling == Sampling(0.0, 1 << 63, 1.0, 1 << 63)
        assert request.speculate == 15
    assert len(call.requests) == 4
    assert call.ends == tuple(said["stop"])
    assert (call.chat, call.model, call.stream, call.usage) == (False, "it", True, True)
    quiet = read(llama, stream=True, stream_options={}, seed=(1 << 63) - 1, max_tokens=1)
    assert (quiet.stream, quiet.usage) == (True, False)
    (request,) = quiet.requests
    assert (request.sampling.seed, request.sampling.top_k, request.tokens) == ((1 << 63) - 1, 0, 1)


def test_who_names_no_seed_is_drawn_anew(llama):
    seeds = {read(llama).requests[0].sampling.seed for _ in range(4)}
    assert len(seeds) == 4


def test_tokens_of_an_answer(llama):
    """As many as are said, or as there is room for in the context and in the pages."""
    (request,) = read(llama, prompt=[3] * 60, max_tokens=4).requests
    assert request.tokens == 4
    (request,) = read(llama, prompt=[3] * 60).requests
    assert request.tokens == 4
    told = {"messages": QUESTION, "max_completion_tokens": 7, "max_tokens": 9}
    (request,) = read(llama, **told).requests
    assert request.tokens == 7
    length = len(request.ids)
    (request,) = read(llama, messages=QUESTION, max_tokens=9).requests
    assert request.tokens == 9
    for text, tokens in ((length + 5, 5), (length + 1, 1), (length, 1), (1, 1), (99, 40)):
        (request,) = read(llama, Limits(40, 1, text), messages=QUESTION).requests
        assert request.tokens == tokens


def test_content_of_a_conversation(llama):
    for content, text in (
        ("ab", "ab"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
        ([], ""),
    ):
        (request,) = read(llama, messages=[{"role": "user", "content": content}]).requests
        assert request.ids == llama.vocabulary.chat([{"role": "user", "content": text}])


# --- what is refused
REFUSED = [
    ({"model": 3}, "model", "model is 3, must be str"),
    ({"colour": 1}, "colour", "there is no option colour"),
    ({"messages": QUESTION, "prompt": "a"}, "prompt", "there is no option prompt"),
    ({"max_completion_tokens": 1}, "max_completion_tokens", "there is no option max_completion_to"),
    ({"n": 2}, "n", "n 2 is not there"),
    ({"n": 0}, "n", "n 0 is not there"),
    ({"best_of": 2}, "best_of", "best_of 2 is not there"),
    ({"best_of": 0}, "best_of", "best_of 0 is not there"),
    ({"echo": True}, "echo", "echo True is not there"),
    ({"logprobs": True}, "logprobs", "logprobs True is not there"),
    ({"top_logprobs": 1}, "top_logprobs", "top_logprobs 1 is not there"),
    ({"presence_penalty": 1}, "presence_penalty", "presence_penalty 1 is not there"),
    ({"frequency_penalty": 1}, "frequency_penalty", "frequency_penalty 1 is not there"),
    ({"prompt": ["a"] * 5}, "prompt", "5 prompts, at most 4 go"),
    ({"prompt": None}, "prompt", "prompt must be a text, tokens, or a list of either"),
    ({"prompt": 3}, "prompt", "prompt must be a text, tokens, or a list of either"),
    ({"prompt": [True]}, "prompt", "prompt holds True"),
    ({"prompt": [3, "a"]}, "prompt", "prompt holds 3"),
    ({"prompt": [[3, True]]}, "prompt", r"prompt holds \[3, True\]"),
    ({"prompt": [[]]}, "prompt", r"prompt holds \[\]"),
    ({"prompt": [260]}, "prompt", "token 260 is outside 0 to 259"),
    ({"messages": [{"role": "user", "content": "a" * 64}]}, "messages", "the prompt has 66 tokens"),
    ({"messages": "a"}, "messages", "messages must be a list of at least one"),
    ({"messages": ["a"]}, "messages", "messages holds 'a', must have a role"),
    ({"messages": [{"role": 3}]}, "messages", "messages holds {'role': 3}, must have a role"),
    ({"messages": [{"role": "user"}]}, "messages", "content is None, must be text"),
    ({"max_tokens": True}, "max_tokens", "max_tokens is True, must be int"),
    (
        {"messages": QUESTION, "max_completion_tokens": 0},
        "max_completion_tokens",
        "_tokens 0 is ou",
    ),
    ({"speculate": -1}, "speculate", "speculate -1 is outside 0 to 15"),
    ({"top_k": -1}, "top_k", "top_k -1 is outside 0 to 9223372036854775808"),
    ({"top_k": (1 << 63) + 1}, "top_k", "top_k 9223372036854775809 is outside 0 to"),
    ({"seed": 1 << 63}, "seed", "is outside -9223372036854775808 to 9223372036854775807"),
    ({"seed": ~(1 << 63)}, "seed", "seed -9223372036854775809 is outside"),
    ({"seed": 1.0}, "seed", "seed is 1.0, must be int"),
    ({"temperature": "1"}, "temperature", "temperature is '1', must be a number"),
    ({"temperature": True}, "temperature", "temperature is True, must be a number"),
    ({"temperature": float("inf")}, "temperature", "temperature is inf, must be a number"),
    ({"temperature": 10**400}, "temperature", "temperature is 10+, must be a number"),
    ({"temperature": -1}, None, "temperature -1.0 must be finite and at least 0"),
    ({"top_p": 2}, None, "top-p 2.0 is outside 0 to 1, or 0"),
    ({"stream": 1}, "stream", "stream is 1, must be bool"),
    ({"stream_options": True}, "stream_options", "stream_options is True, must be Mapping"),
    ({"stream_options": {"include_usage": 1}}, "include_usage", "usage is 1, must be bool"),
    ({"stop": 3}, "stop", "stop must be a text, or a list of at most 4"),
    ({"stop": ["a", 3]}, "stop", "stop holds 3, must be 1 to 200 characters"),
    ({"stop": "a" * 201}, "stop", "stop holds 'a+, must be 1 to 200 characters"),
]
PARTS = [
    ["a"],
    [{"type": "text"}],
    [{"type": "text", "text": 3}],
    [{"type": "image_url", "text": "a"}],
    [{"type": "text", "text": "a"}, "b"],
]
REFUSED += [
    ({"messages": [{"role": "user", "content": parts}]}, "messages", "content is .*, must be text")
    for parts in PARTS
]


@pytest.mark.parametrize(("body", "field", "message"), REFUSED)
def test_what_is_refused(llama, body, field, message):
    with pytest.raises(ApiError, match=message) as found:
        read(llama, **body)
    assert (found.value.status, found.value.field) == (400, field)


def test_a_model_that_is_not_there(llama):
    with pytest.raises(ApiError, match=r"^there is no model 'other', there is it$") as found:
        read(llama, model="other")
    assert (found.value.status, found.value.field) == (404, "model")
    with pytest.raises(ApiError, match=r"^the body must be a JSON object$"):
        read_call([], llama, "it", LIMITS, chat=False)
