"""What each rank does by hand: stages, columns, what is gathered; and parts of a batch."""

import types

import numpy as np
import pytest
import torch
from graphs import GraphBuilder, mlp, random_inputs

from transept.golden.ops import Attention
from transept.host.backends.golden import GoldenGraph
from transept.host.compiler.cut import Shape
from transept.host.parallel.sequences import SequenceParallelGraph
from transept.host.parallel.shards import stages
from transept.host.parallel.tensor import TensorParallelGraph


@pytest.fixture(scope="module")
def graph():
    """An attention of four heads that share two pairs of keys and values, and what follows it."""
    build = GraphBuilder(1)
    x = build.value(6)
    q, k, v = build.linear(x, 8, 8), build.linear(x, 4, 8), build.linear(x, 6, 8)
    context = build.attention(q, k, v, 4, 2)
    return build.graph([x], [build.norm(build.linear(context, 6), x), k])


def told(found):
    names = [[op.name for op in stage.graph.ops] for stage in found]
    facts = [(stage.columns, stage.starts, stage.gathered) for stage in found]
    return list(zip(names, facts, strict=True))


def test_heads_are_shared_out_and_whole_rows_gathered(graph):
    """v0 to queries v1, keys v2, values v3, context v4, layer v5 and norm v6."""
    halves = {"v2": [(0, 2), (2, 4)], "v4": [(0, 6), (6, 12)], "v5": [(0, 3), (3, 6)]}
    found = stages(graph, 1, 2)
    layers = ["linear0", "linear1", "linear2", "attention3"]
    assert told(found) == [
        (layers, ({"v0": (0, 6)}, {"v2": 2, "v4": 6}, {"v4": halves["v4"]})),
        (["linear4"], ({"v4": (0, 12)}, {"v5": 3}, {"v5": halves["v5"]})),
        (["norm5"], ({"v0": (0, 6), "v5": (0, 6)}, {"v6": 0}, {"v2": halves["v2"]})),
    ]
    values = {name: value for stage in found[:1] for name, value in stage.graph.values.items()}
    columns = {"v0": (0, 6), "v1": (4, 8), "v2": (2, 4), "v3": (3, 6), "v4": (6, 12)}
    for name, (first, end) in columns.items():
        assert values[name].width == end - first
        assert np.array_equal(values[name].scale, graph.values[name].scale[first:end])
    (attention,) = (op for op in found[0].graph.ops if isinstance(op, Attention))
    whole = graph.ops[3]
    assert (attention.heads, attention.kv_heads) == (2, 1)
    for name in ("score_multiplier", "score_shift"):
        assert np.array_equal(getattr(attention, name), getattr(whole, name)[2:])
    for part, op, first, end in ((attention.context, whole.context, 6, 12),):
        for name in ("multiplier", "shift", "bias"):
            assert np.array_equal(getattr(part, name), getattr(op, name)[first:end])
    layer, others = found[1].graph.ops[0], graph.ops[4]
    assert np.array_equal(layer.weight, others.weight[3:])
    assert np.array_equal(layer.channel.bias, others.channel.bias[3:])


def test_more_ranks_than_heads_share_columns(graph):
    """Neither are layers cut whose heads are too few, nor the attention."""
    found = stages(graph, 2, 3)
    layers = ["linear0", "linear1", "linear2", "attention3", "linear4"]
    first = (layers, ({"v0": (0, 6)}, {"v2": 0, "v5": 4}, {"v5": [(0, 2), (2, 4), (4, 6)]}))
    assert told(found) == [
        first,
        (["norm5"], ({"v0": (0, 6), "v5": (0, 6)}, {"v6": 0}, {})),
    ]
    assert found[0].graph.ops[3].heads == 4


@pytest.mark.parametrize("rank", [-1, 2])
def test_ranks_are_counted_from_zero(graph, rank):
    with pytest.raises(ValueError, match=f"^rank {rank} is outside 0 to 1$"):
        stages(graph, rank, 2)


# --- processes
@pytest.mark.parametrize(("backend", "transport"), [("nccl", "cuda"), ("gloo", "cpu")])
def test_ranks_gather_bytes_through_their_group(graph, monkeypatch, backend, transport):
    """The other rank's columns come from its own run, padded to as many bytes."""
    asked, rank = [], 0

    def ask(what, answer):
        def answered(group=None):
            asked.append((what, group))
            return answer()

        return answered

    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_rank", ask("rank", lambda: rank))
    monkeypatch.setattr("torch.distributed.get_world_size", ask("ranks", lambda: 2))
    monkeypatch.setattr("torch.distributed.get_backend", ask("backend", lambda: backend))
    first = TensorParallelGraph(graph, GoldenGraph, "a group")
    assert first._transport == torch.device(transport)
    assert asked == [(what, "a group") for what in ("rank", "ranks", "backend")]
    rank, first._transport = 1, torch.device("cpu")
    second = TensorParallelGraph(graph, GoldenGraph, "a group")
    second._transport = torch.device("cpu")
    inputs, lengths = random_inputs(graph, 2, 5), {"rows": [5, 3]}
    # a run of each rank up to where it gathers, again and again
    shared = []

    class WaitingError(Exception):
        pass

    def gather(which):
        calls = iter(range(99))

        def gathered(parts, sent, group):
            assert (group, sent.dtype) == ("a group", torch.uint8)
            at = next(calls)
            if at == len(shared):
                shared.append({})
            shared[at][which] = sent.clone()
            if len(shared[at]) < 2:
                raise WaitingError
            for part, other in zip(parts, (shared[at][0], shared[at][1]), strict=True):
                part.copy_(other)

        return gathered

    found = {}
    for _ in range(8):
        for which, ranks in ((0, first), (1, second)):
            monkeypatch.setattr("torch.distributed.all_gather", gather(which))
            try:
                found[which] = ranks.run(inputs, lengths)
            except WaitingError:
                continue
    wanted = graph.evaluate(inputs, lengths)
    for outputs in (found[0], found[1]):
        assert all(np.array_equal(outputs[name], y) for name, y in wanted.items())


# --- sequences
def test_sequences_are_shared_out_in_order():
    graph, asked = mlp(1, [4, 4]), []

    def device(number):
        def prepare(shape, lengths):
            asked.append((number, shape.batch, dict(shape.lengths), lengths))

        def run(inputs, lengths):
            asked.append((number, {name: x.tolist() for name, x in inputs.items()}, lengths))
            return {"y": inputs["x"] * 10}

        return lambda graph: types.SimpleNamespace(prepare=prepare, run=run)

    both = SequenceParallelGraph(graph, [device(0), device(1), device(2)], threads=1)
    both.prepare(Shape(4, {"rows": 7}), {"rows": [7, 6, 5, 4]})
    parts = [(0, [7, 6]), (1, [5]), (2, [4])]
    assert asked == [(n, len(real), {"rows": 7}, {"rows": real}) for n, real in parts]
    asked.clear()
    found = both.run({"x": np.arange(2)}, {"rows": [7, 6]})
    assert asked == [(0, {"x": [0]}, {"rows": [7]}), (1, {"x": [1]}, {"rows": [6]})]
    assert found["y"].tolist() == [0, 10]
    assert both.run({"x": np.arange(4)})["y"].tolist() == [0, 10, 20, 30]
    assert asked[-1] == (2, {"x": [3]}, {})
    assert both._pool._max_workers == 1
    assert SequenceParallelGraph(graph, [device(0), device(1)])._pool._max_workers == 2
