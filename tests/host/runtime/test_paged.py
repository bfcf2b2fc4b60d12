"""Sequences that grow step by step on an accelerator: the bits of the whole, in any pages."""

import dataclasses

import numpy as np
import pytest
from graphs import attentive, gated, norms_in_front, post_norm, random_inputs, sharing

from transept.golden.config import TINY
from transept.golden.filters import Causal, Window
from transept.host.compiler.executable import Executable
from transept.host.compiler.pages import PAGE_ROWS
from transept.host.devices.base import OutOfMemoryError
from transept.host.devices.catalogue import open_device
from transept.host.language.cached import cached
from transept.host.runtime.driver import Driver
from transept.host.runtime.errors import ProgramError
from transept.host.runtime.paged import RESERVE, PagedRegion, PagedSequence
from transept.host.runtime.region import Region

LIMIT = 64
GRAPHS = {
    "llama": attentive(gated(1, 32, 4, 2, [12])),
    "llama whose heads share": attentive(sharing(gated(5, 64, 8, 2, [12]))),
    "llama of two layers": attentive(gated(4, 16, 2, 1, [8, 12])),
    "gpt2": attentive(norms_in_front(2, 12, 3, [20], Causal())),
    "sliding window": attentive(norms_in_front(3, 16, 2, [8], Window(9, 0))),
}
#: Rows of every step, real ones of each sequence.
STEPS = {
    "token by token": [(1, [1])] * 4,
    "chunks and tokens": [(5, [5]), (1, [1]), (4, [3]), (1, [1]), (8, [8])],
    "more keys than a chunk": [(16, [16]), (16, [15]), (1, [1]), (1, [1]), (8, [7]), (1, [1])],
    "more rows than an instruction takes": [(40, [40]), (1, [1]), (20, [19])],
    "short and long": [(16, [16, 5, 15]), (16, [16, 3, 16]), (1, [1, 1, 1]), (1, [1, 1, 1])],
    "a batch": [(4, [3, 4, 1]), (1, [1, 1, 1]), (6, [1, 6, 2]), (1, [1, 1, 1])],
}


def opened(graph, device="emulator", pages=16):
    region = Region("it", cached(graph, LIMIT), TINY)
    return PagedRegion(region, Driver(open_device(device, TINY, dram_bytes=1 << 20)), pages)


def part(inputs, sequences, rows, counts):
    """The next rows of every sequence, noise behind the real ones."""
    some = {}
    for name, x in inputs.items():
        some[name] = np.random.default_rng(0).integers(-99, 99, (len(x), rows, x.shape[2]))
        some[name] = some[name].astype(x.dtype)
        for index, (sequence, count) in enumerate(zip(sequences, counts, strict=True)):
            start = sequence.length
            some[name][index, :count] = x[index, start : start + count]
    return some


def check(graph, paged, steps):
    """Every step against the golden model of the whole."""
    batch = len(steps[0][1])
    inputs = random_inputs(graph, batch, LIMIT)
    wanted = graph.evaluate(inputs)
    sequences = [PagedSequence() for _ in range(batch)]
    for rows, counts in steps:
        starts = [sequence.length for sequence in sequences]
        found, _ = paged.step(sequences, part(inputs, sequences, rows, counts), counts)
        for name in graph.outputs:
            for index, (start, count) in enumerate(zip(starts, counts, strict=True)):
                ours = found[name][index, :count]
                assert np.array_equal(ours, wanted[name][index, start : start + count])
    return sequences


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", GRAPHS)
def test_steps_give_the_bits_of_the_whole(name, steps):
    check(GRAPHS[name], opened(GRAPHS[name]), STEPS[steps])


@pytest.mark.parametrize("steps", ["more keys than a chunk", "a batch"])
@pytest.mark.parametrize("name", ["llama", "llama whose heads share", "sliding window"])
def test_steps_on_the_rtl(name, steps):
    check(GRAPHS[name], opened(GRAPHS[name], "rtl"), STEPS[steps])


@pytest.mark.parametrize("seed", range(6))
def test_random_cuts(seed):
    rng = np.random.default_rng(seed)
    steps, left = [], LIMIT
    batch = int(rng.integers(1, 4))
    while left > 0 and len(steps) < 9:
        rows = int(min(left, rng.choice([1, 1, 1, 2, 5, 9, 16])))
        steps.append((rows, rng.integers(1, rows + 1, batch).tolist()))
        left -= rows
    graph = GRAPHS[rng.choice(list(GRAPHS))]
    check(graph, opened(graph), steps)


def test_pages_of_ended_sequences_are_taken_again():
    graph = GRAPHS["llama"]
    paged = opened(graph, pages=5)
    first = check(graph, paged, [(16, [16]), (16, [16]), (1, [1])])
    assert (paged.free_pages, len(first[0].pages)) == (2, 3)
    with pytest.raises(OutOfMemoryError, match=r"^1 pages of 16 rows are needed, 0 are free$"):
        check(graph, paged, [(16, [16]), (16, [16]), (16, [16])])
    paged.release(first[0])
    assert (first[0].length, first[0].pages) == (0, [])
    check(graph, paged, [(16, [16]), (3, [3])])


def test_pages_move_when_a_program_needs_more_room_before_them(monkeypatch):
    graph = GRAPHS["llama"]
    paged = opened(graph)
    inputs, sequence = random_inputs(graph, 1, 20), PagedSequence()
    wanted = graph.evaluate(inputs)
    for count, room in ((17, 0), (1, RESERVE + 1), (2, 2 * RESERVE)):
        monkeypatch.setattr(Executable, "scratch_bytes", property(lambda self, room=room: room))
        start = sequence.length
        found, _ = paged.step([sequence], part(inputs, [sequence], count, [count]), [count])
        for name in graph.outputs:
            assert np.array_equal(found[name], wanted[name][:, start : start + count])
    assert paged._reserve == 2 * RESERVE


def test_out_of_pages_changes_nothing():
    graph = GRAPHS["llama"]
    paged = opened(graph, pages=1)
    inputs = random_inputs(graph, 1, LIMIT)
    (sequence,) = check(graph, paged, [(16, [16])])
    with pytest.raises(OutOfMemoryError, match=r"^1 pages"):
        paged.step([sequence], part(inputs, [sequence], 1, [1]), [1])
    assert (sequence.length, len(sequence.pages), paged.free_pages) == (16, 1, 0)


def test_a_context_of_no_whole_pages():
    graph, sequence = GRAPHS["llama"], PagedSequence()
    region = Region("it", cached(graph, 20), TINY)
    paged = PagedRegion(region, Driver(open_device("emulator", TINY, dram_bytes=1 << 20)), 2)
    inputs = random_inputs(graph, 1, 20)
    wanted = graph.evaluate(inputs)
    for count in (17, 3):
        start = sequence.length
        found, _ = paged.step([sequence], part(inputs, [sequence], count, [count]), [count])
        for name in graph.outputs:
            assert np.array_equal(found[name], wanted[name][:, start : start + count])
    with pytest.raises(ProgramError, match=r"^it: 21 rows exceed a context of 20$"):
        paged.step([sequence], part(inputs, [PagedSequence()], 1, [1]), [1])


def test_what_does_not_fit_is_named():
    graph = GRAPHS["llama"]
    paged, sequence = opened(graph), PagedSequence()
    inputs = random_inputs(graph, 1, 2)
    for counts, options, message in (
        ([3], {}, "3 new rows are outside 1 to 2"),
        ([0], {}, "0 new rows are outside 1 to 2"),
        ([2], {"context": 80}, "80 rows of context are outside 1 to 64"),
    ):
        with pytest.raises(ProgramError, match=f"^it: {message}"):
            paged.step([sequence], inputs, counts, **options)
    for sequences, counts, message in (
        ([], [], "0 numbers of rows for 0 sequences"),
        ([sequence], [1, 1], "2 numbers of rows for 1 sequences"),
        ([sequence] * 2, [1, 1], "a sequence is there twice"),
    ):
        with pytest.raises(ProgramError, match=f"^it: {message}$"):
            paged.step(sequences, inputs, counts)
    sequence.length = 40
    with pytest.raises(ProgramError, match=r"^it: 42 rows exceed a context of 32"):
        paged.step([sequence], inputs, [2], context=2 * PAGE_ROWS)
    with pytest.raises(
        ProgramError, match=r"^it: 5 rows leave a chunk of 32 in a context of 64 empty"
    ):
        paged.step([PagedSequence(3)], inputs, [2], context=LIMIT)
    with pytest.raises(ProgramError, match=r"^it: input v0 is missing"):
        paged.step([PagedSequence()], dict(list(inputs.items())[1:]), [2])
    with pytest.raises(ProgramError, match=r"^the graph has no states"):
        PagedRegion(Region("it", post_norm(1, 8, 2, [8]), TINY), paged._driver, 1)


def test_a_program_is_verified_before_it_starts():
    graph = GRAPHS["llama"]
    paged, sequence = opened(graph), PagedSequence()
    inputs = random_inputs(graph, 1, 2)
    executable = paged.region.executable(paged.region.shape(1, {"rows": 2, "context": 16}))
    broken = bytes([0xEE]) + executable.instructions[1:]
    paged.region.add(dataclasses.replace(executable, instructions=broken, patches=()))
    with pytest.raises(ProgramError, match=r"^it of 1 x 2, 16 rows: instruction 0: unknown opcode"):
        paged.step([sequence], inputs, [2])
    assert (sequence.length, paged.free_pages) == (0, 16)
    paged.region.add(executable)
    paged.step([sequence], inputs, [2])
