"""The bench of the CPU backend."""

import itertools

import pytest
import torch
from cards import Clock

from transept.host.bench import cpu
from transept.host.bench.cpu import CpuGraph, bench_cpu


@pytest.mark.filterwarnings("ignore")
def test_an_encoder_three_ways():
    rows = bench_cpu((16, 2, 32, 1), shapes=((8, 1), (5, 2)), rounds=1)
    assert [row["work"] for row in rows] == ["8 x 1 tokens", "5 x 2 tokens"]
    for row in rows:
        assert row["mismatches"] == 0
        assert row["against_golden"] == pytest.approx(row["golden_ms"] / row["ours_ms"])
        assert row["against_float32"] == pytest.approx(row["float32_ms"] / row["ours_ms"])


def test_what_is_measured():
    assert (cpu.MINILM, cpu.SHAPES, cpu.ROUNDS) == ((384, 12, 1536, 6), ((128, 1), (32, 4)), 9)


def test_sequences_of_an_encoder_do_not_see_each_other():
    torch.manual_seed(0)
    model, x = cpu._encoder(16, 2, 32, 3), torch.randn(3, 5, 16)
    assert torch.allclose(model(x)[1:2], model(x[1:2]), atol=1e-6)
    layer = model.layers[2]
    assert (layer.self_attn.num_heads, layer.linear1.out_features) == (2, 32)
    assert len(model.layers) == 3
    assert not model.training


def test_figures_of_an_encoder(monkeypatch):
    """Of the backend's elements three are made to differ."""

    class Wrong(CpuGraph):
        def run(self, inputs):
            shapes.append([x.shape for x in inputs.values()])
            found = super().run(inputs)
            for y in found.values():
                y[0, 0, :3] += 1
            return found

    def medians(rounds, *runs):
        assert rounds == 2
        golden, ours, real = (run() for run in runs)
        ((name, y),) = golden.items()
        assert (ours[name] != y.numpy()).sum() == 3
        assert torch.is_inference(real)
        assert real.shape == y.shape
        return [8.0, 2.0, 6.0]

    def imported(model, x, config):
        shapes.append(tuple(x.shape))
        return import_model(model, x, config)

    shapes, import_model = [], cpu.import_model
    monkeypatch.setattr(cpu, "import_model", imported)
    monkeypatch.setattr(cpu, "CpuGraph", Wrong)
    monkeypatch.setattr(cpu, "_medians", medians)
    torch.manual_seed(5)
    assert bench_cpu((16, 2, 32, 1), ((8, 1), (5, 2)), 2) == [
        {
            **{"work": work, "mismatches": 3, "golden_ms": 8.0, "ours_ms": 2.0},
            **{"float32_ms": 6.0, "against_golden": 4.0, "against_float32": 3.0},
        }
        for work in ("8 x 1 tokens", "5 x 2 tokens")
    ]
    assert shapes == [(1, 8, 16), *[[(1, 8, 16)]] * 2, *[[(2, 5, 16)]] * 2]
    assert torch.initial_seed() == 0


def test_the_second_of_two_runs_counts(monkeypatch):
    clock, done = Clock(), []
    one, other = (
        itertools.cycle(times) for times in ((50, 2, 50, 9, 50, 1), (50, 4, 50, 5, 50, 6))
    )

    def taking(name, times):
        return lambda: done.append(name) or clock.passes(next(times))

    monkeypatch.setattr(cpu, "time", clock)
    found = cpu._medians(3, taking("one", one), taking("other", other))
    assert found == pytest.approx([2.0, 5.0])
    assert done == ["one", "one", "other", "other"] * 3


def test_an_odd_number_of_heads_is_no_cause_for_a_warning():
    assert cpu._encoder(9, 3, 18, 1).layers[0].self_attn.num_heads == 3
