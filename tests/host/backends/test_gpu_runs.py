"""Runs on a card, as one that notes what is asked of it sees them; and which runs are kept."""

import types

import numpy as np
import pytest
import torch
from graphs import GraphBuilder, random_inputs
from triton.runtime.errors import OutOfResources

from transept.host.backends.gpu import graph as module
from transept.host.backends.gpu.graph import CapturedRun, GpuGraph, wait_until
from transept.host.backends.gpu.memory import Memory
from transept.host.compiler.cut import Shape
from transept.host.devices.base import DeviceError, DeviceLostError, OutOfMemoryError
from transept.host.kernels import INTERPRETED

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(not INTERPRETED, reason="runs on a card that is none")


def graph_of():
    """One linear layer on int8."""
    build = GraphBuilder(1)
    x = build.value(4, 8)
    return build.graph([x], [build.linear(x, 4)])


# --- runs that are kept
def test_the_newest_runs_are_kept(monkeypatch):
    assert (module.KEPT, module.LEAST_ROWS) == (16, 16)
    monkeypatch.setattr(module, "KEPT", 2)
    graph = graph_of()
    prepared = GpuGraph(graph)
    assert (prepared._timeout, prepared.device) == (60.0, CPU)
    one, two = (prepared.captured(Shape(batch, {"rows": 4})) for batch in (1, 2))
    assert prepared.captured(Shape(1, {"rows": 9})) is one
    prepared._serving["some"] = one, None
    prepared.captured(Shape(3, {"rows": 4}))
    assert not prepared._serving
    assert [shape.batch for shape in prepared._runs] == [1, 3]
    assert prepared.captured(Shape(1, {"rows": 4})) is one
    assert prepared.captured(Shape(2, {"rows": 4})) is not two


def test_inputs_of_the_same_shapes_are_served_alike():
    graph = graph_of()
    prepared = GpuGraph(graph)
    inputs = [random_inputs(graph, 2, rows) for rows in (5, 5, 6)]
    first, second, other = (prepared._serves(given) for given in inputs)
    assert first is second
    assert first.run is other.run
    assert (first.whole, first.rows) == ({"rows": [5, 5]}, dict.fromkeys(graph.outputs, 5))
    assert (other.whole, other.rows) == ({"rows": [6, 6]}, dict.fromkeys(graph.outputs, 6))
    prepared.forget()
    assert (len(prepared._runs), len(prepared._serving)) == (0, 0)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (torch.cuda.OutOfMemoryError(" no room\nfor it"), OutOfMemoryError, "gpu: no room"),
        (OutOfResources(9, 7, "x"), OutOfMemoryError, "gpu: out of resource: x, .*"),
        (torch.AcceleratorError("it died\n"), DeviceLostError, "gpu: it died"),
        (DeviceError("no answer"), DeviceError, "no answer"),
    ],
)
def test_what_was_captured_is_given_up_after_an_error(monkeypatch, error, kind, message):
    prepared, inputs = GpuGraph(graph_of()), random_inputs(graph_of(), 1, 4)
    prepared._serves(inputs)
    assert len(prepared._runs) == len(prepared._serving) == 1

    def fail(self, moves):
        raise error

    monkeypatch.setattr(CapturedRun, "launch", fail)
    with pytest.raises(DeviceError, match=f"^{message}$") as found:
        prepared.run(inputs)
    assert type(found.value) is kind
    assert (len(prepared._runs), len(prepared._serving)) == (0, 0)


def test_real_rows_of_dimensions_that_are_not_told():
    whole = {"rows": [5, 5], "keys": [3, 3]}
    assert module._lengths(whole, None) is whole
    assert module._lengths(whole, {"keys": (2, 1)}) == {"rows": [5, 5], "keys": [2, 1]}


@pytest.mark.parametrize(
    ("device", "cards", "alone"),
    [("cpu", 2, True), ("cuda", 1, True), ("cuda:0", 2, False), ("cuda:1", 2, False)],
)
def test_one_of_several_cards_is_made_the_current_one(monkeypatch, device, cards, alone):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    monkeypatch.setattr(GpuGraph, "_load", lambda self: None)
    entered = []

    class Current:
        def __init__(self, device):
            entered.append(device)

        def __enter__(self):
            pass

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(torch.cuda, "device", Current)
    prepared = GpuGraph(graph_of(), torch.device(device))
    prepared.captured = lambda shape: types.SimpleNamespace(prepare=lambda lengths: None)
    prepared.prepare(Shape(1, {"rows": 4}))
    assert entered == ([] if alone else [torch.device(device)])


# --- a run on a card
class Card:
    """Stands for events and captures, and notes them."""

    def __init__(self, monkeypatch):
        self.asked = asked = []

        class Event:
            def record(self):
                asked.append("record")

            def query(self):
                return True

        def capture(launch):
            asked.append("capture")
            return types.SimpleNamespace(replay=lambda: (asked.append("replay"), launch()))

        def wait(done, timeout):
            asked.append(("wait", done(), timeout))

        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(module, "capture", capture)
        monkeypatch.setattr(module, "wait_until", wait)
        monkeypatch.setattr(
            module, "_pinned", lambda memory, *shape, dtype: torch.zeros(shape, dtype=dtype)
        )


@pytest.fixture
def card(monkeypatch):
    return Card(monkeypatch)


def run_of(graph, shape, on_card=True):
    memory = Memory(graph, shape, CPU)
    launches = GpuGraph(graph)._launches(memory)
    if on_card:
        for name in (*graph.inputs, *graph.outputs):
            memory.value(name)
        memory.device = types.SimpleNamespace(type="cuda")
    return CapturedRun(graph, memory, launches, 7.0), memory


def check(graph, run, rows, lengths):
    inputs = random_inputs(graph, 2, rows)
    found = run.run(inputs, lengths, dict.fromkeys(graph.outputs, rows))
    for name, y in graph.evaluate(inputs).items():
        assert np.array_equal(found[name], y)


def test_launches_are_captured_once_for_whole_sequences_and_for_others(card):
    graph = graph_of()
    run, memory = run_of(graph, Shape(2, {"rows": 6}))
    whole, short = {"rows": [6, 6]}, {"rows": [6, 5]}
    done = ["replay", "record", ("wait", True, 7.0)]
    run.prepare(whole)
    assert card.asked == ["capture"]
    assert memory.whole is True
    for lengths, asked in ((whole, done), (short, ["capture", *done]), (short, done)):
        card.asked.clear()
        run.prepare(lengths)
        check(graph, run, 6, lengths)
        assert card.asked == asked
        assert memory.whole is (lengths is whole)
        assert memory.dim("rows").tolist() == lengths["rows"]
    card.asked.clear()
    run.prepare(whole)
    run.prepare(short)
    assert card.asked == []
    run.replay()
    assert card.asked == ["capture", "replay"]
    assert set(run._graphs) == {(True, True), (False, True), (False, False)}


def test_without_a_card_launches_start_one_by_one(card):
    graph = graph_of()
    run, memory = run_of(graph, Shape(2, {"rows": 6}), on_card=False)
    run.prepare({"rows": [6, 6]})
    for rows in (6, 4, 6):
        check(graph, run, rows, {"rows": [rows, rows]})
        assert memory.whole is (rows == 6)
    assert card.asked == []
    run._given["v0"][:] = 5
    check(graph, run, 4, {"rows": [4, 4]})
    assert not run._given["v0"][:, 4:].any()
    started = []
    run._launches = {moves: [lambda m=moves: started.append(m)] for moves in (False, True)}
    run.replay()
    run.replay(moves=True)
    assert started == [False, True]


def test_some_of_two_dimensions_is_not_all_rows():
    limits = types.SimpleNamespace(shape=Shape(2, {"rows": 6, "keys": 3}))
    run = types.SimpleNamespace(_memory=limits)
    for rows, keys, whole in (([6, 6], [3, 3], 1), ([6, 6], [3, 2], 0), ([5, 6], [3, 3], 0)):
        assert CapturedRun._whole(run, {"rows": rows, "keys": keys}) is bool(whole)


def test_little_is_moved_by_a_kernel(monkeypatch):
    moved = []
    monkeypatch.setattr(module, "copied", lambda x, y: moved.append(x.nbytes))
    for interpreted, nbytes in ((False, 1 << 18), (False, (1 << 18) + 1), (True, 8)):
        monkeypatch.setattr(module, "INTERPRETED", interpreted)
        x, y = torch.ones(nbytes, dtype=torch.int8), torch.zeros(nbytes, dtype=torch.int8)
        module._transfer(x, y)()
        assert bool(y.all()) is (len(moved) == 0 or nbytes != 1 << 18)
    assert moved == [1 << 18]


# --- waiting
@pytest.mark.parametrize(("timeout", "looks"), [(0.5, 3), (60.0, 5)])
def test_a_card_is_polled_and_then_looked_at_between_sleeps(monkeypatch, timeout, looks):
    """Sixteen times without a look at the clock; after a while, here half a second, with sleeps."""
    assert (module.SPIN, module.POLLS) == (0.01, 16)
    monkeypatch.setattr(module, "SPIN", 0.5)
    times = iter([100.0, 100.25, 100.5, 100.75, 101.0])
    slept, polls = [], []
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    monkeypatch.setattr("time.sleep", slept.append)

    def done():
        polls.append(len(polls))
        return len(polls) > 16 * 5 - 1

    if looks == 3:
        with pytest.raises(DeviceLostError, match=r"^gpu: no answer within 0\.5 seconds$"):
            wait_until(done, timeout)
    else:
        wait_until(done, timeout)
    assert len(polls) == 16 * looks
    assert slept == [0.05] * (looks - 3)


def test_no_copy_waits_for_the_card(monkeypatch):
    """A capture refuses one that does, and a card without an answer would hold the host."""
    run, _ = run_of(graph_of(), Shape(2, {"rows": 6}), on_card=False)
    waits, copy = [], torch.Tensor.copy_

    def copied(y, x, non_blocking=False):
        waits.append(not non_blocking)
        return copy(y, x, non_blocking)

    monkeypatch.setattr(torch.Tensor, "copy_", copied)
    run._set_lengths({"rows": [6, 5]})
    module._transfer(*torch.zeros(2, 8, dtype=torch.int8))()
    assert waits == [False, False]
