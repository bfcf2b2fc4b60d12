"""Masks: what they say on the example, and what they must not say in a run."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional
from zoo import load, mask

import transept
from transept.golden.config import PYNQ_Z2
from transept.golden.filters import Causal, Dense, Window

pytestmark = pytest.mark.filterwarnings("ignore")
TOKENS, HIDDEN, HEADS = 16, 32, 4


class Attention(nn.Module):
    """One attention whose mask is an input, added or boolean as it comes."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(HIDDEN, HIDDEN) for _ in "qkvo")

    def forward(self, x, *masks):
        q, k, v = (
            part(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (self.q, self.k, self.v)
        )
        total = masks[0]
        for other in masks[1:]:
            total = total + other
        y = functional.scaled_dot_product_attention(q, k, v, total)
        return self.o(y.transpose(1, 2).flatten(2))


def padding(*lengths):
    """Added to scores [batch, heads, t, s]."""
    real = torch.arange(TOKENS) < torch.tensor(lengths)[:, None]
    return torch.where(real, 0.0, -1e9)[:, None, None, :]


def pattern(keeps):
    """bool[1, 1, t, s]."""
    query, key = torch.arange(TOKENS)[:, None], torch.arange(TOKENS)
    return keeps(query, key)[None, None]


def compiled(*masks):
    torch.manual_seed(0)
    model, x = Attention().eval(), torch.randn(2, TOKENS, HIDDEN)
    return transept.compile(model, (x, *masks), config=PYNQ_Z2), model, x


def rule(program):
    return next(
        op for region in program.regions for op in region.graph.ops if hasattr(op, "filter")
    ).filter


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (padding(16, 16), Dense()),
        (padding(16, 9), Dense()),
        (padding(7, 3), Dense()),
        (pattern(lambda q, k: k <= q), Causal()),
        (torch.where(pattern(lambda q, k: k <= q), 0.0, -torch.inf), Causal()),
        (pattern(lambda q, k: (k <= q) & (k > q - 4)), Window(3, 0)),
        (pattern(lambda q, k: abs(q - k) <= 2), Window(2, 2)),
        (torch.where(pattern(lambda q, k: k <= q), 0.0, -1e9) + padding(16, 11), Causal()),
    ],
    ids=["ones", "padded", "short", "causal", "causal added", "sliding", "band", "causal padded"],
)
def test_what_a_mask_says(given, expected):
    program, model, x = compiled(given)
    assert rule(program) == expected
    got, want = program.run(x, given, device="emulator"), model(x, given)
    assert torch.equal(got, program.run(x, given, device="cpu"))
    real = torch.isfinite(want).all(-1)
    cosine = functional.cosine_similarity(got, want, dim=-1)
    lengths = torch.isfinite(given).expand(2, 1, TOKENS, TOKENS) & (
        given.expand(2, 1, TOKENS, TOKENS) != -1e9
    )
    seen = (
        lengths.any(2)[:, 0]
        if given.dtype != torch.bool
        else torch.ones(2, TOKENS, dtype=torch.bool)
    )
    assert cosine[real & seen].min() > 0.995


@pytest.mark.parametrize(
    "given",
    [
        torch.randn(1, HEADS, TOKENS, TOKENS),
        pattern(lambda q, k: q // 4 == k // 4),
        pattern(lambda q, k: (k + q) % 2 == 0),
        torch.where(torch.arange(TOKENS) < 3, -1e9, 0.0)[None, None, None, :].expand(
            2, 1, 1, TOKENS
        ),
    ],
    ids=["bias", "segments", "stripes", "padding in front"],
)
def test_what_no_filter_says_stays_with_torch(given):
    program, model, x = compiled(given)
    found = program.explain()
    assert (found["attention_on"], found["attention_total"]) == (0, 1)
    assert found["linears_on"] == 4
    got, want = program.run(x, given, device="emulator"), model(x, given)
    assert functional.cosine_similarity(got, want, dim=-1).min() > 0.995


@pytest.mark.parametrize(
    "given",
    [
        torch.randn(2, 1, 1, TOKENS),
        torch.where(torch.arange(TOKENS) < 3, -1e9, 0.0)[None, None, None].repeat(2, 1, 1, 1),
        -torch.arange(TOKENS).float()[None, None, None].repeat(2, 1, 1, 1),
    ],
    ids=["weights", "padding in front", "log-weights"],
)
def test_an_example_of_ones_does_not_hide_what_a_mask_means(given):
    """What the accelerator cannot do is done in float, and said."""
    program, model, x = compiled(padding(16, 16))
    got = program.run(x, given, device="emulator")
    assert torch.equal(got, model(x, given))
    assert len(program.notes) == 1
    assert program.notes[0].startswith("ran in float with torch: mask of attention is ")


def test_two_masks_are_one():
    """Both count, and both may change from run to run."""
    causal = torch.where(pattern(lambda q, k: k <= q), 0.0, -1e9)
    program, model, x = compiled(padding(16, 16), causal)
    assert rule(program) == Causal()
    got, want = (run(x, padding(16, 5), causal) for run in (program.run, model))
    assert functional.cosine_similarity(got, want, dim=-1)[1, :5].min() > 0.995
    assert not program.notes
    program.run(x, padding(16, 16), 0 * causal)
    assert "not causal" in program.notes[0]


def test_lengths_come_from_the_run():
    model, (ids, ones) = load("bert")
    program = transept.compile(model, (ids, ones), config=PYNQ_Z2)
    for lengths in ((16, 16), (9, 16), (1, 4)):
        given = mask(*lengths)
        got, want = program.run(ids, given), model(ids, given)
        real = given.bool()
        assert functional.cosine_similarity(got, want, dim=-1)[real].min() > 0.995
        part = program.last.parts[0]
        assert list(part.lengths.values()) == [list(lengths)]
    assert not [note for note in program.notes if "ran in" in note]


def test_a_filter_that_is_not_built_is_named():
    torch.manual_seed(0)
    given = pattern(lambda q, k: abs(q - k) <= 2)
    filters = dataclasses.replace(PYNQ_Z2.filters, names=("dense", "causal"))
    config = dataclasses.replace(PYNQ_Z2, name="small", filters=filters)
    program = transept.compile(Attention(), (torch.randn(2, TOKENS, HIDDEN), given), config=config)
    reasons = [entry["reason"] for entry in program.explain()["fallback"] if entry["macs"]]
    assert reasons == ["its mask needs the key filter window, small has dense, causal"]


#: Scores without the keys that are padding, and the mask from what is real.
FILLED = {
    "filled where 0": (lambda a, m: a.masked_fill(m == 0, -torch.inf), lambda real: real.long()),
    "filled where not": (lambda a, m: a.masked_fill(~m, -1e9), lambda real: real),
    "filled where so": (lambda a, m: a.masked_fill(m, -1e9), lambda real: ~real),
    "chosen": (lambda a, m: torch.where(m, a, torch.tensor(-1e9)), lambda real: real),
    "chosen, or a number": (lambda a, m: torch.where(m, a, -1e9), lambda real: real),
    "a number first": (lambda a, m: torch.where(m, -1e9, a), lambda real: ~real),
    "a tensor first": (lambda a, m: torch.where(m, torch.tensor(-1e9), a), lambda real: ~real),
}


class Filled(Attention):
    """Attention spelled out, its mask by ``fill``."""

    def __init__(self, fill):
        super().__init__()
        self.fill = fill

    def forward(self, x, mask):
        q, k, v = (
            part(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (self.q, self.k, self.v)
        )
        scores = self.fill(q @ k.transpose(-1, -2) * (HIDDEN // HEADS) ** -0.5, mask[:, None, None])
        return self.o((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("form", FILLED)
def test_masks_that_fill_scores(form):
    torch.manual_seed(0)
    fill, told = FILLED[form]
    model, x = Filled(fill).eval(), torch.randn(2, TOKENS, HIDDEN)
    real = torch.arange(TOKENS) < torch.tensor([16, 11])[:, None]
    program = transept.compile(model, (x, told(real)), config=PYNQ_Z2)
    assert rule(program) == Dense()
    for lengths in ([16, 11], [5, 9]):
        real = torch.arange(TOKENS) < torch.tensor(lengths)[:, None]
        got, want = (run(x, told(real)) for run in (program.run, model))
        assert list(program.last.parts[0].lengths.values()) == [lengths]
        assert functional.cosine_similarity(got, want, dim=-1)[real].min() > 0.99
        assert not [note for note in program.notes if "ran in" in note]


def test_scores_filled_with_what_keys_survive_are_no_mask():
    torch.manual_seed(0)
    model = Filled(lambda a, m: a.masked_fill(m, -2.0)).eval()
    x, mask = torch.randn(2, TOKENS, HIDDEN), torch.arange(TOKENS) > torch.tensor([16, 11])[:, None]
    program = transept.compile(model, (x, mask), config=PYNQ_Z2)
    assert program.explain()["attention_on"] == 0
    got, want = program.run(x, mask), model(x, mask)
    assert functional.cosine_similarity(got, want, dim=-1).min() > 0.99


class Across(nn.Module):
    """Queries of one sequence, keys of another."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x, memory):
        return self.attention(x, memory, memory, need_weights=False)[0]


def test_more_keys_than_queries_are_dense_in_any_number():
    torch.manual_seed(0)
    model = Across().eval()
    program = transept.compile(
        model, (torch.randn(1, 2, 16), torch.randn(1, 5, 16)), config=PYNQ_Z2
    )
    assert rule(program) == Dense()
    longer = torch.randn(1, 4, 16), torch.randn(1, 9, 16)
    program.run(*longer)
    assert "ran in float" not in str(program.notes)


class Both(nn.Module):
    """Two attentions over the same keys, each with its own mask."""

    def __init__(self):
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(HIDDEN, HIDDEN) for _ in "qkv")

    def forward(self, x, *masks):
        q, k, v = (linear(x).unflatten(-1, (2, -1)).transpose(1, 2) for linear in self.linears)
        return sum(functional.scaled_dot_product_attention(q, k, v, mask) for mask in masks)


def test_masks_over_the_same_keys_have_the_same_lengths():
    torch.manual_seed(0)
    model, x = Both().eval(), torch.randn(2, TOKENS, HIDDEN)
    program = transept.compile(model, (x, padding(16, 9), padding(16, 9)), config=PYNQ_Z2)
    assert program.explain()["attention_on"] == 2
    program.run(x, padding(16, 4), padding(16, 4))
    assert "ran in float" not in str(program.notes)
    program.run(x, padding(16, 4), padding(16, 5))
    (note,) = program.notes
    assert note.startswith("ran in float with torch: masks of attention")
    assert note.endswith(" and of an attention before it differ")
