"""What a program says of itself: every number and reason of some models."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import transept
from transept.golden.config import TINY

pytestmark = pytest.mark.filterwarnings("ignore")
X = torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(2))


class Mixed(nn.Module):
    """A bit of everything that torch keeps, among what it does not."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.embedding = nn.Linear(16, 8), nn.Linear(16, 8), nn.Embedding(5, 4)
        self.grouped = nn.Conv1d(6, 6, 3, groups=2)
        self.uneven = nn.Conv1d(6, 6, 4, padding="same")
        self.convolution = nn.Conv1d(6, 4, 5)
        self.unused = nn.Linear(3, 3)

    def forward(self, x):
        q, torchs = self.a(x), x.cumsum(1)
        biased = (q @ q.transpose(1, 2) + torchs[:, :, :6].cumsum(1)).softmax(-1) @ q
        return (
            self.embedding(x[..., 0].abs().long()),
            self.b(torchs).cumsum(1).softmax(-1).sum(-1),
            torch.baddbmm(torchs, torchs[:, :, :6], torchs).cumprod(1),
            torch.cat([self.grouped(x), torch.stack([x, x])[0]], -1),
            self.uneven(x),
            biased.cumsum(1),
            self.convolution(x),
            torchs.topk(2)[0],
        )


def test_everything_that_is_told_of_a_model():
    torch.manual_seed(0)
    found = transept.compile(Mixed().eval(), X, config=TINY).explain()
    cycles = [region.pop("predicted_cycles") for region in found["regions"]]
    assert found["predicted_cycles"] == sum(cycles) > len(cycles) * 100
    bias = "what is added to its scores (cumsum_1) is a bias, no mask"
    nothing = "nothing to multiply, and no region that it belongs to"
    only = "only conv1d and conv2d with fixed weights, one group and equal padding are taken"
    entries = [
        (6120, "grouped and 1 more", "conv1d", only),
        (1152, "matmul and 1 more", "matmul", bias),
        (1152, "baddbmm", "baddbmm", "no pattern takes it"),
        (0, "cumsum and 8 more", "cumsum, abs, softmax, sum, cumprod, topk", nothing),
        (0, "add and 1 more", "add, softmax", bias),
        (0, "embedding", "embedding", "a lookup, nothing to multiply"),
    ]
    keys = ("macs", "name", "operator", "reason")
    on = (2 * 6 * 16 * 8, 2 * 6 * 16 * 8, 2 * 4 * 12 * 6 * 5)
    del found["predicted_cycles"]
    assert found == {
        "linears_total": 5,
        "linears_on": 3,
        "attention_total": 1,
        "attention_on": 0,
        "macs_share": sum(on) / (sum(on) + 6120 + 1152 + 1152),
        "regions": [
            {"name": name, "operators": [name], "macs": macs}
            for name, macs in zip(("a", "b", "convolution"), on, strict=True)
        ],
        "fallback": [dict(zip(keys, entry, strict=True)) for entry in entries],
    }


@pytest.mark.parametrize(
    ("function", "attentions"),
    [
        (lambda x: (x @ x.mT).softmax(-1).clone() @ x, 1),
        (lambda x: functional.dropout((x @ x.mT).softmax(-1), 0.1, False)[None][0] @ x, 1),
        (lambda x: torch.baddbmm(x, (x @ x.mT).softmax(-1), x), 1),
        (lambda x: (x @ x.mT).softmax(-1).exp() @ x, 0),
        (lambda x: (x @ x.mT).softmax(-1), 0),
        (lambda x: functional.scaled_dot_product_attention(x[0], x[0], x[0]), 1),
    ],
    ids=["product", "dropout", "sum", "function between", "no product", "torch's"],
)
def test_an_attention_is_a_softmax_before_a_product(function, attentions):
    torch.manual_seed(0)

    class Beside(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(16, 4)

        def forward(self, x):
            return self.linear(x), function(x.sin().cumsum(1))

    found = transept.compile(Beside().eval(), X, config=TINY).explain()
    assert found["attention_total"] == attentions


class Kept(nn.Module):
    """Something that torch keeps, beside a layer that it does not."""

    def __init__(self, function):
        super().__init__()
        self.linear, self.lstm = nn.Linear(16, 4), nn.LSTM(16, 3, batch_first=True)
        self.function = function
        self.register_buffer("matrices", torch.ones(2, 16, 3))
        self.register_buffer("five", torch.ones(5))

    def forward(self, x):
        return self.linear(x), self.function(self, x)


SCORES = "its scores are no product that is only scaled and masked"
BOTH = "a product of two values, and no attention"


@pytest.mark.parametrize(
    ("function", "operators", "reason"),
    [
        (lambda m, x: x @ m.matrices, ["matmul"], "no pattern takes it"),
        (lambda m, x: x @ x.transpose(1, 2), ["matmul"], BOTH),
        (lambda m, x: functional.linear(x, x[0, :5], m.five), ["linear"], BOTH),
        (lambda m, x: x[..., :6].softmax(-1) @ x, ["matmul", "softmax"], SCORES),
        (lambda m, x: m.lstm(x)[0], ["lstm"], "the accelerator has no lstm"),
    ],
    ids=["fixed matrices", "values", "values and a bias", "no scores", "recurrent"],
)
def test_why_a_product_stays_with_torch(function, operators, reason):
    found = transept.compile(Kept(function).eval(), X, config=TINY).explain()
    assert [entry["operator"] for entry in found["fallback"]] == operators
    assert {entry["reason"] for entry in found["fallback"]} == {reason}


def test_a_reason_is_that_of_its_operator_and_of_the_scores_of_an_attention():
    class Long(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.a = nn.LayerNorm(144), nn.Linear(144, 16)

        def forward(self, x):
            q = self.a(self.norm(x.repeat(1, 1, 9).sin()))
            return (q @ q.transpose(1, 2) + torch.ones(6)).softmax(-1) @ q

    found = transept.compile(Long().eval(), X, config=TINY).explain()
    bias = "what is added to its scores (ones) is a bias, no mask"
    assert {entry["operator"]: entry["reason"] for entry in found["fallback"]} == {
        "matmul": bias,
        "add, softmax": bias,
        "layer_norm": "rows of 144 elements exceed 128 of tiny",
        "repeat, sin": "nothing to multiply, and no region that it belongs to",
    }


def test_a_model_that_multiplies_nothing():
    found = transept.compile(nn.LayerNorm(16), X, config=TINY).explain()
    assert (found["linears_total"], found["macs_share"], found["fallback"]) == (0, 0.0, [])
    assert [region["macs"] for region in found["regions"]] == [0]


def test_a_layer_alone_is_the_whole_model():
    found = transept.compile(nn.Linear(16, 8), X, config=TINY).explain()
    assert (found["linears_total"], found["linears_on"], found["macs_share"]) == (1, 1, 1.0)
    assert [region["name"] for region in found["regions"]] == ["linear"]


@pytest.mark.parametrize(
    "wrapped",
    [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm],
)
def test_a_parametrised_layer_is_a_layer(wrapped):
    """Its weight is computed from others, once."""
    torch.manual_seed(0)
    model = nn.Sequential(wrapped(nn.Linear(16, 8)), nn.ReLU()).eval()
    found = transept.compile(model, X, config=TINY).explain()
    assert (found["linears_total"], found["linears_on"], found["macs_share"]) == (1, 1, 1.0)
    assert found["regions"][0]["operators"] == ["0"]


class Attending(nn.Module):
    """Scores to probabilities and their product with the values, by some function."""

    def __init__(self, attend):
        super().__init__()
        self.q, self.attend = nn.Linear(16, 16), attend

    def forward(self, x):
        q = self.q(x)
        return self.attend(q @ q.transpose(-1, -2), q)


@pytest.mark.parametrize(
    ("attend", "reason"),
    [
        (
            lambda scores, v: torch.softmax(5 * torch.tanh(scores / 5), -1) @ v,
            SCORES,
        ),
        (lambda scores, v: torch.softmax(scores, -2) @ v, "its softmax is not over the keys"),
        (
            lambda scores, v: functional.scaled_dot_product_attention(v, v, v, dropout_p=0.5),
            "it drops 50% of its probabilities",
        ),
    ],
)
def test_why_an_attention_is_none(attend, reason):
    found = transept.compile(Attending(attend).eval(), X, config=TINY).explain()
    assert (found["attention_total"], found["attention_on"]) == (1, 0)
    assert found["fallback"][0]["reason"] == reason
