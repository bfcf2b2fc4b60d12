"""A region's quantised graph: values, dimensions, operators and what they share."""

import numpy as np
import pytest
import torch
from matches import matched
from torch import nn
from torch.nn import functional

from transept.golden.config import PYNQ_Z2
from transept.golden.filters import Causal, Dense, TileThreshold, Window
from transept.golden.ops import Add, Attention, Linear, Norm
from transept.host.front.errors import UnfitError
from transept.host.front.export import Arguments, run
from transept.host.front.quantise import Quantiser
from transept.host.front.quantise.rounding import feedback, round_weights
from transept.host.front.ranges import Ranges, observe
from transept.host.front.regions import find_regions

X = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))
Y = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1))


class Cross(nn.Module):
    """Attention to another sequence, a sum with a norm, one without, a layer used twice."""

    def __init__(self, causal=False):
        super().__init__()
        torch.manual_seed(0)
        self.q, self.k, self.v, self.o, self.up = (nn.Linear(8, 8) for _ in "qkvou")
        self.norm, self.causal = nn.LayerNorm(8), causal

    def forward(self, x, y):
        q, k, v = (
            part.unflatten(-1, (2, 4)).transpose(1, 2) for part in (self.q(x), self.k(y), self.v(y))
        )
        c = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = self.norm(self.o(c.transpose(1, 2).flatten(2)) + x)
        return self.up(self.up(x).relu()).relu() + x


def quantised(model, *inputs, rule=None, config=PYNQ_Z2, weights="w8"):
    matcher, ranges = matched(model, *inputs), Ranges(())
    (region,) = find_regions(matcher)
    observe([region], run(matcher.module, Arguments(inputs, {})), ranges)
    return Quantiser([region], ranges, config, rule, weights).graph(region), region


def test_everything_of_a_graph():
    graph, region = quantised(Cross(), X, Y)
    assert {dim.name: dim.limit for dim in graph.dims} == {
        "rows": 1 << 24,
        "rows1": PYNQ_Z2.geometry.max_tokens,
    }
    assert [dim.name for dim in graph.dims] == ["rows", "rows1"]
    assert graph.inputs == tuple(region.inputs) == ("q.input", "k.input")
    assert graph.outputs == ("model.sum~2",)
    names = [f"attention.{role}" for role in ("query", "key", "value")]
    assert {name: (value.dim, value.bits) for name, value in graph.values.items()} == {
        **dict.fromkeys(["k.input"], ("rows1", 16)),
        **dict.fromkeys(names[:1], ("rows", 8)),
        **dict.fromkeys(names[1:], ("rows1", 8)),
        **dict.fromkeys(
            ["q.input", "attention", "o", "norm", "up", "up#2", "model.sum~2"], ("rows", 16)
        ),
    }
    assert all(value.width == 8 == len(value.scale) for value in graph.values.values())
    operands = ("q.input", "k.input", "k.input")
    told = [(type(op), op.name, op.inputs, op.outputs) for op in graph.ops]
    assert told == [
        *((Linear, name, (x,), (name,)) for name, x in zip(names, operands, strict=True)),
        (Attention, "attention", tuple(names), ("attention",)),
        (Linear, "o", ("attention",), ("o",)),
        (Norm, "norm", ("o", "q.input"), ("norm",)),
        (Linear, "up", ("norm",), ("up",)),
        (Linear, "up#2", ("up",), ("up#2",)),
        (Add, "model.sum~2", ("up#2", "norm"), ("model.sum~2",)),
    ]
    ops = {op.name: op for op in graph.ops}
    assert ops["up"].weight is ops["up#2"].weight
    assert ops["up"].table is not None
    assert ops["o"].table is None
    assert ops["attention"].block == PYNQ_Z2.geometry.tile


def test_weights_are_those_of_the_layer_in_steps():
    model = Cross()
    graph, _ = quantised(model, X, Y)
    ops = {op.name: op for op in graph.ops}
    for name, layer in (("attention.query", model.q), ("o", model.o)):
        op = ops[name]
        real = layer.weight.detach().double().numpy() * graph.values[op.x].scale
        steps = np.abs(real / graph.values[op.y].scale[:, None])
        wanted = real / graph.values[op.y].scale[:, None] / steps.max(1)[:, None] * 127
        assert np.abs(op.weight - wanted).max() < 8  # errors are made good in other channels
        bias = layer.bias.detach().numpy() / graph.values[op.y].scale * 256
        assert np.abs(op.channel.bias - bias).max() <= 0.51


@pytest.mark.parametrize(
    ("causal", "rule", "expected"),
    [
        (False, None, Dense()),
        (False, Window(3, 1), Window(3, 1)),
        (True, None, Causal()),
        (True, TileThreshold(4), Causal()),
    ],
)
def test_a_filter_takes_the_place_of_dense_attention_alone(causal, rule, expected):
    graph, _ = quantised(Cross(causal), X, X, rule=rule)
    (attention,) = (op for op in graph.ops if isinstance(op, Attention))
    assert attention.filter == expected


def test_what_does_not_fit_is_named():
    model = nn.Linear(4200, 2)
    model.weight.data.fill_(1.0)
    with pytest.raises(UnfitError, match="accumulators have 27 bits") as raised:
        quantised(model, torch.ones(3, 4200))
    assert raised.value.operator == "linear"


def test_a_value_that_is_lost_is_named():
    class Growing(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)
            self.b.weight.data *= 2.0**30

        def forward(self, x):
            x = x + self.a(x)
            return x + self.b(x)

    message = "hardly a step is left of model.sum on the grid of its sum"
    with pytest.raises(UnfitError, match=f"^{message}$") as raised:
        quantised(Growing(), X)
    assert raised.value.operator == "model.sum"


def test_weights_are_rounded_with_what_calibration_saw_of_their_operand():
    class Three(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.c = (nn.Linear(8, 8) for _ in "abc")

        def forward(self, x):
            return self.c(self.a(x)) + self.b(x)

    model = Three()
    graph, _ = quantised(model, X)
    operands = {"a": X, "b": X, "c": model.a(X).detach()}
    for op in graph.ops[:3]:
        x, layer = operands[op.name].reshape(6, 8), getattr(model, op.name)
        scale, out = (graph.values[name].scale for name in (op.x, op.y))
        real = layer.weight.detach().double().numpy() * scale / out[:, None]
        assert (op.weight == with_feedback(real, x, scale)).mean() > 0.95


def with_feedback(real, x, scale):
    """Weights in steps of in- and outputs, rounded with what an operand [rows, k] is."""
    steps = real / np.abs(real).max(1)[:, None] * 127
    return round_weights(steps, feedback(x.T @ x, scale))


class FourBits(nn.Module):
    """Layers whose weights lie on 16 levels."""

    def __init__(self, names, plain=()):
        super().__init__()
        torch.manual_seed(0)
        for name in names:
            setattr(self, name, nn.Linear(32, 32))
            if name not in plain:
                getattr(self, name).weight.data = torch.randint(-8, 8, (32, 32)) / 64


def test_levels_that_scales_break_are_rounded_like_others():
    class Product(FourBits):
        def forward(self, x):
            a, b = self.a(x), self.b(x)
            return self.c(a) + self.d(b) + self.up(a * b)

    torch.manual_seed(1)
    model, x = Product(["a", "b", "c", "d", "up"], plain="abcd"), torch.randn(4, 16, 32)
    graph, _ = quantised(model, x, weights="w4")
    (op,) = (op for op in graph.ops if op.name == "up")
    scale, out = (graph.values[name].scale for name in (op.x, op.y))
    assert op.halves
    assert op.packed is None
    operand = (model.a(x) * model.b(x)).detach().reshape(-1, 32)
    real = model.up.weight.detach().double().numpy() * scale / out[:, None]
    assert (op.weight == with_feedback(real, operand, scale)).mean() > 0.95
