"""Prompts to answers: joining, leaving, stopping, drafts, and what is refused."""

import dataclasses
import inspect

import numpy as np
import pytest

from transept.host.compiler.errors import CompileError
from transept.host.devices.base import DeviceError, OutOfMemoryError
from transept.host.generation import generate as generating
from transept.host.generation.batch import MOST_TOGETHER, Batch
from transept.host.generation.decoder import Cost, Growth
from transept.host.generation.generate import Answer, Generation, generate, prompt_ids
from transept.host.generation.request import MOST_DRAFT, Request
from transept.host.generation.sampling import Sampling
from transept.host.generation.session import LanguageSequence, LanguageSession
from transept.host.generation.stream import TextStream

PROMPTS = ["he was here", "once", "he", "and then some more of it", "x"]


def answers(program, prompt, **options):
    options = {"device": "cpu", "tokens": 8, "chat": False} | options
    return [answer.ids for answer in generate(program, prompt, **options).answers]


def alone(program, ids, tokens):
    """The answer to a prompt that nothing runs beside, and that no token ends."""
    request = Request(0, ids, tokens)
    batch = Batch(LanguageSession(program, "cpu"))
    batch.add(request)
    while batch:
        batch.step()
    return request.answer


def test_each_as_alone(any_program):
    each = [answers(any_program, prompt)[0] for prompt in PROMPTS]
    assert answers(any_program, PROMPTS) == each
    assert answers(any_program, PROMPTS, together=2) == each
    assert answers(any_program, PROMPTS, device="emulator", together=3) == each


@pytest.mark.parametrize("temperature", [0, 0.8])
def test_drafts_change_no_token(any_program, temperature):
    told = {"tokens": 30, "temperature": temperature, "seed": 4, "stop": ["a"]}
    plain = generate(any_program, PROMPTS, device="cpu", chat=False, **told)
    for count in (1, 3, MOST_DRAFT):
        found = generate(any_program, PROMPTS, device="cpu", chat=False, speculate=count, **told)
        assert [a.ids for a in found.answers] == [a.ids for a in plain.answers]
        assert [a.logprobs for a in found.answers] == [a.logprobs for a in plain.answers]
        assert found.decode.steps <= plain.decode.steps
    assert plain.accepted_per_step == 1


def test_drafts_of_what_repeats_save_steps(llama):
    prompt = [5, 6, 7, 8] * 5
    plain = generate(llama, prompt, device="cpu", tokens=24)
    found = generate(llama, prompt, device="emulator", tokens=24, speculate=4)
    assert found.answers[0].ids == plain.answers[0].ids
    assert found.decode.steps < plain.decode.steps
    assert found.accepted_per_step > 1.2


def test_stopping(llama):
    (first,) = answers(llama, "he")
    token = llama.vocabulary.tokenizer.convert_ids_to_tokens(first[3])
    found = generate(llama, "he", device="cpu", tokens=8, chat=False, stop=[token])
    at = first.index(first[3])
    assert found.answers[0].ids == first[: at + 1]
    assert (found.answers[0].reason, found.text) == (
        "stop",
        llama.vocabulary.decode(first[: at + 1]),
    )
    assert generate(llama, "he", device="cpu", tokens=2, chat=False).answers[0].reason == "length"


def test_an_answer_ends_with_the_context(llama):
    found = generate(llama, list(range(3, 60)), device="emulator", tokens=50)
    assert len(found.answers[0].ids) == llama.context - 57
    assert found.answers[0].reason == "length"
    assert found.answers[0].ids == answers(llama, list(range(3, 60)), tokens=7)[0]


def test_nothing_is_taken_behind_an_end():
    logits = np.eye(10)[[7, 8, 9]]
    for fields, taken, answer, reason in (
        ({"tokens": 5, "stops": frozenset({7})}, 0, [7], "stop"),
        ({"tokens": 2}, 1, [7, 8], "length"),
        ({"tokens": 5}, 2, [7, 8, 9], ""),
    ):
        request = Request(0, [1], **fields)
        assert request.take([7, 8], logits) == taken
        assert (request.answer, request.reason) == (answer, reason)
        assert len(request.logprobs) == len(answer)


def test_logits_of_a_whole_draft_are_wanted():
    with pytest.raises(AssertionError, match="there are logits behind the whole draft"):
        Request(0, [1], 9).take([7, 8], np.eye(10)[[7]])


def test_a_draft_fits_the_step_and_the_answer():
    ids = [1, 2, 3, 4, 5, 6, 7, 8]

    def grown(rows, tokens, speculate=5, answer=(1,)):
        request = Request(0, ids, tokens, speculate=speculate, answer=list(answer))
        request.sequence = LanguageSequence(list(ids))
        return request.next_ids(rows)

    assert grown(16, 20) == [1, 2, 3, 4, 5, 6]
    assert grown(16, 20, speculate=0) == [1]
    assert [len(grown(rows, 20)) for rows in (1, 2, 4, 8)] == [1, 2, 4, 6]
    assert [len(grown(16, tokens)) for tokens in (2, 3, 4, 7, 8)] == [1, 2, 3, 6, 6]
    assert grown(16, 20, answer=()) == []


def test_tokens_are_drawn_by_number_and_position():
    sampling, logits = Sampling(1.0, seed=5), np.zeros((1, 1000))
    request = Request(3, [1, 2], 30, sampling)
    for _ in range(20):
        request.take([], logits)
    assert request.answer == [sampling.choose(logits[0], 3, 2 + at) for at in range(20)]
    assert request.steps == 20


def test_the_same_prompt_twice_is_drawn_twice(llama):
    one, other = answers(llama, ["once"] * 2, temperature=1.0, seed=3)
    assert one != other


def test_logarithms_are_those_of_the_logits(llama):
    (answer,) = generate(llama, [7, 8, 9], device="cpu", tokens=5).answers
    session = LanguageSession(llama, "golden")
    ids = [7, 8, 9, *answer.ids]
    (logits,) = session.grow([Growth(session.open(), ids, len(ids))])
    wanted = logits[2:-1] - np.log(np.exp(logits[2:-1]).sum(1, keepdims=True))
    assert np.allclose(answer.logprobs, wanted[np.arange(5), answer.ids])


def test_text_as_it_comes(llama):
    heard = {0: "", 1: ""}

    def listen(number, text):
        assert text
        heard[number] += text

    found = generate(llama, PROMPTS[:2], device="cpu", tokens=20, chat=False, stream=listen)
    assert list(heard.values()) == [answer.text for answer in found.answers]


def test_who_is_interrupted_gives_pages_back(llama):
    session = LanguageSession(llama, "emulator", pages=8)

    def listen(number, text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(llama, [[3] * 20, [4] * 20], session=session, tokens=8, stream=listen)
    assert session.free_pages == 8


def test_bytes_of_a_character_come_together(any_program):
    vocabulary = any_program.vocabulary
    request = Request(0, [1], 9)
    stream = TextStream(vocabulary, request)
    shown = []
    for token in vocabulary.encode("aé→b"):
        request.answer.append(token)
        shown.append(stream.new())
    assert shown == ["a", "", "é", "", "", "→", "b"]
    request.answer += vocabulary.encode("é")[:1]
    assert stream.new() == ""
    request.reason = "length"
    assert stream.new() == "\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("ends", "shown", "ended"),
    [
        (("de", "cd", "bcd"), ["a", "", "", "", "", ""], True),
        (("cde", "bx"), ["a", "", "b", "", "", ""], True),
        (("bcx",), ["a", "", "", "bcd", "e", "f"], False),
        (("efg",), ["a", "b", "c", "d", "", ""], False),
        (("ab",), ["", "", "", "", "", ""], True),
    ],
)
def test_the_first_of_several_ends(llama, ends, shown, ended):
    request = Request(0, [1], 9)
    stream, found = TextStream(llama.vocabulary, request, ends), []
    for token in llama.vocabulary.encode("abcdef"):
        request.answer.append(token)
        found.append(stream.new())
    assert (found, stream.ended) == (shown, ended)
    request.reason = "length"
    assert stream.new() == ("ef" if ends == ("efg",) else "")


def test_what_a_prompt_is(llama):
    vocabulary = llama.vocabulary
    assert prompt_ids(vocabulary, "he", None) == vocabulary.chat(
        [{"role": "user", "content": "he"}]
    )
    assert prompt_ids(vocabulary, "he", False) == vocabulary.encode("he")
    assert prompt_ids(vocabulary, [3, 4], None) == [3, 4]
    assert answers(llama, [[3, 4], [5]]) == [answers(llama, [3, 4])[0], answers(llama, [5])[0]]


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ("", {}, "the prompt is empty"),
        (" \n", {}, "the prompt is empty"),
        ([], {}, "there is no prompt"),
        ([[]], {}, "the prompt is empty"),
        (["he", ""], {}, "the prompt is empty"),
        ([260], {}, "token 260 is outside 0 to 259"),
        ([-1], {}, "token -1 is outside"),
        (list(range(64)), {}, "the prompt has 64 tokens, the context of .* is 64 with the answer"),
        ("he", {"tokens": 0}, "0 tokens of an answer, must be at least 1"),
        ("he", {"speculate": 16}, "drafts of 16 tokens are outside 0 to 15"),
        ("he", {"temperature": float("nan")}, "temperature nan must be finite"),
        ("he", {"stop": ["no such"]}, "'no such' is no token of .*: it is 7 of them, must be one"),
        ("he", {"together": 17}, "17 sequences together are outside 1 to 16"),
        ("he", {"device": "abacus"}, "no device 'abacus', there is"),
        ("he", {"color": "red"}, "device cpu has no option 'color'"),
    ],
)
def test_what_is_refused(llama, prompt, options, message):
    with pytest.raises(ValueError, match=message):
        answers(llama, prompt, **options)


def test_a_model_without_conversations(any_program, llama):
    if any_program.vocabulary.chats:
        assert generate(llama, "he", device="cpu", tokens=1).answers[0].prompt_ids[0] == 1
        return
    with pytest.raises(ValueError, match="has no template for conversations"):
        answers(any_program, "he", chat=True)
    assert answers(any_program, "he", chat=None) == answers(any_program, "he", chat=False)


def test_what_a_generation_is_unless_told_otherwise():
    given = inspect.signature(generate).parameters.items()
    assert {name: p.default for name, p in given if p.default is not p.empty} == {
        "device": "emulator",
        "tokens": 64,
        "temperature": 0.0,
        "top_k": 0,
        "top_p": 1.0,
        "seed": 0,
        "stop": (),
        "speculate": 0,
        "chat": None,
        "stream": None,
        "together": 16,
        "session": None,
    }


def figures(lengths, **cost):
    answers = tuple(Answer("", [], [0] * length, [], "length") for length in lengths)
    found = Generation(answers, Cost(), Cost(**cost), 1.0, "rtl", ())
    return (
        found.decoded,
        found.cycles_per_token,
        found.predicted_per_token,
        found.bandwidth_share(4),
        found.tokens_per_second(100),
    )


def test_figures_of_a_generation():
    """By the cycles that were counted, or those that are expected."""
    cost = {"predicted": 500, "bytes_read": 300, "bytes_written": 100}
    assert figures([3, 4], cycles=1000, **cost) == (5, 200, 100, 0.1, 5e5)
    assert figures([3, 4], **cost) == (5, None, 100, None, 1e6)
    assert figures([3, 4]) == (5, None, None, None, None)
    assert figures([1, 1], cycles=1000, **cost) == (0, None, None, 0.1, None)


def test_costs():
    names = [field.name for field in dataclasses.fields(Cost)]
    one, other = (Cost(*range(at, at + len(names))) for at in (10, 3))
    assert vars(one + other) == {name: 13 + 2 * at for at, name in enumerate(names)}
    assert vars(one - other) == dict.fromkeys(names, 7)
    assert vars(Cost()) == dict.fromkeys(names, 0)
    assert Cost(bytes_read=3, bytes_written=5).nbytes == 8
    head = {"head_cycles": 40, "head_array_cycles": 5}
    assert Cost(cycles=100, array_cycles=35, **head).layers_utilisation == 0.5
    assert Cost(cycles=40, array_cycles=5, **head).layers_utilisation == 0


def test_prompts_and_what_follows_are_told_apart(llama):
    session = LanguageSession(llama, "cpu")
    found = generate(llama, PROMPTS[:2], session=session, tokens=5, chat=False)
    assert (found.prefill.steps, found.decode.steps) == (2, 4)
    assert found.prefill + found.decode == session.cost
    again = generate(llama, "he", session=session, tokens=1, chat=False)
    assert (again.prefill.steps, again.decode.steps, again.accepted_per_step) == (1, 0, 0)


def test_pages_are_those_of_the_longest_that_grow_together(llama, monkeypatch):
    pages = []

    def opened(program, device, **told):
        pages.append(told["pages"])
        return LanguageSession(program, device, **told)

    monkeypatch.setattr(generating, "LanguageSession", opened)
    prompts = [[3] * length for length in (30, 5, 20)]
    for together in (2, 3, 9):
        generate(llama, prompts, device="cpu", tokens=3, together=together)
    assert pages == [3 + 2, 3 + 1 + 2, 3 + 1 + 2]


# --- batches
def test_no_more_than_may_grow_together(llama):
    batch = Batch(LanguageSession(llama, "cpu"), 2)
    for number in range(3):
        batch.add(Request(number, [3, 4], 3))
    batch.step()
    assert (len(batch.running), batch.waiting) == (2, 1)


def test_who_waits_for_pages_joins_when_others_leave(llama):
    session = LanguageSession(llama, "emulator", pages=3)
    batch = Batch(session)
    requests = [Request(n, list(range(3 + n, 19 + n)), 9) for n in range(3)]
    for request in requests:
        batch.add(request)
    assert batch.step() == requests[:1]
    assert [bool(request.answer) for request in requests] == [True, False, False]
    while batch:
        batch.step()
        assert len(batch.running) <= 1
    assert session.free_pages == 3
    assert [r.answer for r in requests] == [alone(llama, r.ids, 9) for r in requests]


def test_who_leaves_gives_pages_back(llama):
    session = LanguageSession(llama, "emulator", pages=8)
    batch = Batch(session)
    requests = [Request(n, list(range(3 + n, 23 + n)), 12) for n in range(5)]
    for request in requests:
        batch.add(request)
    batch.step()
    batch.step()
    batch.cancel(requests[1])  # runs
    batch.cancel(requests[4])  # waits
    batch.cancel(requests[4])
    while batch:
        batch.step()
    assert session.free_pages == 8
    for number in (0, 2, 3):
        assert requests[number].answer == alone(llama, requests[number].ids, 12)
    assert not requests[4].answer


def test_what_never_fits(llama):
    batch = Batch(LanguageSession(llama, "emulator", pages=2))
    with pytest.raises(ValueError, match="33 tokens need 3 pages of keys and values, there are 2"):
        batch.add(Request(0, [1] * 20, 13))
    with pytest.raises(ValueError, match="60 tokens of the prompt and 9 of the answer exceed"):
        batch.add(Request(0, [1] * 60, 9))
    assert not batch
    for count in (0, MOST_TOGETHER + 1):
        with pytest.raises(ValueError, match=f"{count} sequences together"):
            Batch(LanguageSession(llama, "cpu"), count)


# --- sessions
def test_out_of_pages_changes_nothing(llama):
    session = LanguageSession(llama, "emulator", pages=2)
    one, other = session.open(), session.open()
    session.grow([Growth(one, list(range(16)), 0), Growth(other, list(range(20, 30)), 0)])
    with pytest.raises(OutOfMemoryError, match="1 pages of 16 rows are needed, 0 are free"):
        session.grow([Growth(other, [1], 1), Growth(one, [1], 1)])
    assert (len(one.tokens), len(other.tokens)) == (16, 10)
    (found,) = session.grow([Growth(other, [1], 1)])
    golden = LanguageSession(llama, "golden")
    (wanted,) = golden.grow([Growth(golden.open(), [*range(20, 30), 1], 1)])
    assert np.array_equal(found, wanted)


def test_what_a_session_refuses(llama):
    session = LanguageSession(llama, "cpu")
    sequence = session.open()
    with pytest.raises(ValueError, match="65 tokens exceed the context of 64"):
        session.grow([Growth(sequence, [1] * 65, 0)])
    with pytest.raises(ValueError, match="logits of 2 of 1 new tokens"):
        session.grow([Growth(sequence, [1], 2)])
    with pytest.raises(ValueError, match="logits of 0 of 0 new tokens"):
        session.grow([Growth(sequence, [], 0)])
    for index in (-1, 260):
        with pytest.raises(ValueError, match=f"token {index} is outside 0 to 259"):
            session.grow([Growth(sequence, [3, index], 0)])
    with pytest.raises(ValueError, match="a sequence is there twice"):
        session.grow([Growth(sequence, [1], 0)] * 2)
    assert sequence.tokens == []
    session.close(sequence)
    session.close(sequence)
    with pytest.raises(ValueError, match="a sequence is not open"):
        session.grow([Growth(sequence, [1], 0)])
    assert LanguageSession(llama, "cpu", pages=1).pages == 1
    with pytest.raises(ValueError, match="0 pages, must be at least 1"):
        LanguageSession(llama, "emulator", pages=0)
    with pytest.raises(OutOfMemoryError, match="device memory has"):
        LanguageSession(llama, "emulator", pages=64, dram_bytes=1 << 16)


def test_a_device_that_fails_is_left_for_the_cpu(llama, monkeypatch):
    wanted = answers(llama, PROMPTS, tokens=10)
    session = LanguageSession(llama, "emulator", pages=40)
    steps = []
    step = session._decoder.step

    def failing(growths):
        steps.append(growths)
        if len(steps) == 8:
            raise DeviceError("emulator: no interrupt")
        return step(growths)

    monkeypatch.setattr(session._decoder, "step", failing)
    found = generate(llama, PROMPTS, session=session, tokens=10, chat=False)
    assert [answer.ids for answer in found.answers] == wanted
    assert found.notes == (f"{llama.name} goes on on cpu: emulator: no interrupt",)
    assert (found.device, len(steps)) == ("cpu", 8)


def test_a_device_without_the_kernels_is_left(llama):
    found = generate(llama, PROMPTS, device="gpu", tokens=4, chat=False)
    assert [answer.ids for answer in found.answers] == answers(llama, PROMPTS, tokens=4)
    (note,) = found.notes
    assert note.startswith(f"{llama.name} goes on on cpu: gpu: ")
    with pytest.raises((CompileError, DeviceError), match="gpu: "):
        answers(llama, "he", device="gpu", fallback=False)


@pytest.mark.parametrize("where", ["step", "_logits"])
def test_or_not(where, llama, monkeypatch):
    """Wherever it fails, also behind the layers, no sequence has changed."""
    session = LanguageSession(llama, "emulator", pages=4, fallback=False)
    sequence = session.open()
    session.grow([Growth(sequence, [1, 2], 0)])

    def failing(anything):
        raise DeviceError("emulator: no interrupt")

    monkeypatch.setattr(session._decoder, where, failing)
    with pytest.raises(DeviceError, match="no interrupt"):
        session.grow([Growth(sequence, [3, 4], 1)])
    monkeypatch.undo()
    assert sequence.tokens == [1, 2]
    (found,) = session.grow([Growth(sequence, [3], 1)])
    golden = LanguageSession(llama, "golden")
    (wanted,) = golden.grow([Growth(golden.open(), [1, 2, 3], 1)])
    assert np.array_equal(found, wanted)


def test_who_is_interrupted_between_two_sequences_changes_neither(llama, monkeypatch):
    session = LanguageSession(llama, "cpu")
    one, other = session.open(), session.open()
    session.grow([Growth(one, [1, 2], 0), Growth(other, [5], 0)])
    grow, grown = session._decoder._grow, []

    def interrupted(*growth):
        grown.append(growth)
        if len(grown) == 2:
            raise KeyboardInterrupt
        return grow(*growth)

    monkeypatch.setattr(session._decoder, "_grow", interrupted)
    with pytest.raises(KeyboardInterrupt):
        session.grow([Growth(one, [9], 1), Growth(other, [9], 1)])
    monkeypatch.undo()
    (found,) = session.grow([Growth(one, [3], 1)])
    golden = LanguageSession(llama, "golden")
    (wanted,) = golden.grow([Growth(golden.open(), [1, 2, 3], 1)])
    assert np.array_equal(found, wanted)


def test_pages_that_nobody_says(llama):
    """Those of the context, or of 2048 tokens."""
    assert LanguageSession(llama, "cpu").pages == 4
    assert LanguageSession(dataclasses.replace(llama, context=4096), "cpu").pages == 128


def test_there_is_nothing_behind_the_cpu(llama, monkeypatch):
    session = LanguageSession(llama, "cpu")

    def failing(growths):
        raise DeviceError("cpu: broken")

    monkeypatch.setattr(session._decoder, "step", failing)
    with pytest.raises(DeviceError, match="cpu: broken"):
        session.grow([Growth(session.open(), [3], 1)])
    assert session.notes == []


def test_notes_of_the_program_are_told(llama):
    noted = dataclasses.replace(llama, notes=("something",))
    assert generate(noted, [3], device="cpu", tokens=1).notes == ("something",)
