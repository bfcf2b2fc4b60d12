"""Operators as a model uses them: again, for something else, with sums and norms of any size."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import transept
from transept.golden.config import PYNQ_Z2, TINY
from transept.golden.ops import Attention, Norm
from transept.host.front.quantise.region import MOST_ROWS

pytestmark = pytest.mark.filterwarnings("ignore")

X = torch.randn(6, 16, generator=torch.Generator().manual_seed(2))


def cosine(got, want):
    return functional.cosine_similarity(got.double(), want.double(), dim=-1).min().item()


class Residual(nn.Module):
    """The older operand of each sum first or second."""

    def __init__(self, older_first):
        super().__init__()
        torch.manual_seed(6)
        self.older_first = older_first
        self.linears = nn.ModuleList(nn.Linear(16, 16) for _ in range(3))
        self.norm = nn.LayerNorm(16)

    def forward(self, x):
        for linear in self.linears:
            y = linear(x)
            x = self.norm(x + y if self.older_first else y + x) + y
        return x


def test_sums_have_their_older_operand_second():
    """However they are written: it is what the compiler keeps."""
    graphs = [
        transept.compile(Residual(older_first), X, config=TINY).regions[0].graph
        for older_first in (True, False)
    ]
    assert [op.inputs for op in graphs[0].ops] == [op.inputs for op in graphs[1].ops]
    for op in graphs[0].ops:
        if len(op.inputs) == 2:
            made = [name for other in graphs[0].ops for name in other.outputs]
            assert op.inputs[1] in graphs[0].inputs or made.index(op.inputs[0]) > made.index(
                op.inputs[1]
            )


class Twice(nn.Module):
    """One layer used twice, not for the same."""

    def __init__(self, second):
        super().__init__()
        torch.manual_seed(3)
        self.layer, self.norm, self.second = nn.Linear(16, 16), nn.LayerNorm(16), second
        self.other = nn.Parameter(3 * torch.randn(16))

    def forward(self, x):
        y = functional.relu(self.layer(self.norm(x)))
        return self.second(self, y)


SECOND = {
    "no activation": lambda m, y: m.layer(y),
    "another activation": lambda m, y: torch.tanh(m.layer(y)),
    "another bias": lambda m, y: functional.linear(y, m.layer.weight, m.other).relu(),
    "transposed": lambda m, y: functional.linear(y, m.layer.weight.T, m.layer.bias).relu(),
    "another epsilon": lambda m, y: functional.layer_norm(
        y, (16,), m.norm.weight, m.norm.bias, 0.7
    ),
    "another offset": lambda m, y: functional.layer_norm(y, (16,), m.norm.weight, m.other),
}


@pytest.mark.parametrize("second", SECOND)
def test_a_layer_may_be_used_for_something_else(second):
    model = Twice(SECOND[second]).eval()
    program = transept.compile(model, X, config=TINY)
    got = program.run(X, device="emulator")
    assert torch.equal(got, program.run(X, device="golden"))
    assert cosine(got, model(X)) > 0.999
    names = [op.name for region in program.regions for op in region.graph.ops]
    assert any(name.endswith("~2") for name in names)


@pytest.mark.parametrize("between", [nn.Softmax(-1), nn.RMSNorm(24), nn.GLU()])
def test_what_looks_at_neighbours_is_no_activation(between):
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(16, 24), between, nn.Tanh(), nn.LazyLinear(7)).eval()
    model(X)
    program = transept.compile(model, X, config=TINY)
    assert cosine(program.run(X), model(X)) > 0.999


class Attend(nn.Module):
    """Attention between linear layers."""

    def __init__(self, linears, scale):
        super().__init__()
        self.linears, self.scale = nn.ModuleList(linears), scale

    def forward(self, x):
        heads = (linear(x).unflatten(-1, (2, 8)).transpose(1, 2) for linear in self.linears[:3])
        context = functional.scaled_dot_product_attention(*heads, scale=self.scale)
        return self.linears[3](context.transpose(1, 2).flatten(2))


class Inline(nn.Module):
    """The same, one after the other in one method."""

    def __init__(self, parts):
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x):
        for part in self.parts:
            x = Attend.forward(part, x)
        return x


@pytest.mark.parametrize("scales", [(0.2, 0.8), (0.5, 0.5)])
@pytest.mark.parametrize("count", [4, 8])
def test_attentions_in_one_method_are_different_ones(count, scales):
    torch.manual_seed(4)
    linears, x = [nn.Linear(16, 16) for _ in range(count)], torch.randn(1, 12, 16)
    for linear in linears:
        linear.weight.data *= 2
    parts = [Attend(linears[:4], scales[0]), Attend(linears[-4:], scales[1])]
    apart, inline = (
        transept.compile(model.eval(), x, config=PYNQ_Z2)
        for model in (nn.Sequential(*parts), Inline(parts))
    )
    got = inline.run(x, device="emulator")
    assert torch.equal(got, inline.run(x, device="golden"))
    assert torch.equal(got, apart.run(x, device="cpu"))
    assert cosine(got, nn.Sequential(*parts)(x)) > 0.98
    assert inline.explain()["attention_on"] == 2


class Lengths(nn.Linear):
    """Its activation depends on the number of rows."""

    def forward(self, x):
        y = super().forward(x)
        return torch.tanh(y) if len(x) > 8 else torch.relu(y)


def test_what_differs_between_shapes_is_seen():
    torch.manual_seed(0)
    model, few, many = Lengths(16, 16), X[:4], torch.randn(9, 16)
    program = transept.compile(model, few, config=TINY)
    assert torch.equal(program.run(many), model(many))
    assert program.notes == [
        "ran in float with torch: linear is another function than in the example"
    ]
    assert not torch.equal(program.run(few), model(few))
    assert not program.notes


@pytest.mark.parametrize(
    ("scale", "epsilon"),
    [(1, 1e-12), (1, 1e-2), (1, 1.0), (1e-2, 1e-5), (1e-2, 1e-3), (1e-4, 1e-12), (1e-4, 1e-6)],
)
@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.RMSNorm])
def test_a_norm_of_any_epsilon(norm, scale, epsilon):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 48), norm(48, eps=epsilon)).eval()
    model[0].weight.data *= scale
    model[0].bias.data *= scale
    program = transept.compile(model, X, config=TINY)
    got = program.run(X, device="emulator")
    assert torch.equal(got, program.run(X, device="golden"))
    assert cosine(got, model(X)) > 0.999
    assert float(got.norm()) == pytest.approx(float(model(X).norm()), rel=0.02)


class Growing(nn.Module):
    """Sums of which each has so many bits above the one before."""

    def __init__(self, bits):
        super().__init__()
        torch.manual_seed(0)
        self.linears = nn.ModuleList(nn.Linear(16, 16) for _ in range(3))
        for power, linear in enumerate(self.linears):
            linear.weight.data *= 2.0 ** (bits * power)

    def forward(self, x):
        for linear in self.linears:
            x = x + linear(x)
        return x


@pytest.mark.parametrize("bits", [3, 6, 9, 12, 13, 14, 15, 16, 17, 20])
def test_sums_may_grow_by_any_factor(bits):
    """On the accelerator as long as something is left of the smaller ones."""
    model = Growing(bits)
    program = transept.compile(model, X, config=TINY)
    got = program.run(X, device="emulator")
    assert torch.equal(got, program.run(X, device="golden"))
    assert cosine(got, model(X)) > 0.995
    found = program.explain()
    assert found["linears_on"] == 3
    sums = sum(name.startswith("model.sum") for r in found["regions"] for name in r["operators"])
    assert sums == 3 if bits < 9 else bits < 17 or sums == 0
    assert sums or "hardly a step is left of" in str(found["fallback"])


class Running(Growing):
    """The same behind what only torch knows."""

    def forward(self, x):
        return super().forward(torch.cumsum(x, -1))


def test_the_reason_of_a_sum_is_not_that_of_what_it_adds():
    program = transept.compile(Running(20), X, config=TINY)
    reasons = {entry["operator"]: entry["reason"] for entry in program.explain()["fallback"]}
    assert "hardly a step is left of" in reasons["add"]
    assert reasons["cumsum"] == "nothing to multiply, and no region that it belongs to"


class RootMeanSquare(nn.Module):
    """RMSNorm as models of transformers spell it."""

    def __init__(self, turned):
        super().__init__()
        self.weight, self.turned = nn.Parameter(torch.rand(16) + 0.5), turned

    def forward(self, x):
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        y = scale * x if self.turned else x * scale
        return y * self.weight if self.turned else self.weight * y


@pytest.mark.parametrize("turned", [False, True])
def test_norms_that_are_spelled_out(turned):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16), RootMeanSquare(turned), nn.Linear(16, 16)).eval()
    x = torch.randn(1, 8, 16)
    program = transept.compile(model, x, config=PYNQ_Z2)
    (region,) = program.regions
    (norm,) = (op for op in region.graph.ops if isinstance(op, Norm))
    assert not norm.centre
    assert functional.cosine_similarity(program.run(x), model(x), dim=-1).min() > 0.999


class Crossed(nn.Module):
    """Queries of one sequence, keys of another."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x, memory):
        return self.attention(x, memory, memory, need_weights=False)[0]


def test_only_keys_are_limited_by_the_accelerator():
    program = transept.compile(
        Crossed().eval(), (torch.randn(1, 5, 16), torch.randn(1, 9, 16)), config=PYNQ_Z2
    )
    (region,) = program.regions
    (attention,) = (op for op in region.graph.ops if isinstance(op, Attention))
    most = {
        name: region.graph.dim(region.graph.values[name].dim).limit for name in attention.inputs
    }
    assert most[attention.k] == most[attention.v] == PYNQ_Z2.geometry.max_tokens
    assert most[attention.q] == MOST_ROWS > PYNQ_Z2.geometry.max_tokens


class Met(nn.Module):
    """A layer that reads an activation, and once more what has none."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.both = (nn.Linear(16, 16) for _ in range(3))

    def forward(self, x):
        return torch.cat([self.both(self.first(x).relu()), self.both(self.second(x))], -1)


def test_grids_of_activations_and_what_meets_them():
    torch.manual_seed(0)
    model, x = Met().eval(), torch.randn(1, 8, 16)
    program = transept.compile(model, x, config=TINY)
    assert program.explain()["linears_on"] == 3
    for found, wanted in zip(program.run(x).chunk(2, -1), model(x).chunk(2, -1), strict=True):
        assert functional.cosine_similarity(found, wanted, dim=-1).min() > 0.998
