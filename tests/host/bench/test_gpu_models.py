"""Rows of whole encoders on a stand-in for a card and its clock."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cards import SMALL, Clock, on_the_cpu
from placements import chain

from transept.golden.config import PYNQ_Z2
from transept.host.bench import gpu_models
from transept.host.bench.encoder import BERT_BASE, MINILM
from transept.host.compiler.cut import Shape
from transept.host.kernels import INTERPRETED

pytestmark = pytest.mark.skipif(not INTERPRETED, reason="there is a card")


@pytest.fixture
def card(monkeypatch):
    with on_the_cpu(monkeypatch) as done:
        yield done


def test_what_is_measured():
    assert gpu_models.LAYERS == ((BERT_BASE, 128, 512), (MINILM, 32, 128))
    assert (gpu_models.STACKED, gpu_models.COMPARED) == (4, (4, 200))
    assert (gpu_models.SHORT, gpu_models.REPETITIONS) == (32, 200)


def test_models_their_overhead_and_their_layers_have_rows(monkeypatch):
    monkeypatch.setattr(gpu_models, "encoder_graph", lambda sizes, tokens: (None, tokens))
    monkeypatch.setattr(gpu_models, "_whole", lambda sizes, graph: ("whole", sizes.name, graph))
    monkeypatch.setattr(gpu_models, "_overhead", lambda sizes, graph: ("run", sizes.name, graph))
    monkeypatch.setattr(
        gpu_models, "_layer", lambda sizes, *rest: ("layer", sizes.name, sizes.layers, *rest)
    )
    said = []
    assert list(gpu_models.bench_models("clock", said.append)) == [
        *(("whole", "MiniLM", 32), ("run", "MiniLM", 32)),
        *(("whole", "BERT-base", 32), ("run", "BERT-base", 32)),
        *(("layer", "BERT-base", 4, 128, 512, "clock"), ("layer", "MiniLM", 4, 32, 128, "clock")),
    ]
    assert said == [
        *("MiniLM, whole", "MiniLM, overhead of the runtime"),
        *("BERT-base, whole", "BERT-base, overhead of the runtime"),
        *("a layer of BERT-base, 128 x 512", "a layer of MiniLM, 32 x 128"),
    ]


def test_some_rows_of_the_inputs_are_large(monkeypatch):
    graph, drawn = chain([4, 4]), np.array([-3.0, -0.80001, 0.80001, 3.0])

    def lots(seed):
        assert seed == 3
        return SimpleNamespace(
            standard_normal=lambda size: np.broadcast_to(drawn, size),
            choice=lambda values, size: np.resize(values, size),
        )

    monkeypatch.setattr(np.random, "default_rng", lots)
    (x,) = gpu_models._inputs(graph, 2, 3).values()
    rows = [[-1500, -400, 400, 1500], [-18000, -4800, 4800, 18000], [-32767, -32000, 32000, 32767]]
    assert x.dtype == np.int16
    assert x.tolist() == [rows, rows]


def test_a_model_is_compared_at_several_lengths(card, monkeypatch):
    asked = []

    class Wrong:
        def __init__(self, graph):
            self.graph = graph

        def run(self, inputs, lengths):
            asked.append(lengths)
            assert [x.shape for x in inputs.values()] == [(3, 150, 4)]
            found = self.graph.evaluate(inputs, lengths)
            return {name: y + (np.arange(y.size).reshape(y.shape) < 5) for name, y in found.items()}

    monkeypatch.setattr(gpu_models, "GpuGraph", Wrong)
    monkeypatch.setattr(gpu_models, "COMPARED", (3, 150))
    assert gpu_models._whole(SMALL, chain([4, 8])) == {
        "work": "small, whole",
        "shape": "2 layers, 3x150",
        "mismatches": 2 * 5,
    }
    assert asked == [{"rows": [150, 89, 28]}, {"rows": [150, 150, 150]}]


def test_the_overhead_is_what_a_run_takes_beside_its_kernels(card, monkeypatch):
    graph, clock, done = chain([4, 8]), Clock(), []
    runs, kernels = itertools.cycle([12, 50, 7]), itertools.cycle([1, 2, 30])

    class Session:
        def __init__(self, config, device, fallback):
            assert (config, device, fallback) == (PYNQ_Z2, "gpu", False)

        def run(self, region, inputs):
            assert (region.name, region.graph, region.config) == ("small", graph, PYNQ_Z2)
            assert [x.shape for x in inputs.values()] == [(1, 32, 4)]
            done.append("run")
            if len(done) > 1:
                clock.passes(next(runs))

        def prepared(self, region):
            return SimpleNamespace(captured=lambda shape: done.append(shape) or self)

        def replay(self):
            done.append("replay")
            clock.passes(next(kernels))

    monkeypatch.setattr(torch.cuda, "synchronize", lambda: clock.passes(2))
    monkeypatch.setattr(gpu_models, "Session", Session)
    monkeypatch.setattr(gpu_models, "time", clock)
    monkeypatch.setattr(gpu_models, "REPETITIONS", 3)
    assert gpu_models._overhead(SMALL, graph) == pytest.approx(
        {
            "work": "small, session against its captured graph",
            "shape": "2 layers, 1x32",
            **{"ms": 12.0, "graph_ms": 4.0, "overhead": 3.0, "layer_us": 2000.0},
        }
    )
    assert done == ["run", Shape(1, {"rows": 32}), *["replay", "run"] * 3]


def test_a_layer_is_one_of_those_in_a_graph(card, monkeypatch):
    """Both are captured; of torch's, what it compiles and tries comes before."""
    done = []

    class Model(torch.nn.Linear):
        def forward(self, x):
            done.append(("model", x.shape, x.dtype, torch.is_grad_enabled()))

    class Captured:
        def __init__(self, graph):
            assert graph == "graph"

        def captured(self, shape):
            assert shape == Shape(2, {"rows": 3})
            return self

        def run(self, inputs):
            done.append(inputs)

        def replay(self):
            done.append("replay")

    graph = chain([4, 8])
    monkeypatch.setattr(gpu_models, "GpuGraph", lambda found: found is graph and Captured("graph"))
    monkeypatch.setattr(gpu_models, "_inputs", lambda *found: found == (graph, 2, 3) and "inputs")
    monkeypatch.setattr(
        gpu_models, "encoder_graph", lambda sizes, tokens: (Model(sizes.hidden, tokens), graph)
    )
    monkeypatch.setattr(
        gpu_models, "capture", lambda launch: launch() or SimpleNamespace(replay=lambda: "theirs")
    )
    times = {None: 8.0, "theirs": 12.0}
    assert gpu_models._layer(SMALL, 2, 3, lambda run: times[run()]) == {
        "work": "small, a layer",
        "shape": "2x3",
        **{"ms": 2.0, "bfloat16_ms": 3.0, "against_bfloat16": 1.5},
    }
    theirs = ("model", (2, 3, 16), torch.bfloat16, False)
    assert done == ["inputs", "replay", theirs, theirs, theirs]
    assert card == [("compile", {"dynamic": False})]
