"""The same logits on every device, however tokens come and whatever runs beside."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transept.host.devices.base import DeviceError
from transept.host.devices.catalogue import open_device
from transept.host.generation import accelerator, arrays
from transept.host.generation.decoder import Cost, Growth
from transept.host.generation.generate import generate
from transept.host.generation.session import LanguageSession
from transept.host.runtime import region
from transept.host.runtime.driver import RunReport
from transept.host.runtime.paged import PagedSequence, page_bytes
from transept.host.runtime.region import Region

PROMPTS = ["he was here", "once"]


@pytest.fixture(scope="module", params=["cpu", "emulator"])
def session(request, llama):
    """One that stays open."""
    return LanguageSession(llama, request.param, pages=12)


def whole(program, ids):
    """Logits of every token of a text that is computed at once."""
    session = LanguageSession(program, "golden")
    sequence = session.open()
    return session.grow([Growth(sequence, ids, len(ids))])[0]


def test_of_two_with_the_same_beginning_the_first_is_shared(llama):
    session = LanguageSession(llama, "emulator", pages=12)
    ids = list(range(3, 35))
    one, other = session.open(), session.open()
    for sequence in (one, other):
        session.grow([Growth(sequence, ids, 0)])
    session.open([*ids, 50])
    session.close(one)
    assert session.free_pages == 8
    session.close(other)
    assert session.free_pages == 10


def test_sessions_of_a_program_share_what_is_compiled(llama, monkeypatch):
    def grown():
        session = LanguageSession(llama, "emulator", pages=12)
        return session.grow([Growth(session.open(), [3, 4, 5], 3)])[0]

    first = grown()
    monkeypatch.setattr(region, "compile_graph", None)
    assert np.array_equal(grown(), first)


@pytest.mark.parametrize("device", ["cpu", "emulator", "rtl"])
def test_tokens_are_those_of_the_specification(any_program, device):
    wanted = generate(any_program, PROMPTS, device="golden", tokens=6, chat=False)
    found = generate(any_program, PROMPTS, device=device, tokens=6, chat=False)
    assert found.notes == ()
    assert [a.ids for a in found.answers] == [a.ids for a in wanted.answers]
    assert [a.logprobs for a in found.answers] == [a.logprobs for a in wanted.answers]
    assert len({tuple(a.ids) for a in found.answers}) == len(PROMPTS)


def test_what_a_step_costs_is_what_the_device_reports():
    report = RunReport(2, 3, 5, 7, 11, busy={}, stalls={}, tallies={})
    cost = {"bytes_read": 5, "bytes_written": 7, "array_cycles": 11}
    assert accelerator._cost(report, 13) == Cost(cycles=2, predicted=13, **cost)


@st.composite
def texts(draw):
    """Up to three texts, each with the sizes of the parts that it comes in."""
    found = []
    for _ in range(draw(st.integers(1, 3))):
        sizes = draw(st.lists(st.integers(1, 20), min_size=1, max_size=4))
        ids = draw(st.lists(st.integers(0, 250), min_size=sum(sizes), max_size=sum(sizes)))
        found.append((ids[:40], sizes))
    return found


@given(texts=texts())
@settings(max_examples=8, deadline=None)
def test_any_parts_beside_any_others(llama, session, texts):
    growing = {number: session.open() for number, _ in enumerate(texts)}
    found = {number: [] for number in growing}
    for step in range(4):
        growths, numbers = [], []
        for number, (ids, sizes) in enumerate(texts):
            start = sum(sizes[:step])
            some = ids[start : start + sizes[step]] if step < len(sizes) else []
            if some:
                growths.append(Growth(growing[number], some, len(some)))
                numbers.append(number)
        if growths:
            for number, logits in zip(numbers, session.grow(growths), strict=True):
                found[number].append(logits)
    for number, (ids, _) in enumerate(texts):
        assert np.array_equal(np.concatenate(found[number]), whole(llama, ids))
        session.close(growing[number])


def test_what_two_texts_share_is_computed_once(llama, session):
    ids = list(range(3, 40))
    first = session.open(ids)
    session.grow([Growth(first, ids, 1)])
    other = [*ids[:21], 100, 101]
    second = session.open(other)
    assert second.tokens == ids[:21]
    for sequence, more in ((second, [100, 101]), (first, [5, 6, 7])):
        before = list(sequence.tokens)
        (logits,) = session.grow([Growth(sequence, more, len(more))])
        assert np.array_equal(logits, whole(llama, [*before, *more])[-len(more) :])
    session.close(first)
    (logits,) = session.grow([Growth(second, [9], 1)])
    assert np.array_equal(logits, whole(llama, [*other, 9])[-1:])
    session.close(second)
    assert session.free_pages == 12


def test_a_text_shares_no_more_than_it_has(llama):
    session = LanguageSession(llama, "cpu")
    ids = list(range(20))
    session.grow([Growth(session.open(), ids, 0)])
    assert session.open(ids).tokens == ids[:19]
    assert session.open(ids[:16]).tokens == []
    assert session.open([*ids, 99]).tokens == ids
    assert session.open([*ids[:16], 99]).tokens == ids[:16]
    assert session.open([*ids[:15], 99, 98]).tokens == []


def test_tokens_that_are_forgotten(llama, session):
    sequence = session.open()
    session.grow([Growth(sequence, list(range(30)), 0)])
    session.truncate(sequence, 11)
    assert session.free_pages == (11 if session.counts_pages else 12)
    (logits,) = session.grow([Growth(sequence, [50, 51], 2)])
    assert np.array_equal(logits, whole(llama, [*range(11), 50, 51])[-2:])
    session.close(sequence)


def test_nothing_is_shared_that_the_device_does_not_have(llama, monkeypatch):
    session = LanguageSession(llama, "emulator", pages=12)
    ids = list(range(20))
    session.grow([Growth(session.open(), ids, 0)])

    def failing(growths):
        raise DeviceError("emulator: no interrupt")

    monkeypatch.setattr(session._decoder, "step", failing)
    session.grow([Growth(session.open(), [50], 0)])
    assert session.device == "cpu"
    sequence = session.open([*ids, 60])
    assert sequence.tokens == []
    (logits,) = session.grow([Growth(sequence, [*ids, 60], 21)])
    assert np.array_equal(logits, whole(llama, [*ids, 60]))


def test_states_grow_and_long_texts_come_in_parts(llama, monkeypatch):
    ids = list(range(5, 45))
    wanted = whole(llama, ids)
    monkeypatch.setattr(arrays, "GROWTH", 8)
    monkeypatch.setattr(arrays, "MOST_ROWS", 13)
    session = LanguageSession(llama, "cpu")
    sequence = session.open()
    found = [session.grow([Growth(sequence, some, len(some))])[0] for some in (ids[:30], ids[30:])]
    assert np.array_equal(np.concatenate(found), wanted)
    assert session.cost.steps == 4


def test_the_last_tokens_of_the_context(llama):
    session = LanguageSession(llama, "emulator", pages=8)
    ids = [n % 50 for n in range(llama.context)]
    sequence, other = session.open(), session.open()
    session.grow([Growth(sequence, ids[:-3], 0)])
    found = session.grow([Growth(sequence, ids[-3:], 3), Growth(other, ids[:4], 4)])
    assert np.array_equal(found[0], whole(llama, ids)[-3:])
    assert np.array_equal(found[1], whole(llama, ids[:4]))


def test_steps_are_as_full_as_they_go(llama):
    session = LanguageSession(llama, "emulator", pages=12)
    rows = [session.rows_together(count) for count in (1, 2, 3, 4, 5, 8, 9, 16)]
    assert rows == [16, 8, 4, 4, 2, 2, 1, 1]
    session.grow([Growth(session.open(), [3] * 8, 0) for _ in range(3)])
    assert session.cost.steps == 2
    session.grow([Growth(session.open(), [3], 0) for _ in range(4)])
    assert session.cost.steps == 3


def test_parts_of_long_texts(llama):
    decoder = LanguageSession(llama, "emulator", pages=1)._decoder
    assert {count: decoder.parts(count) for count in (0, 1, 15, 16, 17, 63, 64, 100)} == {
        0: [],
        1: [1],
        15: [15],
        16: [16],
        17: [16, 1],
        63: [32, 16, 15],
        64: [64],
        100: [64, 32, 4],
    }
    together = {1: 16, 2: 8, 3: 4, 4: 4, 5: 2, 8: 2, 9: 1, 16: 1, 17: 1, 64: 1}
    assert {rows: decoder.together(rows) for rows in together} == together
    decoder = LanguageSession(llama, "cpu")._decoder
    assert decoder.parts(300) == [128, 128, 44]
    assert decoder.together(1) == 128
    sequence = decoder.start()
    decoder.step([Growth(sequence, [3, 4], 0)])
    decoder.release(sequence)
    assert (sequence.length, sequence.states) == (0, {})


def test_steps_have_one_of_few_shapes(llama, monkeypatch):
    """And room for a multiple of 16 pages, or of 8 if there are more rows than in a tile."""
    decoder, calls = LanguageSession(llama, "emulator", pages=12)._decoder, []
    width = llama.head.values[llama.head.inputs[0]].width

    def step(sequences, inputs, counts, *, context):
        (shape,) = {x.shape[:2] for x in inputs.values()}
        calls.append((*shape, context, len(sequences), counts))
        report = RunReport(0, 0, 0, 0, 0, busy={}, stalls={}, tallies={})
        return {llama.head.inputs[0]: np.zeros((*shape, width), np.int8)}, report

    monkeypatch.setattr(decoder.paged, "step", step)
    monkeypatch.setattr(decoder.paged, "room", lambda *told: calls.append(told) or 99)
    monkeypatch.setattr(decoder.paged, "predicted_cycles", lambda *told: calls.append(told) or 7)
    for length, counts, (batch, rows, whole, pages) in (
        (0, [1], (1, 1, 1, 16)),
        (0, [2, 1], (2, 2, 2, 16)),
        (0, [3, 3, 3], (4, 4, 3, 16)),
        (0, [8, 8], (2, 8, 8, 16)),
        (9, [1] * 5, (8, 1, 10, 16)),
        (0, [1] * 9, (16, 1, 1, 16)),
        (3, [17], (1, 32, 20, 8)),
        (0, [33], (1, 64, 33, 8)),
        (30, [9, 2], (2, 16, 39, 8)),
    ):
        calls.clear()
        places = [PagedSequence(length), *(PagedSequence() for _ in counts[1:])]
        growths = [Growth(at, [5] * n, 0) for at, n in zip(places, counts, strict=True)]
        _, cost = decoder.step(growths)
        filled = [*counts, *[1] * (batch - len(counts))]
        assert calls == [
            (batch, rows, whole, pages),
            (batch, rows, 99, batch, filled),
            (batch, rows, 99),
        ]
        assert cost == Cost(steps=1, predicted=7)


def test_a_device_has_memory_for_weights_pages_and_programs(llama, monkeypatch):
    told = []

    def opened(device, config, **options):
        told.append((device, options))
        return open_device("emulator", config, dram_bytes=128 << 20)

    monkeypatch.setattr(accelerator, "open_device", opened)
    session = LanguageSession(llama, "emulator", pages=100)
    LanguageSession(llama, "emulator", pages=100, dram_bytes=77)
    accelerator.PagedDecoder(llama, "pynq", pages=100)
    assert session.free_pages == 100
    regions = session._decoder.paged.region, Region("head", llama.head, llama.config)
    size = sum(region.weights.size for region in regions)
    size += 116 * page_bytes(regions[0].graph, llama.config) + (64 << 20)
    assert told == [
        ("emulator", {"dram_bytes": size}),
        ("emulator", {"dram_bytes": 77}),
        ("pynq", {}),
    ]


def test_the_vocabulary_projection_is_verified_once(llama, monkeypatch):
    verified = []
    monkeypatch.setattr(
        accelerator, "check_executable", lambda region, executable: verified.append(region.name)
    )
    monkeypatch.setattr(accelerator, "_cost", lambda *_: Cost(cycles=5, array_cycles=3))
    session = LanguageSession(llama, "emulator", pages=4)
    sequence = session.open()
    for token in (3, 4):
        session.grow([Growth(sequence, [token], 1)])
    assert verified == ["head"]
    head = {"head_cycles": 10, "head_array_cycles": 6}
    assert session.cost == Cost(steps=2, cycles=20, array_cycles=12, **head)


def test_sequences_of_eight_tokens_go_in_pairs(llama, monkeypatch):
    session, steps = LanguageSession(llama, "emulator", pages=12), []
    step = session._decoder.step
    monkeypatch.setattr(
        session._decoder, "step", lambda growths: (steps.append(len(growths)), step(growths))[1]
    )
    session.grow([Growth(session.open(), [3] * 8, 0) for _ in range(5)])
    assert steps == [2, 2, 1]


def test_idle_sequences_of_a_step_stay_empty(llama):
    session = LanguageSession(llama, "emulator", pages=12)
    growing = [session.open() for _ in range(3)]
    for token in range(17):
        session.grow([Growth(sequence, [token], 0) for sequence in growing])
    assert session.free_pages == 12 - 6
    assert all(idle.length == 0 for idle in session._decoder._idle)


def test_sixteen_rows_of_logits_cost_the_same_again(llama):
    costs = []
    for wanted in (0, 16, 32):
        session = LanguageSession(llama, "emulator", pages=12)
        session.grow([Growth(session.open(), list(range(32)), wanted)])
        costs.append(session.cost)
    none, once, twice = costs
    assert once.predicted > none.predicted > 0
    assert once.bytes_read > none.bytes_read > 0
    assert twice - once == once - none
