"""Rows of ``bench gpu`` on a stand-in for a card, with times that are given."""

import dataclasses
import datetime
import importlib.metadata

import numpy as np
import pytest
import torch
from cards import on_the_cpu, spread, ticks

from transept.golden.graph import Value
from transept.golden.numerics.requantise import ChannelParameters
from transept.golden.ops import Linear
from transept.host.bench import gpu
from transept.host.kernels import INTERPRETED
from transept.host.kernels.matmul import Blocks
from transept.host.kernels.rows import quantise_rows, rows_like

pytestmark = pytest.mark.skipif(not INTERPRETED, reason="there is a card")


@pytest.fixture
def card(monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(gpu, "SAMPLED", 4)
    with on_the_cpu(monkeypatch) as done:
        yield done


def test_what_is_measured():
    square, *layers = gpu.GEMMS
    assert square == (8192, 8192, 8192)
    assert layers == [(65536, 768, 768), (65536, 3072, 768), (65536, 768, 3072)]
    assert gpu.ATTENTIONS == ((1, 16, 16384, 64), (128, 12, 512, 64), (128, 12, 512, 32))
    assert gpu.SHARES == (0.25, 0.12)
    assert [blocks.group for blocks in gpu.BLOCKS] == [8, 16, 32]
    assert (gpu.TILE, gpu.SAMPLED) == (64, 128)


def test_without_a_card_nothing_is_measured():
    with pytest.raises(RuntimeError, match="bench gpu needs a CUDA device, torch finds none"):
        gpu.bench_gpu()


def test_all_rows_and_on_what_they_were_measured(card, monkeypatch):
    monkeypatch.setattr(gpu, "INTERPRETED", False)
    monkeypatch.setattr(gpu, "GEMMS", ((1, 2, 3), (4, 5, 6)))
    monkeypatch.setattr(gpu, "ATTENTIONS", ((1, 2, 3, 4), (5, 6, 7, 8)))
    monkeypatch.setattr(gpu, "_linear", lambda *shape: ("linear", shape))
    monkeypatch.setattr(gpu, "_attention", lambda *shape: ("attention", shape))
    monkeypatch.setattr(gpu, "_sparse", lambda *shape, share: ("sparse", shape, share))
    monkeypatch.setattr(gpu, "bench_models", lambda clock, say: say("model") or [clock])
    monkeypatch.setattr(gpu, "bench_cards", lambda say: say("cards") or ["cards"])
    torch.manual_seed(5)
    said = []
    found = gpu.bench_gpu(said.append)
    datetime.date.fromisoformat(found.pop("date"))
    assert found == {
        "card": "A card",
        "torch": torch.__version__,
        "triton": importlib.metadata.version("triton"),
        "command": "transept bench gpu",
        "rows": [
            *(("linear", (1, 2, 3)), ("linear", (4, 5, 6))),
            *(("attention", (1, 2, 3, 4)), ("attention", (5, 6, 7, 8))),
            *(("sparse", (1, 2, 3, 4), share) for share in (0.25, 0.12)),
            *(gpu._milliseconds, "cards"),
        ],
    }
    assert said == [
        *("linear 1x2x3", "linear 4x5x6", "attention 1x2x3x4", "attention 5x6x7x8"),
        *("attention, 25% of the tiles", "attention, 12% of the tiles", "model", "cards"),
    ]
    assert torch.initial_seed() == 0


def test_a_launch_is_compiled_before_it_is_timed(monkeypatch):
    timed, runs = ticks(monkeypatch, [7.0]), []
    assert gpu._milliseconds(lambda: runs.append(len(timed))) == 7.0
    assert runs == [0]


def test_rows_of_both_ends_are_compared(card):
    assert gpu._some(9).tolist() == [0, 1, 7, 8]
    assert gpu._some(3).tolist() == [0, 2]


# --- linear layers
def evaluated(op, x):
    values = {"x": Value("x", "rows", x.shape[1]), "y": Value("y", "rows", len(op.weight))}
    return op.evaluate(values, {"x": x.long()[None]}, {})["y"][0]


@pytest.mark.parametrize(("bits", "step"), [(16, 8 / 32767), (8, 4 / 127)])
def test_a_layer_is_that_of_random_weights(bits, step):
    n, k = 12, 64
    op = gpu.linear_op(n, k) if bits == 16 else gpu.linear_op(n, k, bits)
    assert (op.name, op.x, op.y) == ("linear", "x", "y")
    generator = torch.Generator().manual_seed(n)
    weight = torch.randn(n, k, generator=generator) / 8
    bias = torch.randn(n, generator=generator) / 10
    x = torch.randint(-9000, 9001, (300, k), generator=generator)
    wanted = (x * (8 / 32767)) @ weight.T + bias
    found = evaluated(op, x) * step
    assert (found - wanted).abs().mean() < 0.02
    assert (found - wanted).mean(0).abs().max() < 0.003
    slope = (found * wanted).sum() / (wanted * wanted).sum()
    assert slope == pytest.approx(1, abs=1e-3)


def test_a_row_of_a_product(card, monkeypatch):
    """Of its rows two from either end are compared with the golden model."""
    m, n, k = 9, 24, 20
    tried, read = [], []

    class Kernel(gpu.LinearKernel):
        def __call__(self, x, y, *, maxima, blocks, **options):
            super().__call__(x, y, maxima=maxima, blocks=blocks, **options)
            tried.append(blocks.group)
            for row in (0, 1, 4, 8):
                y[row, : row + 1] += 1
            maxima[7] += 1

    monkeypatch.setattr(gpu, "LinearKernel", Kernel)
    monkeypatch.setattr(
        gpu, "quantise_rows", lambda x, rows: read.append(x) or quantise_rows(x, rows)
    )
    monkeypatch.setattr(torch, "randn", spread)
    ticks(monkeypatch, [5.0, 2.0, 4.0, 8.0, 6.0, 1.0])
    assert gpu._linear(m, n, k) == {
        "work": "linear",
        "shape": "9x24x20",
        "ms": 2.0,
        "tops": pytest.approx(2 * 9 * 24 * 20 / 2e-3 / 1e12),
        "mismatches": 1 + 2 + 9 + 1,
        **{"int_mm_ms": 8.0, "against_int_mm": 4.0, "compiled_ms": 6.0, "against_compiled": 3.0},
        **{"bfloat16_ms": 1.0, "against_bfloat16": 0.5},
        "blocks": dataclasses.asdict(Blocks(group=16)),
    }
    assert tried == [8, 8, 16, 32]
    (x,) = read
    wanted = (6000 * torch.linspace(-8, 8, m * k)).clamp(-32767, 32767).to(torch.int16)
    assert torch.equal(x.flatten(), wanted)


def test_what_a_product_is_compared_with(card):
    """The same integers, the same bits, and the same size in bfloat16; every clip matters."""
    rng = np.random.default_rng(0)
    m, n, k = 40, 24, 32
    channel = ChannelParameters(
        rng.integers(1, 1 << 16, n), rng.integers(2, 17, n), rng.integers(-(1 << 23), 1 << 23, n)
    )
    weight = rng.integers(-127, 128, (n, k)).astype(np.int8)
    op = Linear("linear", "x", "y", weight, channel, row_shift=14, out_shift=9)
    x = torch.as_tensor(rng.integers(-32767, 32768, (m, k)).astype(np.int16))
    x //= torch.as_tensor(1 << rng.integers(0, 10, (m, 1)), dtype=torch.int16)
    rows = rows_like(x)
    quantise_rows(x, rows)
    weights = torch.as_tensor(weight)
    others = dict(gpu._linear_baselines(op, rows.elements, weights, rows.multiplier))
    assert list(others) == ["int_mm", "compiled", "bfloat16"]
    product = rows.elements.long() @ weights.T.long()
    assert torch.equal(others["int_mm"]().long(), product)
    y, maxima = others["compiled"]()
    wanted = evaluated(op, x)
    assert torch.equal(y.long(), wanted)
    assert torch.equal(maxima, wanted.abs().amax(1))
    assert {-32767, 32767} <= set(wanted.flatten().tolist())
    real = others["bfloat16"]()
    assert (real.shape, real.dtype) == ((m, n), torch.bfloat16)
    assert card[0] == ("compile", {"dynamic": False})
