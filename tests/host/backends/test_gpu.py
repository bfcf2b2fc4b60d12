"""The device ``gpu``: whole graphs, interpreted where there is no GPU, have the golden bits."""

import dataclasses

import numpy as np
import pytest
import torch
from graphs import SMALL as GRAPHS
from graphs import GraphBuilder, post_norm, random_inputs
from operators import inputs, multiply, rotary
from triton.runtime.errors import OutOfResources

from transept.golden.config import TINY
from transept.golden.ops import Linear
from transept.host.backends import gpu as module
from transept.host.backends.gpu import GpuGraph, tune
from transept.host.backends.gpu.graph import bucket, wait_until
from transept.host.backends.gpu.memory import Memory
from transept.host.backends.gpu.steps import STEPS, steps
from transept.host.compiler.cut import Shape
from transept.host.devices.base import DeviceError, DeviceLostError
from transept.host.kernels import INTERPRETED
from transept.host.kernels.matmul import Blocks
from transept.host.runtime.region import Region
from transept.host.runtime.session import Session

DEVICE = torch.device("cpu" if INTERPRETED else "cuda")


def check(graph, prepared, batch, length, real=None, seed=0):
    inputs = random_inputs(graph, batch, length, seed)
    lengths = None if real is None else {"rows": real}
    wanted, found = graph.evaluate(inputs, lengths), prepared.run(inputs, lengths)
    assert found.keys() == wanted.keys()
    for name, y in wanted.items():
        assert np.array_equal(found[name], y), name


@pytest.mark.parametrize("graph", GRAPHS)
def test_graphs_have_the_golden_bits(graph):
    graph = GRAPHS[graph]()
    check(graph, GpuGraph(graph), 1, 13, [11])


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("width", [1, 11, 24])
def test_activations_of_rows_with_padding(width, bits):
    build = GraphBuilder(1)
    x = build.value(6)
    graph = build.graph([x], [build.linear(x, width, bits, table=True)])
    check(graph, GpuGraph(graph), 2, 5)


@pytest.mark.parametrize("kind", ["random", "extreme", "largest"])
@pytest.mark.parametrize(
    "graph",
    [multiply(11, 15, 16), multiply(11, 0, 8), rotary(3, 8, 7), rotary(1, 2, 0)],
    ids=["product", "product of 8 bits", "rotary", "a pair"],
)
def test_elements_have_the_golden_bits(graph, kind):
    given = inputs(graph, 2, 5, kind)
    wanted, found = graph.evaluate(given), GpuGraph(graph).run(given)
    assert np.array_equal(found[graph.outputs[0]], wanted[graph.outputs[0]])


def test_sequences_of_a_batch_have_their_own_lengths():
    graph = GRAPHS["post-norm"]()
    check(graph, GpuGraph(graph), 3, 7, [1, 7, 4])


def test_layers_of_the_same_rows_are_one_product():
    graph = GRAPHS["post-norm"]()
    assert len(steps(graph, DEVICE)) == len(graph.ops) - 2
    check(graph, GpuGraph(graph), 2, 9, [9, 2])


def test_layers_that_are_requantised_otherwise_are_not():
    graph = GRAPHS["post-norm"]()
    first = next(i for i, op in enumerate(graph.ops) if isinstance(op, Linear))
    ops = list(graph.ops)
    ops[first] = dataclasses.replace(ops[first], out_shift=7)
    graph = dataclasses.replace(graph, ops=tuple(ops))
    assert len(steps(graph, DEVICE)) == len(graph.ops) - 1
    check(graph, GpuGraph(graph), 1, 6)


# --- buckets and memory
@pytest.mark.parametrize(
    ("length", "rows"),
    [(1, 16), (16, 16), (17, 32), (65, 80), (129, 144), (257, 288), (500, 512), (590, 600)],
)
def test_a_bucket_has_up_to_an_eighth_more_rows(length, rows):
    graph = GRAPHS["mlp"]()
    dims = tuple(dataclasses.replace(dim, limit=600) for dim in graph.dims)
    graph = dataclasses.replace(graph, dims=dims)
    assert bucket(graph, Shape(2, {"rows": length})) == Shape(2, {"rows": rows})


def test_what_a_filter_looks_at_is_not_padded():
    shape = Shape(1, {"rows": 5})
    assert bucket(GRAPHS["threshold"](), shape) == shape


def test_shapes_of_a_bucket_share_a_run():
    graph = GRAPHS["mlp"]()
    prepared = GpuGraph(graph)
    runs = {prepared.captured(Shape(1, {"rows": rows})) for rows in (3, 16, 9)}
    assert len(runs) == 1
    assert prepared.captured(Shape(2, {"rows": 3})) not in runs


def test_layers_take_the_place_of_those_before():
    sizes = []
    for layers in (2, 6):
        graph = post_norm(2, 16, 2, [32] * layers)
        prepared, made = GpuGraph(graph), []
        memory = Memory(graph, Shape(1, {"rows": 16}), DEVICE)
        tensor = memory.tensor
        memory.tensor = lambda *args, f=tensor, made=made: made.append(f(*args)) or made[-1]
        prepared._launches(memory)
        sizes.append(len({x.data_ptr() for x in made}))
    assert sizes[1] <= sizes[0]


# --- faults
@pytest.fixture
def real(monkeypatch):
    """As if nobody had asked for the interpreter."""
    monkeypatch.setattr(module, "ASKED_TO_INTERPRET", False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "card")


def test_without_a_card_the_cpu_does_the_work(real, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    graph = GRAPHS["mlp"]()
    region, inputs = Region("region", graph, TINY), random_inputs(graph, 1, 4)
    session = Session(TINY, "gpu")
    assert session.run(region, inputs).device == "cpu"
    assert session.notes == ["region ran on cpu: gpu: torch finds no CUDA device"]
    with pytest.raises(DeviceError, match="no CUDA device"):
        Session(TINY, "gpu", fallback=False).run(region, inputs)


def test_an_older_card_is_refused_by_name(real, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 6))
    with pytest.raises(DeviceError, match=r"card has compute capability 8.6, kernels need 9.0"):
        module.check_card()


def test_what_has_no_kernel_is_done_on_the_cpu(monkeypatch):
    monkeypatch.delitem(STEPS, Linear)
    graph = GRAPHS["mlp"]()
    inputs = random_inputs(graph, 1, 4)
    session = Session(TINY, "gpu")
    result = session.run(Region("region", graph, TINY), inputs)
    assert result.device == "cpu"
    assert session.notes == [
        f"region ran on cpu: gpu: {graph.ops[0].name} is a Linear, there is no such kernel"
    ]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (torch.cuda.OutOfMemoryError("no room\nfor it"), "region ran on cpu: gpu: no room"),
        (OutOfResources(9, 7, "shared memory"), "region ran on cpu: gpu: out of resource: "),
        (torch.AcceleratorError("a driver died\n"), "region ran on cpu: gpu: a driver died"),
    ],
)
def test_what_fails_on_the_card_moves_to_the_cpu(monkeypatch, error, told):
    def fail(self, moves):
        raise error

    monkeypatch.setattr("transept.host.backends.gpu.graph.CapturedRun.launch", fail)
    graph = GRAPHS["mlp"]()
    inputs = random_inputs(graph, 1, 4)
    session = Session(TINY, "gpu")
    result = session.run(Region("region", graph, TINY), inputs)
    (note,) = session.notes
    assert result.device == "cpu"
    assert note.startswith(told)
    for name, y in graph.evaluate(inputs).items():
        assert np.array_equal(result.outputs[name], y)


def test_a_card_that_does_not_answer_is_given_up():
    answers = iter([False, False, True])
    wait_until(lambda: next(answers), 60.0)
    with pytest.raises(DeviceLostError, match=r"gpu: no answer within 0.05 seconds"):
        wait_until(lambda: False, 0.05)


def test_lengths_may_change_from_run_to_run():
    graph = GRAPHS["post-norm"]()
    prepared = GpuGraph(graph)
    for seed, real in enumerate(([6, 2], None, [1, 5])):  # on the same memory
        check(graph, prepared, 2, 6, real, seed)


def test_the_fastest_tiles_are_kept(monkeypatch, tmp_path):
    times = {1: 3.0, 2: 1.0, 3: 2.0}
    tried = []
    monkeypatch.setattr(tune, "INTERPRETED", False)
    monkeypatch.setattr(tune, "cache_dir", lambda: tmp_path)
    monkeypatch.setattr(tune, "_milliseconds", lambda run: times[run()])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A card")
    candidates = [Blocks(group=group) for group in times]

    def run(blocks):
        tried.append(blocks.group)
        return blocks.group

    for _ in range(2):  # the second one reads what the first one wrote
        tuner = tune.Tuner(torch.device("cuda"))
        assert tuner.fastest(("linear", 1), candidates, run).group == 2
    assert tried == [1, 2, 3]
    assert tuner.fastest(("linear", 2), candidates[:1], run).group == 1
    assert tuner.fastest(("linear", 2), candidates[::2], run).group == 3
    assert tried == [1, 2, 3, 1, 3]
