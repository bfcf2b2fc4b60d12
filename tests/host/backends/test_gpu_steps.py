"""Which operators start together, on which values, and what is tuned for them."""

import pytest
import torch
from graphs import GraphBuilder, four_bits, linear_alone, norms_in_front

from transept.golden.ops import Attention, Linear, Norm
from transept.host.backends.gpu import steps as module
from transept.host.backends.gpu.memory import Memory
from transept.host.backends.gpu.steps import LinearStep, _beside, steps
from transept.host.backends.gpu.tune import ATTENTION_BLOCKS, linear_blocks
from transept.host.compiler.cut import Shape
from transept.host.compiler.errors import CompileError

CPU = torch.device("cpu")


class Notes:
    """A tuner that tries the first candidate, takes the last, and notes what it was asked."""

    def __init__(self):
        self.asked = []

    def fastest(self, kind, candidates, run):
        self.asked.append((kind, candidates))
        run(candidates[0])
        return candidates[-1]


class Called:
    """In place of a kernel: notes what it was called with."""

    def __init__(self, weights=None):
        self.weights, self.calls = weights, []

    def __call__(self, *args, **named):
        self.calls.append((args, named))


@pytest.fixture
def moved(monkeypatch):
    """What is quantised and activated, by name of what does it."""
    found = []
    for name in ("quantise_rows", "activated"):
        monkeypatch.setattr(module, name, lambda *args, n=name: found.append((n, *args)))
    return found


def launched(step, graph):
    """The step's kernel replaced, its launches made in some memory and started: as they were tried,
    but for the sizes of tiles, and for sequences that have all their keys."""
    memory, tuner = Memory(graph, Shape(2, {"rows": 5}), CPU), Notes()
    step._kernel = kernel = Called(getattr(step._kernel, "weights", None))
    launches = list(step.launches(memory, tuner))
    tried, kernel.calls = kernel.calls, []
    for launch in launches:
        launch()
    for (args, named), (_, candidates) in zip(tried, tuner.asked, strict=True):
        taken, options = kernel.calls[0]
        assert args == taken
        whole = {"whole": True} if "whole" in options else {}
        assert named == {**options, "blocks": candidates[0], **whole}
    return memory, kernel.calls, tuner.asked


def test_layers_beside_each_other():
    """Of as many bits, and none whose int8 result a product reads."""
    build = GraphBuilder(1)
    x = build.value(8)
    eight = [build.linear(x, 4, 8) for _ in range(3)]
    wide = [build.linear(x, 4) for _ in range(2)]
    build.linear(x, 4, 8, table=True)
    last = build.linear(eight[1], 4)
    build.linear(wide[0], 4)
    graph = build.graph([x], [last, eight[0]])
    beside = {op.name: [other.name for other in _beside(graph, op)] for op in graph.ops[:6]}
    assert beside == {
        "linear0": ["linear0", "linear2"],
        "linear1": ["linear1"],
        "linear2": ["linear2", "linear0"],
        "linear3": ["linear3", "linear4"],
        "linear4": ["linear4", "linear3"],
        "linear5": ["linear5"],
    }
    found = [[op.name for op in step.ops] for step in steps(graph, CPU)]
    assert found == [
        ["linear0", "linear2"],
        ["linear1"],
        ["linear3", "linear4"],
        ["linear5"],
        ["linear6"],
        ["linear7"],
    ]


def linear_graph(bits, table, read):
    """A layer of 20 columns on ``v0``; its result is an output, read by another layer, or both."""
    build = GraphBuilder(1)
    x = build.value(6)
    y = build.linear(x, 20, bits, table=table)
    outputs = [y] if "output" in read else []
    if "layer" in read:
        outputs.append(build.linear(y, 3))
    return build.graph([x], outputs)


@pytest.mark.parametrize("read", ["output", "layer", "output and layer"])
def test_a_layer_also_makes_the_operands_of_the_next(moved, read):
    graph = linear_graph(16, False, read)
    step = LinearStep(graph, [graph.ops[0]], CPU)
    memory, calls, asked = launched(step, graph)
    y = memory.value("v1")
    ((args, named),) = calls
    assert (args[0], args[1]) == (memory.rows("v0"), y)
    assert named == {"dynamic": True, "blocks": linear_blocks(10)[-1]}
    assert asked == [(("linear", 10, 20, 16, 16), linear_blocks(10))]
    wanted = [("quantise_rows", y, memory.rows("v1"))] if "layer" in read else []
    assert moved == wanted


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("read", ["output", "layer", "output and layer"])
def test_activations_are_applied_where_somebody_reads_them(moved, read, bits):
    graph = linear_graph(bits, True, read)
    step = LinearStep(graph, [graph.ops[0]], CPU)
    memory, calls, asked = launched(step, graph)
    (((_, before), _),) = calls
    assert before.dtype == torch.int16
    assert asked[0][0] == ("linear", 10, 20, 16, 16)
    operand = bits == 16 and "layer" in read
    kept = not operand or "output" in read
    after = memory.value("v1") if kept else None
    ((name, x, *found),) = moved
    assert x is before
    if operand:
        assert (name, found) == ("quantise_rows", [memory.rows("v1"), step._table, after])
    else:
        assert (name, found) == ("activated", [step._table, after])
    assert memory.tensor(10, 20, torch.int16) is before  # others may have its place


def test_an_int8_layer_reads_and_makes_int8_rows(moved):
    build = GraphBuilder(1)
    x = build.value(6, 8)
    y, z = build.linear(x, 4, 8), build.linear(x, 7, 8)
    graph = build.graph([x], [y, z])
    (step,) = steps(graph, CPU)
    memory, (((rows, both), named),), asked = launched(step, graph)
    assert (rows, named["dynamic"]) == (memory.rows("v0"), False)
    assert (both.shape, both.dtype) == ((10, 11), torch.int8)
    both[:] = torch.arange(11, dtype=torch.int8)
    assert memory.value("v1")[3].tolist() == [0, 1, 2, 3]
    assert memory.value("v2")[3].tolist() == [4, 5, 6, 7, 8, 9, 10]
    assert asked == [(("linear", 10, 11, 16, 8), linear_blocks(10))]
    assert moved == []


def test_norms_and_attentions_bind_their_values(moved):
    graph = norms_in_front(2, 32, 2, [40])
    by_kind = {type(step.ops[0]): step for step in reversed(steps(graph, CPU))}
    attention, norm = by_kind[Attention], by_kind[Norm]
    memory, (((q, k, v, out, keys), named),), asked = launched(attention, graph)
    op = attention.ops[0]
    tensors = {op.q: q, op.k: k, op.v: v, op.out: out}
    for name, tensor in tensors.items():
        assert tensor.data_ptr() == memory.value(name).data_ptr()
        assert tensor.shape == (2, 5, 32)
    assert keys is memory.keys(op.k)
    assert named == {"blocks": ATTENTION_BLOCKS[-1], "whole": False}
    assert asked == [(("attention", 2, 5, 32, 5, 32, 32, 2, op.filter), ATTENTION_BLOCKS)]
    assert moved == [("quantise_rows", memory.value(op.out), memory.rows(op.out))]
    moved.clear()
    memory, ((bound, _),), _ = launched(norm, graph)
    op = norm.ops[0]
    assert (op.x, op.sum) == (None, None)
    assert bound == (memory.value(op.y), None, None, None, memory.rows(op.out))
    assert moved == []


def test_a_sum_that_a_product_reads_is_quantised(moved):
    build = GraphBuilder(1)
    x, y = build.value(8), build.value(8)
    h, total = build.norm_and_sum(x, y)
    plain = build.add(h, total)
    graph = build.graph([x, y], [build.linear(total, 3), build.linear(plain, 3), h])
    norm, add, *layers = steps(graph, CPU)
    memory, ((bound, _),), _ = launched(norm, graph)
    values = {name: memory.value(name) for name in (x, y, h, total)}
    assert bound == (values[x], values[y], values[h], values[total], None)
    assert moved == [("quantise_rows", values[total], memory.rows(total))]
    moved.clear()
    memory, ((bound, _),), _ = launched(add, graph)
    values = {name: memory.value(name) for name in (h, total, plain)}
    assert bound == (values[h], values[total], None, values[plain], None)
    assert moved == [("quantise_rows", values[plain], memory.rows(plain))]
    assert all(isinstance(layer.ops[0], Linear) for layer in layers)


def test_rows_in_halves_are_refused_by_name():
    with pytest.raises(
        CompileError, match=r"^gpu: \S+ has rows in halves, there is no such kernel$"
    ):
        steps(four_bits(linear_alone(1, 32, 16)), CPU)
