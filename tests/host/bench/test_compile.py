"""The bench of the compiler."""

import inspect

import pytest
import torch
from cards import Clock

from transept.golden.config import PYNQ_Z2, TINY
from transept.host.bench import compile as module
from transept.host.bench.compile import bench_compile
from transept.host.bench.encoder import BERT_BASE, MINILM, Encoder


def test_encoders_are_compared_with_the_first():
    sizes = [Encoder("one", 1, 16, 2, 24), Encoder("three", 3, 16, 2, 24)]
    one, three = bench_compile(sizes, 8, TINY, rounds=2)
    assert (one["model"], one["layers"], one["ratio"]) == ("one", 1, 1.0)
    assert (three["model"], three["layers"]) == ("three", 3)
    assert three["ratio"] == three["seconds"] / one["seconds"]
    assert three["instructions"] > 2 * one["instructions"]
    for row in (one, three):
        assert row["compiler_seconds"] > 0


def test_the_least_of_the_rounds_counts(monkeypatch):
    times, asked = iter([4.0, 9.0, 2.0, 8.0, 3.0, 6.0]), []

    def row(sizes, tokens, config):
        asked.append((sizes, tokens, config))
        return {"model": sizes.name, "seconds": next(times)}

    monkeypatch.setattr(module, "_row", row)
    assert bench_compile(rounds=3) == [
        {"model": "MiniLM", "seconds": 2.0, "ratio": 1.0},
        {"model": "BERT-base", "seconds": 6.0, "ratio": 3.0},
    ]
    assert asked == [(MINILM, 128, PYNQ_Z2), (BERT_BASE, 128, PYNQ_Z2)] * 3
    assert inspect.signature(bench_compile).parameters["rounds"].default == 2


def test_the_compiler_is_timed_apart(monkeypatch):
    clock, compile_graph, import_model = Clock(), module.compile_graph, module.import_model
    shapes = []

    def imported(model, x, config):
        shapes.append(x.shape)
        clock.passes(300)
        return import_model(model, x, config)

    def compiled(*told):
        clock.passes(200)
        return compile_graph(*told)

    clock.passes(1000)
    clock.process_time = clock.perf_counter
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "import_model", imported)
    monkeypatch.setattr(module, "compile_graph", compiled)
    found = module._row(Encoder("small", 1, 8, 2, 12), 4, TINY)
    assert found == {
        **{"model": "small", "layers": 1, "instructions": found["instructions"]},
        **{"seconds": pytest.approx(0.3), "compiler_seconds": pytest.approx(0.2)},
    }
    assert shapes == [(1, 4, 8)]
    assert torch.initial_seed() == 0
