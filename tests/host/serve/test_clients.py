"""What OpenAI's own client gets."""

import asyncio
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import asking
import openai
import pytest

from transept.host.devices.base import DeviceError
from transept.host.generation.generate import generate
from transept.host.serve import app
from transept.host.serve.protocol import Limits, read_call
from transept.host.serve.service import Event

QUESTION = [{"role": "user", "content": "he was here"}]


def wanted(program, prompt, **options):
    return generate(program, prompt, device="cpu", **options).answers[0]


@pytest.mark.parametrize("device", ["cpu", "emulator"])
def test_completions(llama, serve, device):
    client = serve(device).client()
    expected = wanted(llama, "once", tokens=9, chat=False)
    told = {"model": "llama", "prompt": "once", "max_tokens": 9, "temperature": 0}
    found = client.completions.create(**told)
    assert found.choices[0].text == expected.text
    assert found.choices[0].finish_reason == expected.reason
    assert found.usage.prompt_tokens == len(expected.prompt_ids)
    assert found.usage.completion_tokens == len(expected.ids)
    assert (found.object, found.model) == ("text_completion", "llama")
    parts = list(client.completions.create(**told, stream=True))
    assert "".join(part.choices[0].text for part in parts) == expected.text
    assert [part.choices[0].finish_reason for part in parts][-1] == expected.reason
    assert len({part.id for part in parts}) == 1


def test_nothing_is_lost_while_it_is_looked_whether_the_client_is_there(llama, serve, monkeypatch):
    async def slow(request):
        await asyncio.sleep(0.05)
        return False

    monkeypatch.setattr(app, "LOOK_S", 0)
    monkeypatch.setattr(app.Request, "is_disconnected", slow)
    expected = wanted(llama, "once", tokens=1, chat=False)
    told = {"model": "llama", "prompt": "once", "max_tokens": 1, "temperature": 0}
    found = serve().client().completions.create(**told).choices[0]
    assert (found.text, found.finish_reason) == (expected.text, expected.reason)


def test_several_prompts_and_tokens(llama, serve):
    client = serve().client()
    prompts = ["once", "he was"]
    told = {"model": "llama", "max_tokens": 5, "temperature": 0}
    found = client.completions.create(prompt=prompts, **told)
    for choice, prompt in zip(found.choices, prompts, strict=True):
        assert choice.text == wanted(llama, prompt, tokens=5, chat=False).text
    ids = [[5, 6, 7], [8]]
    found = client.completions.create(prompt=ids, **told)
    assert [c.text for c in found.choices] == [wanted(llama, p, tokens=5).text for p in ids]
    parts = list(client.completions.create(prompt=ids, stream=True, **told))
    for index, choice in enumerate(found.choices):
        texts = [p.choices[0].text for p in parts if p.choices[0].index == index]
        assert "".join(texts) == choice.text


def test_conversations(llama, serve):
    client = serve().client()
    expected = wanted(llama, "he was here", tokens=9)
    told = {"model": "llama", "messages": QUESTION, "max_completion_tokens": 9, "temperature": 0}
    found = client.chat.completions.create(**told)
    assert found.choices[0].message.content == expected.text
    assert found.choices[0].message.role == "assistant"
    stream = client.chat.completions.create(
        **told, stream=True, stream_options={"include_usage": True}
    )
    *parts, last = stream
    assert parts[0].choices[0].delta.role == "assistant"
    assert {part.choices[0].delta.role for part in parts[1:]} == {None}
    text = "".join(part.choices[0].delta.content or "" for part in parts)
    assert text == expected.text
    assert parts[-1].choices[0].finish_reason == expected.reason
    assert last.choices == []
    assert last.usage.total_tokens == len(expected.prompt_ids) + len(expected.ids)


def test_content_in_parts(llama, serve):
    parts = [{"type": "text", "text": "he was"}, {"type": "text", "text": " here"}]
    found = (
        serve()
        .client()
        .chat.completions.create(
            model="llama",
            messages=[{"role": "user", "content": parts}],
            max_tokens=3,
            temperature=0,
        )
    )
    assert found.choices[0].message.content == wanted(llama, "he was here", tokens=3).text


def test_a_conversation_that_does_not_say_takes_the_pages_that_there_are(serve):
    served = serve("emulator", pages=2)
    found = served.client().chat.completions.create(model="llama", messages=QUESTION)
    assert found.usage.total_tokens <= 32
    assert served.idle() == 2


def test_drawn_with_a_seed_and_with_drafts(llama, serve):
    client = serve().client()
    expected = wanted(llama, "once", tokens=12, chat=False, temperature=0.7, top_p=0.9, seed=3)
    for speculate in (0, 4):
        found = client.completions.create(
            model="llama",
            prompt="once",
            max_tokens=12,
            temperature=0.7,
            top_p=0.9,
            seed=3,
            extra_body={"speculate": speculate},
        )
        assert found.choices[0].text == expected.text


def test_a_negative_seed_is_one_of_64_bits(llama, serve):
    found = (
        serve()
        .client()
        .completions.create(model="llama", prompt="once", max_tokens=9, temperature=1, seed=-1)
    )
    told = {"tokens": 9, "chat": False, "temperature": 1, "seed": 2**64 - 1}
    assert found.choices[0].text == wanted(llama, "once", **told).text


@pytest.mark.parametrize(
    ("limit", "chat", "tokens"),
    [(40, False, 16), (5, False, 5), (40, True, 40), (5, True, 5), (99, True, None)],
)
def test_what_a_call_does_not_say(llama, limit, chat, tokens):
    body = {"messages": QUESTION} if chat else {"prompt": "once"}
    call = read_call(body, llama, "llama", Limits(limit, 1), chat=chat)
    (request,) = call.requests
    assert request.tokens == (tokens or llama.context - len(request.ids))
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (1, 1, 0)
    assert request.stops == llama.vocabulary.stops != frozenset()
    assert (request.speculate, call.ends, call.stream, call.usage) == (0, (), False, False)


def test_texts_that_end_an_answer(llama, serve):
    client = serve().client()
    whole = wanted(llama, "once", tokens=12, chat=False).text
    end = whole[4:7]
    before = whole[: whole.index(end)]
    told = {"model": "llama", "prompt": "once", "max_tokens": 12, "temperature": 0}
    found = client.completions.create(**told, stop=["nowhere", end])
    assert (found.choices[0].text, found.choices[0].finish_reason) == (before, "stop")
    parts = list(client.completions.create(**told, stop=end, stream=True))
    assert "".join(part.choices[0].text for part in parts) == before
    assert client.completions.create(**told, stop="nowhere").choices[0].text == whole


def test_models_and_health(serve):
    served = serve("emulator", pages=20)
    assert [model.id for model in served.client().models.list()] == ["llama"]
    served.service.session.notes.append("something")
    connection = http.client.HTTPConnection("127.0.0.1", served.port)
    found = []
    for path in ("/health", "/v1/models"):
        connection.request("GET", path)
        found.append(json.load(connection.getresponse()))
    connection.close()
    state = {"running": 0, "waiting": 0, "free_pages": 20, "pages": 20}
    model = {"id": "llama", "object": "model", "created": 0, "owned_by": "transept"}
    assert found == [
        state | {"device": "emulator", "notes": ["something"]},
        {"object": "list", "data": [model]},
    ]


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"prompt": ""}, "the prompt is empty"),
        ({"prompt": []}, "prompt must be a text, tokens, or a list of either"),
        ({"prompt": [["a"]]}, r"prompt holds \['a'\]"),
        ({"prompt": [3, 1000]}, "token 1000 is outside 0 to 259"),
        ({"prompt": ["a"] * 5}, "5 prompts, at most 4 go"),
        ({"prompt": [3] * 64}, "the prompt has 64 tokens, the context of .* is 64"),
        (
            {"prompt": [3] * 60, "max_tokens": 9},
            "max_tokens 9 exceeds the 4 that the context leaves",
        ),
        ({"max_tokens": 0}, "max_tokens 0 is outside 1 to 40"),
        ({"max_tokens": 41}, "max_tokens 41 is outside 1 to 40"),
        ({"temperature": -1}, "temperature -1.0 must be"),
        ({"top_p": 0}, "top-p 0.0 is outside"),
        ({"n": 2}, "n 2 is not there"),
        ({"logprobs": 3}, "logprobs 3 is not there"),
        ({"stop": ""}, "stop holds '', must be 1 to 200 characters"),
        ({"stop": ["a"] * 5}, "stop must be a text, or a list of at most 4"),
        ({"extra_body": {"speculate": 16}}, "speculate 16 is outside 0 to 15"),
        ({"extra_body": {"colour": "red"}}, "there is no option colour"),
        ({"extra_body": {"stream": "yes"}}, "stream is 'yes', must be bool"),
        ({"extra_body": {"seed": True}}, "seed is True, must be int"),
    ],
)
def test_bad_requests(client, told, message):
    with pytest.raises(openai.BadRequestError, match=message):
        client.completions.create(**{"model": "llama", "prompt": "once"} | told)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"messages": []}, "messages must be a list of at least one"),
        ({"messages": [{"content": "a"}]}, "messages holds .*, must have a role"),
        ({"messages": [{"role": "user", "content": 3}]}, "content is 3, must be text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "content is .*image_url.*, must be text",
        ),
    ],
)
def test_bad_conversations(client, told, message):
    with pytest.raises(openai.BadRequestError, match=message):
        client.chat.completions.create(**{"model": "llama", "messages": QUESTION} | told)


def test_other_models_and_paths(client):
    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt-9', there is llama"):
        client.completions.create(model="gpt-9", prompt="once")
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="llama", input="once")


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 400, "the body is no JSON"),
        (b"\xff", 400, "the body is no JSON"),
        (b"[]", 400, "the body must be a JSON object"),
        (b"[" * 100_000, 400, "the body is no JSON"),
        (b'{"temperature": NaN, "prompt": "a"}', 400, "temperature is nan, must be a number"),
        (b'{"prompt": "\\ud800"}', 400, "the body is no JSON: 'utf-8' codec can't encode"),
        (b'{"\\ud800": 1}', 400, "the body is no JSON: 'utf-8' codec can't encode"),
        (b'{"prompt": "a", "top_p": 1' + b"0" * 400 + b"}", 400, "top_p is 10"),
        (b" " * (1 << 20), 400, "the body is no JSON"),
        (b" " * ((1 << 20) + 1), 413, "the body exceeds 1048576 bytes"),
    ],
)
def test_bodies(serve, body, status, message):
    connection = http.client.HTTPConnection("127.0.0.1", serve().port, timeout=60)
    connection.request("POST", "/v1/completions", body)
    answer = connection.getresponse()
    found = json.load(answer)["error"]["message"]
    connection.close()
    assert answer.status == status
    assert message in found


def test_as_many_wait_as_may(serve):
    served = serve("emulator", pages=3, queue=2, together=1)
    client, failed = served.client(), []

    def ask():
        try:
            client.completions.create(model="llama", prompt=[3] * 20, max_tokens=20)
        except openai.RateLimitError as error:
            failed.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed
    assert all("2 requests wait, at most 2 may" in message for message in failed)
    assert served.idle() == 3
    with pytest.raises(
        openai.BadRequestError, match="need 4 pages of keys and values, there are 3"
    ):
        client.completions.create(model="llama", prompt=[3] * 30, max_tokens=30)


@pytest.mark.parametrize("room", ["queue", "pages"])
def test_a_call_that_is_refused_leaves_nothing(serve, monkeypatch, room):
    served = serve("emulator", pages=3, queue=1 if room == "queue" else 9, together=1)
    submit, tickets = served.service.submit, []

    def recorded(*arguments):
        tickets.append(submit(*arguments))
        return tickets[-1]

    monkeypatch.setattr(served.service, "submit", recorded)
    prompts = [[3] * 8] * 4 if room == "queue" else [[3] * 8, [3] * 30]
    with pytest.raises(openai.APIStatusError, match=r"requests wait|pages of keys and values"):
        served.client().completions.create(model="llama", prompt=prompts, max_tokens=25)
    assert tickets
    assert served.idle() == 3
    assert not any(ticket.request.reason for ticket in tickets)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_frees_its_pages(serve, stream):
    served = serve("emulator", pages=8)
    body = {"prompt": [3] * 20, "max_tokens": 40, "stream": stream, "temperature": 1, "seed": 2}
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    connection.request("POST", "/v1/completions", json.dumps(body))
    if stream:
        answer = connection.getresponse()
        answer.readline()
    else:
        while not served.service.state.running:
            pass
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()
    if stream:
        answer.close()
    request = next(iter(served.service._tickets))
    assert served.idle() == 8
    assert not request.reason


def test_a_device_that_fails_is_told_and_others_go_on(llama, serve, monkeypatch):
    served = serve("cpu")
    grow = served.service.session.grow

    def failing(growths):
        monkeypatch.setattr(served.service.session, "grow", grow)
        raise DeviceError("cpu: no interrupt")

    monkeypatch.setattr(served.service.session, "grow", failing)
    client = served.client()
    with pytest.raises(openai.InternalServerError, match="cpu: no interrupt"):
        client.completions.create(model="llama", prompt="once")
    found = client.completions.create(model="llama", prompt="once", max_tokens=5, temperature=0)
    assert found.choices[0].text == wanted(llama, "once", tokens=5, chat=False).text
    monkeypatch.setattr(served.service.session, "grow", failing)
    stream = client.completions.create(model="llama", prompt="once", stream=True)
    with pytest.raises(openai.APIError, match="cpu: no interrupt"):
        list(stream)


def asked(llama, body, *events, gone=False):
    """What is sent to a client, and tickets that are cancelled, if these events are the answer.

    body: of the call, None for a client that goes away before; gone: or while it waits.
    """
    sent, cancelled = [], []
    received = [{"type": "http.request", "body": json.dumps(body).encode()}]
    received = [] if body is None else received

    async def receive():
        if not (received or gone or body is None):
            await asyncio.Event().wait()
        return received.pop() if received else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    def submit(request, ends, listen):
        for event in events:
            listen(event)
        return request.number

    service = SimpleNamespace(
        session=SimpleNamespace(program=llama), submit=submit, cancel=cancelled.append
    )
    scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": []}
    made = app.application(service, "llama", Limits(40, 4))
    asyncio.run(made(scope, receive, send))
    (start, *parts) = sent
    return start["status"], b"".join(part["body"] for part in parts), cancelled


def test_what_is_answered_when_a_device_fails(llama):
    failed = Event("", "error", "it broke")
    body = {"message": "it broke", "type": "server_error", "param": None, "code": None}
    status, found, cancelled = asked(llama, {"prompt": ["a", "b"]}, failed)
    assert (status, json.loads(found), cancelled) == (500, {"error": body}, [0, 1])
    status, found, cancelled = asked(llama, {"prompt": "a", "stream": True}, failed)
    assert found.startswith(b"data: ")
    told = json.loads(found.removeprefix(b"data: "))
    assert (status, told, cancelled) == (200, {"error": body}, [0])


def test_who_has_gone_is_told_nothing(llama):
    assert asked(llama, None) == (499, b"", [])
    assert asked(llama, {"prompt": ["a", "b"]}, gone=True) == (499, b"", [0, 1])
    assert asked(llama, {"prompt": ["a", "b"], "stream": True}, gone=True) == (200, b"", [0, 1])


def test_an_answer_is_whole_when_all_of_it_are(llama):
    events = Event("a"), Event("b", "stop")
    status, found, _ = asked(llama, {"prompt": ["a", "b", "c"]}, *events)
    choices = json.loads(found)["choices"]
    assert status == 200
    assert [(c["text"], c["finish_reason"]) for c in choices] == [("ab", "stop")] * 3
    _, found, _ = asked(llama, {"prompt": ["a", "b"], "stream": True}, *events)
    *told, end, _ = found.decode().split("\n\n")
    told = [json.loads(event.removeprefix("data: "))["choices"][0] for event in told]
    assert [(c["index"], c["text"]) for c in told] == [(0, "a"), (0, "b"), (1, "a"), (1, "b")]
    assert end == "data: [DONE]"


def questions(llama):
    """Calls, and the texts that answer them."""
    prompts = [[3 + n % 7, *range(4, 4 + n % 21)] for n in range(11)]
    return [
        (
            {"model": "llama", "prompt": prompt, "max_tokens": 8, "temperature": 0.9, "seed": n},
            wanted(llama, prompt, tokens=8, temperature=0.9, seed=n).text,
        )
        for n, prompt in enumerate(prompts)
    ]


def storm(llama, served, clients, calls):
    """Clients at once, every third of whose calls break off; answers that are wrong."""
    asked = questions(llama)
    wrong = []

    def ask(number):
        client = served.client()
        for call in range(number, number + calls):
            told, right = asked[call % len(asked)]
            if call % 3 == 0:
                with client.completions.create(stream=True, **told) as stream:
                    next(iter(stream))
                continue
            found = client.completions.create(**told).choices[0].text
            if found != right:
                wrong.append((told, found))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong


def test_many_at_once(llama, serve):
    served = serve("emulator", pages=12, queue=100)
    assert storm(llama, served, 8, 2) == []
    assert served.idle() == 12


@pytest.mark.slow
def test_thirty_two_clients_some_of_which_are_killed(llama, serve):
    served = serve("emulator", pages=24, queue=100, together=16)
    assert storm(llama, served, 32, 30) == []
    assert served.idle() == 24


@pytest.mark.slow
def test_a_client_is_killed_each_second_for_a_minute(llama, serve, tmp_path):
    served = serve("emulator", pages=24, queue=100, together=16)
    path, answers = tmp_path / "asked.json", tmp_path / "answers"
    asked = [{"body": told, "texts": [text]} for told, text in questions(llama)]
    path.write_text(json.dumps(asked))

    def start(number):
        told = [asking.__file__, str(served.port), str(path), str(number)]
        with answers.open("ab") as out:
            return subprocess.Popen([sys.executable, *told], stdout=out)

    clients = [start(number) for number in range(32)]
    try:
        for second in range(60):
            time.sleep(1)
            clients[second % 32].kill()
            clients[second % 32].wait()
            clients[second % 32] = start(second)
        assert {client.poll() for client in clients} == {None}  # a wrong answer ends a client
    finally:
        for client in clients:
            client.kill()
            client.wait()
    assert served.idle() == 24
    count = len(answers.read_bytes().splitlines())
    print(f"{count} right answers")
    assert count > 32
