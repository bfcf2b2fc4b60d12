"""What is decided about a model until everything that is left fits the accelerator."""

import dataclasses
import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional

import transept
from transept.golden.config import PYNQ_Z2, TINY
from transept.host.compiler.errors import CompileError
from transept.host.front import importer
from transept.host.front.errors import UnsupportedModelError

pytestmark = pytest.mark.filterwarnings("ignore")
X = torch.randn(6, 16, generator=torch.Generator().manual_seed(2))


def chain(*widths):
    """Linear layers without activations, named by their number."""
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(k, n) for k, n in itertools.pairwise(widths))).eval()


def regions(program):
    return [[op.name for op in region.graph.ops] for region in program.regions]


def fallback(program):
    return {
        entry["name"]: entry["reason"] for entry in program.explain()["fallback"] if entry["macs"]
    }


@pytest.fixture
def memory(monkeypatch):
    """Regions of more operators than are set do not fit."""
    limits = {"most": 2}

    def check(region, shape):
        if len(region.graph.ops) > limits["most"]:
            raise CompileError("too many operators")

    monkeypatch.setattr(importer, "_check_fit", check)
    return limits


@pytest.mark.parametrize(
    ("widths", "expected"),
    [
        ((16, 16, 16, 16, 16), [["0"], ["1"], ["2", "3"]]),
        ((16, 8, 8, 8, 64), [["0"], ["1", "2"], ["3"]]),
        ((16, 64, 8, 8), [["0"], ["1", "2"]]),
        ((16, 8, 8), [["0", "1"]]),
    ],
)
def test_a_region_that_is_too_large_is_cut_where_half_of_its_work_is_done(widths, expected, memory):
    program = transept.compile(chain(*widths), X, config=TINY)
    assert regions(program) == expected
    assert program.explain()["macs_share"] == 1


def test_a_cut_before_a_projection_is_one_before_its_attention(memory):
    class Self(nn.Module):
        def __init__(self):
            super().__init__()
            self.attend = nn.MultiheadAttention(16, 2, batch_first=True)

        def forward(self, x):
            return self.attend(x, x, x, need_weights=False)[0]

    memory["most"] = 4
    program = transept.compile(Self().eval(), X[None], config=TINY)
    assert regions(program) == [
        ["attend.in_proj_weight"],
        ["attend.attention", "attend.out_proj"],
    ]


def test_an_operator_that_fits_nowhere_stays_with_torch(memory):
    memory["most"] = 0
    with pytest.raises(UnsupportedModelError) as raised:
        transept.compile(chain(16, 8, 8), X, config=TINY)
    assert str(raised.value) == (
        "no part of the model can run on the accelerator: too many operators"
    )


def test_what_fits_not_even_alone_is_named_with_what_it_needs():
    model, x = chain(7000, 16, 16), torch.randn(2, 7000)
    program = transept.compile(model, x, config=TINY)
    assert regions(program) == [["1"]]
    needs = "0 takes 3508 words of ACT a row, 1600 of 1600 are free"
    assert fallback(program) == {"0": f"not even a row of 1 x 2 fits tiny: {needs}"}


def test_what_fits_not_even_alone_cuts_nothing_else():
    """Half of the work lies in the layer before it."""
    program = transept.compile(chain(16, 64, 7000, 16), torch.randn(2, 16), config=TINY)
    assert regions(program) == [["0", "1"]]
    needs = "2 takes 3508 words of ACT a row, 1600 of 1600 are free"
    assert fallback(program) == {"2": f"not even a row of 1 x 2 fits tiny: {needs}"}


def test_a_model_that_does_not_settle_is_given_up(memory, monkeypatch):
    assert importer.MOST_ATTEMPTS == 40
    monkeypatch.setattr(importer, "MOST_ATTEMPTS", 2)
    with pytest.raises(UnsupportedModelError, match=r"^no cut of the model fits tiny$"):
        transept.compile(chain(16, 16, 16, 16, 16), X, config=TINY)
    monkeypatch.setattr(importer, "MOST_ATTEMPTS", 3)
    assert len(regions(transept.compile(chain(16, 16, 16, 16, 16), X, config=TINY))) == 3


class Wave(nn.Module):
    """A function that no table can be behind its first layer, one that is behind its second."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Linear(16, 8), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        return self.c(torch.tanh(self.b(torch.sin(40 * self.a(x)))))


def test_a_function_that_is_no_table_runs_with_torch():
    model = Wave().eval()
    program = transept.compile(model, 3 * X, config=TINY)
    assert regions(program) == [["a"], ["b", "c"]]
    (entry,) = program.explain()["fallback"]
    assert (entry["operator"], entry["macs"]) == ("mul, sin", 0)
    assert program.imported.ranges.plain == {"a"}
    got, want = program.run(3 * X), model(3 * X)
    assert functional.cosine_similarity(got, want, dim=-1).min() > 0.98


@pytest.mark.parametrize(("frequency", "plain"), [(8, set()), (10, {"linear"})])
def test_a_table_is_off_by_a_hundredth_at_most(frequency, plain):
    """Of these it would be 0.8 % and 1.6 %."""

    class Sine(nn.Linear):
        def forward(self, x):
            return torch.sin(frequency * super().forward(x))

    model = Sine(1, 1)
    nn.init.ones_(model.weight)
    nn.init.zeros_(model.bias)
    program = transept.compile(model, torch.linspace(-3, 3, 7)[:, None], config=TINY)
    assert program.imported.choices.plain == plain


def test_without_tables_every_function_runs_with_torch():
    config = dataclasses.replace(
        TINY, name="plain", blocks=dataclasses.replace(TINY.blocks, activation=False)
    )
    program = transept.compile(Wave().eval(), X, config=config)
    assert regions(program) == [["a"], ["b"], ["c"]]
    assert [entry["operator"] for entry in program.explain()["fallback"]] == ["mul, sin, tanh"]


def test_sequences_that_are_cut_in_another_way_are_another_region():
    """The second attention sees both sequences as one."""

    class Recut(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(16, 48), nn.Linear(16, 48)

        def attend(self, x, linear):
            q, k, v = (
                part.unflatten(-1, (2, 8)).transpose(1, 2) for part in linear(x).chunk(3, -1)
            )
            y = functional.scaled_dot_product_attention(q, k, v)
            return y.transpose(1, 2).flatten(2)

        def forward(self, x):
            y = self.attend(x, self.a) + x
            return self.attend(y.reshape(1, 12, 16), self.b)

    torch.manual_seed(0)
    model, x = Recut().eval(), X.reshape(2, 3, 16).repeat(1, 2, 1)
    program = transept.compile(model, x, config=PYNQ_Z2)
    found = program.explain()
    assert (found["linears_on"], found["attention_on"], found["attention_total"]) == (2, 1, 2)
    assert list(fallback(program).values()) == [
        "its sequences are cut otherwise than those of an attention before it"
    ]
    assert functional.cosine_similarity(program.run(x), model(x), dim=-1).min() > 0.99
