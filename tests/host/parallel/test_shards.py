"""Any number of ranks has the golden bits: tensor parallel, and sequences."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from graphs import cross, four_bits, mlp, post_norm, pre_norm, random_inputs

from transept.golden.config import TINY
from transept.golden.filters import Causal, TileThreshold
from transept.golden.graph import Graph
from transept.golden.ops import Attention, Linear
from transept.host.backends.cpu import CpuGraph
from transept.host.backends.golden import GoldenGraph
from transept.host.devices.base import DeviceError
from transept.host.kernels import INTERPRETED
from transept.host.parallel.sequences import SequenceParallelGraph
from transept.host.parallel.shards import shares, stages
from transept.host.parallel.tensor import TensorParallelGraph, _cut
from transept.host.runtime.region import Region
from transept.host.runtime.session import Session

RANKS = Path(__file__).parents[2] / "benches" / "ranks.py"
GRAPHS = {
    "post-norm": lambda: post_norm(1, 16, 4, [32]),
    "one head": lambda: post_norm(2, 16, 1, [20]),
    "layers that differ": lambda: post_norm(2, 24, 3, [8, 40]),
    "grouped heads": lambda: pre_norm(4, 32, 4, 2, [32, 24]),
    "causal": lambda: post_norm(5, 16, 2, [16], Causal()),
    "threshold": lambda: post_norm(7, 16, 2, [16], TileThreshold(1000)),
    "mlp": lambda: mlp(8, [10, 24, 7]),
    "four bits": lambda: four_bits(pre_norm(4, 32, 4, 2, [32, 24])),
    "mlp from int8": lambda: mlp(9, [10, 3, 7], bits=8),
}


def lengths_of(graph, batch, length):
    return {dim.name: [max(1, length - 2 * i) for i in range(batch)] for dim in graph.dims}


def run_ranks(graph, ranks, inputs, lengths):
    """All ranks in one process, a stage at a time."""
    every = [stages(graph, rank, ranks) for rank in range(ranks)]
    held = [{name: (x, 0) for name, x in inputs.items()} for _ in range(ranks)]
    for index in range(len(every[0])):
        for rank, found in enumerate(every):
            stage = found[index]
            given = {
                name: _cut(*held[rank][name], columns) for name, columns in stage.columns.items()
            }
            real = {dim.name: lengths[dim.name] for dim in stage.graph.dims}
            for name, y in GoldenGraph(stage.graph).run(given, real).items():
                held[rank][name] = y, stage.starts[name]
        for name in every[0][index].gathered:
            whole = np.concatenate([held[rank][name][0] for rank in range(ranks)], -1)
            for rank in range(ranks):
                held[rank][name] = whole, 0
    return [{name: held[rank][name][0] for name in graph.outputs} for rank in range(ranks)]


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
@pytest.mark.parametrize("graph", GRAPHS)
def test_every_rank_has_the_golden_bits(graph, ranks):
    graph = GRAPHS[graph]()
    inputs, lengths = random_inputs(graph, 2, 9), lengths_of(graph, 2, 9)
    wanted = graph.evaluate(inputs, lengths)
    for found in run_ranks(graph, ranks, inputs, lengths):
        for name, y in wanted.items():
            assert np.array_equal(found[name], y), name


def test_queries_and_keys_of_different_lengths():
    graph = cross(1, 16, 4, 24)
    rng = np.random.default_rng(0)
    rows = {dim.name: 5 + 3 * i for i, dim in enumerate(graph.dims)}
    inputs = {
        name: rng.integers(-90, 90, (2, rows[v.dim], v.width)).astype(f"int{v.bits}")
        for name, v in ((name, graph.values[name]) for name in graph.inputs)
    }
    lengths = {dim: [count, count - 1] for dim, count in rows.items()}
    wanted = graph.evaluate(inputs, lengths)
    for found in run_ranks(graph, 2, inputs, lengths):
        assert all(np.array_equal(found[name], y) for name, y in wanted.items())


def test_weights_and_heads_are_shared_out():
    graph = GRAPHS["post-norm"]()
    whole = sum(op.weight.size for op in graph.ops if isinstance(op, Linear))
    for rank in range(2):
        ops = [op for stage in stages(graph, rank, 2) for op in stage.graph.ops]
        assert sum(op.weight.size for op in ops if isinstance(op, Linear)) == whole / 2
        assert [op.heads for op in ops if isinstance(op, Attention)] == [2]
        assert len(ops) == len(graph.ops)


def test_attention_starts_without_gathering():
    first = stages(GRAPHS["post-norm"](), 0, 2)[0]
    assert any(isinstance(op, Attention) for op in first.graph.ops)


def test_shares_are_even():
    assert shares(7, 3) == [(0, 3), (3, 5), (5, 7)]
    assert shares(4, 2, 8) == [(0, 16), (16, 32)]
    assert shares(1, 3) == [(0, 1), (1, 1), (1, 1)]


def test_there_is_no_such_rank():
    with pytest.raises(ValueError, match="rank 2 is outside 0 to 1"):
        stages(GRAPHS["mlp"](), 2, 2)


def test_without_processes_there_is_an_error():
    with pytest.raises(RuntimeError, match=r"torch\.distributed is not initialised"):
        TensorParallelGraph(GRAPHS["mlp"](), CpuGraph)


@pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_processes_gather_through_torch(ranks, tmp_path):
    environment = os.environ | {"MASTER_ADDR": "localhost", "OMP_NUM_THREADS": "1"}
    environment |= {"RENDEZVOUS": f"file://{tmp_path}/rendezvous"}
    processes = [
        subprocess.Popen(
            [sys.executable, RANKS, str(rank), str(ranks)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(ranks)
    ]
    for process in processes:
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0, out[-2000:]
        assert out.strip().splitlines()[-1] == "the same bits"


# --- sequences
@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("devices", [1, 2, 3])
def test_sequences_on_several_devices(devices, batch):
    graph = GRAPHS["post-norm"]()
    inputs, lengths = random_inputs(graph, batch, 9), lengths_of(graph, batch, 9)
    found = SequenceParallelGraph(graph, [CpuGraph] * devices).run(inputs, lengths)
    for name, y in graph.evaluate(inputs, lengths).items():
        assert np.array_equal(found[name], y)


@pytest.mark.skipif(not INTERPRETED and torch.cuda.device_count() < 2, reason="one card")
def test_the_gpu_takes_several_cards():
    graph: Graph = GRAPHS["mlp"]()
    region, inputs = Region("region", graph, TINY), random_inputs(graph, 3, 4)
    session = Session(TINY, "gpu", cards=2)
    found = session.run(region, inputs)
    assert (found.device, session.notes) == ("gpu", [])
    for name, y in graph.evaluate(inputs).items():
        assert np.array_equal(found.outputs[name], y)


def test_more_cards_than_there_are(monkeypatch):
    monkeypatch.setattr("transept.host.backends.gpu.INTERPRETED", False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    graph = GRAPHS["mlp"]()
    region, inputs = Region("region", graph, TINY), random_inputs(graph, 3, 4)
    with pytest.raises(DeviceError, match="gpu: 2 cards, torch finds 1"):
        Session(TINY, "gpu", fallback=False, cards=2).run(region, inputs)
