"""Sequences that begin alike share pages until one writes to one; rows that come from elsewhere."""

import numpy as np
import pytest
from graphs import attentive, gated, random_inputs

from transept.golden.config import TINY
from transept.host.backends.cpu.graph import CpuGraph
from transept.host.compiler.pages import PAGE_ROWS
from transept.host.devices.base import OutOfMemoryError
from transept.host.devices.catalogue import open_device
from transept.host.language.cached import CONTEXT, cached
from transept.host.runtime.driver import Driver
from transept.host.runtime.errors import ProgramError
from transept.host.runtime.paged import PagedRegion, PagedSequence, page_bytes, pages_of
from transept.host.runtime.region import Region

LIMIT = 96
GRAPH = attentive(gated(1, 32, 4, 2, [12]))
(ROWS,) = (dim.name for dim in GRAPH.dims)


def opened(pages=8):
    region = Region("it", cached(GRAPH, LIMIT), TINY)
    return PagedRegion(region, Driver(open_device("emulator", TINY, dram_bytes=1 << 20)), pages)


def grow(paged, sequence, inputs, count):
    """The next rows of a text; compared with the whole."""
    start = sequence.length
    some = {name: x[:, start : start + count] for name, x in inputs.items()}
    found, _ = paged.step([sequence], some, [count])
    wanted = GRAPH.evaluate({name: x[:, : start + count] for name, x in inputs.items()})
    for name in GRAPH.outputs:
        assert np.array_equal(found[name], wanted[name][:, start:])


def begin_alike(seed, rows, length):
    """Two texts with the same first rows."""
    one, other = (random_inputs(GRAPH, 1, length, seed=seed + n) for n in range(2))
    return one, {
        name: np.concatenate([one[name][:, :rows], x[:, rows:]], 1) for name, x in other.items()
    }


@pytest.mark.parametrize("shared", [5, PAGE_ROWS, PAGE_ROWS + 3, 2 * PAGE_ROWS])
@pytest.mark.parametrize("who", ["the first", "the second"])
def test_who_writes_to_a_shared_page_gets_a_copy(shared, who):
    paged, first = opened(), PagedSequence()
    one, other = begin_alike(3, shared, 60)
    grow(paged, first, one, shared)
    second = paged.fork(first, shared)
    assert second.pages == first.pages
    assert paged.free_pages == 8 - pages_of(shared)
    order = [(first, one), (second, other)]
    for sequence, inputs in order if who == "the first" else order[::-1]:
        grow(paged, sequence, inputs, 1)
    whole = shared // PAGE_ROWS
    assert first.pages[:whole] == second.pages[:whole]
    assert not {*first.pages[whole:]} & {*second.pages[whole:]}
    for sequence, inputs in order:
        grow(paged, sequence, inputs, 9)
    paged.release(first)
    grow(paged, second, other, 2)
    paged.release(second)
    assert paged.free_pages == 8


def test_both_write_in_one_step():
    paged, first = opened(), PagedSequence()
    one, other = begin_alike(5, 20, 40)
    grow(paged, first, one, 20)
    second = paged.fork(first, 20)
    some = {n: np.concatenate([one[n][:, 20:23], other[n][:, 20:23]]) for n in one}
    found, _ = paged.step([first, second], some, [3, 3])
    for index, inputs in enumerate((one, other)):
        wanted = GRAPH.evaluate({name: x[:, :23] for name, x in inputs.items()})
        for name in GRAPH.outputs:
            assert np.array_equal(found[name][index], wanted[name][0, 20:])
    assert paged.free_pages == 8 - 3
    paged.release(first)
    paged.release(second)
    assert paged.free_pages == 8


def test_no_page_for_a_copy_changes_nothing():
    paged, first = opened(pages=1), PagedSequence()
    one, other = begin_alike(7, 5, 20)
    grow(paged, first, one, 5)
    second = paged.fork(first, 5)
    with pytest.raises(OutOfMemoryError, match="1 pages of 16 rows are needed, 0 are free"):
        grow(paged, second, other, 1)
    paged.release(second)
    grow(paged, first, one, 4)


def test_a_fork_of_fewer_rows():
    paged, first = opened(), PagedSequence()
    one, other = begin_alike(9, 18, 50)
    grow(paged, first, one, 40)
    second = paged.fork(first, 18)
    assert len(second.pages) == 2
    grow(paged, second, other, 6)
    grow(paged, first, one, 2)


@pytest.mark.parametrize("kept", [0, 1, PAGE_ROWS, 21])
def test_rows_that_are_forgotten(kept):
    paged, sequence = opened(), PagedSequence()
    one, other = begin_alike(11, kept, 60)
    grow(paged, sequence, one, 40)
    paged.truncate(sequence, kept)
    assert (sequence.length, len(sequence.pages)) == (kept, pages_of(kept))
    assert paged.free_pages == 8 - pages_of(kept)
    grow(paged, sequence, other, 5)
    grow(paged, sequence, other, 1)


def test_lengths_that_are_not_there():
    paged, sequence = opened(), PagedSequence()
    for act in (paged.truncate, paged.fork):
        for length in (1, -1):
            with pytest.raises(
                ProgramError, match=f"{length} rows of a sequence are outside 0 to 0"
            ):
                act(sequence, length)


@pytest.mark.parametrize("reserved", [0, 20, 50])
@pytest.mark.parametrize("rows", [1, PAGE_ROWS, 37])
def test_rows_that_another_device_computed(rows, reserved):
    inputs = random_inputs(GRAPH, 1, 60)
    kept = cached(GRAPH, LIMIT)
    states = {
        s.input: np.zeros((1, LIMIT, kept.values[s.input].width), np.int8) for s in kept.states
    }
    some = {name: x[:, :rows] for name, x in inputs.items()}
    found = CpuGraph(kept).run(some | states, {ROWS: [rows], CONTEXT: [rows]})
    paged, sequence = opened(), PagedSequence()
    paged.reserve(sequence, reserved)
    paged.restore(sequence, {s.output: found[s.output][0, :rows] for s in kept.states})
    assert (sequence.length, paged.free_pages) == (rows, 8 - pages_of(max(rows, reserved)))
    grow(paged, sequence, inputs, 5)
    paged.release(sequence)
    assert paged.free_pages == 8


def test_states_that_do_not_fit():
    paged, sequence = opened(), PagedSequence()
    kept = cached(GRAPH, LIMIT)
    right = {s.output: np.zeros((9, kept.values[s.output].width), np.int8) for s in kept.states}
    name = next(iter(right))
    for wrong, message in (
        ({**right, name: right[name][:8]}, r"is int8\[8, \d+\], must be int8\[\d, \d+\]|int8\[9"),
        ({**right, name: right[name].astype(np.int16)}, rf"state {name} is int16\[9, "),
        ({name: right[name]}, "states must be "),
        ({n: x[:0] for n, x in right.items()}, r"is int8\[0, "),
    ):
        with pytest.raises(ProgramError, match=message):
            paged.restore(sequence, wrong)
    paged.restore(sequence, right)
    with pytest.raises(ProgramError, match="the sequence has 9 rows already"):
        paged.restore(sequence, right)
    with pytest.raises(OutOfMemoryError):
        opened(pages=1).restore(
            PagedSequence(), {n: np.zeros((20, x.shape[1]), np.int8) for n, x in right.items()}
        )


def test_pages_that_are_reserved():
    paged, sequence = opened(), PagedSequence()
    paged.reserve(sequence, 33)
    assert (sequence.length, len(sequence.pages), paged.free_pages) == (0, 3, 5)
    grow(paged, sequence, random_inputs(GRAPH, 1, 60), 20)
    assert (len(sequence.pages), paged.free_pages) == (3, 5)
    paged.reserve(sequence, 40)
    assert (len(sequence.pages), paged.free_pages) == (3, 5)
    with pytest.raises(OutOfMemoryError):
        paged.reserve(sequence, 16 * 9)


def test_a_shared_page_before_reserved_ones_is_copied():
    paged, first = opened(), PagedSequence()
    one, other = begin_alike(13, 5, 60)
    grow(paged, first, one, 5)
    second = paged.fork(first, 5)
    for sequence in (first, second):
        paged.reserve(sequence, 33)
    assert paged.free_pages == 3
    for sequence, inputs, count in ((first, one, 3), (second, other, 3), (first, one, 2)):
        grow(paged, sequence, inputs, count)
    assert (len(first.pages), len(second.pages), paged.free_pages) == (3, 3, 2)
    for sequence, inputs in ((first, one), (second, other)):
        grow(paged, sequence, inputs, 35)
        paged.release(sequence)
    assert paged.free_pages == 8


def test_room_leaves_no_chunk_empty():
    paged = opened()
    for whole in range(1, LIMIT + 1):
        room = paged.room(1, 1, whole, 4)
        shape = paged.region.shape(1, {ROWS: 1, CONTEXT: room})
        chunk = paged.region.executable(shape).cut.chunk
        assert whole <= room <= LIMIT
        assert (room - 1) // chunk * chunk < whole
        assert paged.predicted_cycles(1, 1, room) > 0
    assert paged.room(2, 1, 17, 4) == 64
    assert paged.room(2, 1, 65, 4) == LIMIT


def test_bytes_of_a_page():
    heads, width = 2, TINY.tile
    words = 32 // 4 // width
    assert page_bytes(cached(GRAPH, LIMIT), TINY) == 2 * heads * PAGE_ROWS * words * width
