"""Attention in all its spellings: what it is made of, and what is none."""

from functools import partial

import pytest
import torch
from matches import matched
from torch import nn
from torch.nn.functional import cosine_similarity, dropout
from torch.nn.functional import scaled_dot_product_attention as sdpa

import transept
from transept.golden.filters import Causal, Dense, Window
from transept.host.front.matches import AttentionMatch


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


#: Queries and keys of 4 elements, values of 6, 3 queries and 5 keys; keys are transposed.
SLICES = drawn(2, 3, 4), drawn(2, 4, 5), drawn(2, 5, 6)
HEADS = drawn(2, 2, 3, 4), drawn(2, 2, 5, 4), drawn(2, 2, 5, 6)


def found(function, *inputs):
    """The attention that a function is, and the reasons why it is none."""
    matcher = matched(function, *inputs)
    match = next((op for op in matcher.matches if isinstance(op, AttentionMatch)), None)
    return match, list(matcher.reasons.values())


def test_every_fact_of_an_attention():
    match, reasons = found(sdpa, *HEADS)
    assert reasons == []
    assert (match.name, match.outputs, match.module) == ("attention", ("attention",), "")
    assert match.inputs == ("%inputs_0:8", "%inputs_1:8", "%inputs_2:12")
    assert (match.heads, match.kv_heads, match.scale, match.facts) == (2, 2, 0.5, "2 2 0.5")
    assert (match.causal, match.filter, match.masks, match.leading) == (False, Dense(), (), (2, 2))
    widths = [part.tolist() for part in match.columns]
    four, six = [[0, 1, 2, 3], [4, 5, 6, 7]], [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    assert widths == [four, four, six]
    assert match.queries.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert match.keys.tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert match.slices.tolist() == [0, 0, 1, 1]
    (boundary,) = match.defines.values()
    assert (boundary.rows, boundary.width) == (6, 12)
    # element (sequence, head, row, e) of the result is element e of that head in that row
    rows = boundary.codes.reshape(2, 2, 3, 6)
    assert rows[1, 1, 2].tolist() == [5 * 12 + 6 + e for e in range(6)]
    assert rows[0, 1, 0].tolist() == [6, 7, 8, 9, 10, 11]


#: Scores before their softmax, from queries and keys.
SCORES = {
    "plain": (lambda q, k: q @ k, 1.0, Dense()),
    "scaled": (lambda q, k: (q @ k) * 0.5 / 0.125, 4.0, Dense()),
    "operands scaled": (  # a transposed one is what torch computes
        lambda q, k: (q * 3) @ (k / 2),
        *(3.0, Dense()),
    ),
    "a product alone": (lambda q, k: torch.bmm(q, k), 1.0, Dense()),
    "a sum with zeros": (
        lambda q, k: torch.baddbmm(torch.zeros(2, 3, 5), q, k, alpha=0.5),
        *(0.5, Dense()),
    ),
    "a sum that leaves out": (
        lambda q, k: torch.baddbmm(torch.ones(2, 3, 5), q, k, beta=0, alpha=0.5),
        *(0.5, Dense()),
    ),
    "a sum with a mask": (
        lambda q, k: torch.baddbmm(torch.full((2, 3, 5), -torch.inf).triu(1), q, k),
        *(1.0, Causal()),
    ),
    "a mask first": (
        lambda q, k: (torch.full((3, 5), -1e9).triu(2) + (q @ k) * 0.5) / 0.125,
        *(4.0, Window(2, 1)),
    ),
}


@pytest.mark.parametrize("spelling", SCORES)
def test_scores_in_any_spelling(spelling):
    scores, scale, rule = SCORES[spelling]
    match, reasons = found(lambda q, k, v: scores(q, k).softmax(-1) @ v, *SLICES)
    assert (match.scale, match.filter, reasons) == (scale, rule, [])
    assert (match.heads, match.leading, match.slices.tolist()) == (1, (2,), [0, 1])
    assert len(match.masks) == ("mask" in spelling or spelling == "a sum with zeros")
    taken = {node.name.rstrip("_12345") for node in match.nodes}
    assert taken <= {"matmul", "bmm", "baddbmm", "softmax", "mul", "div", "add"}
    assert {"softmax", "matmul"} <= taken


#: What is no attention, with the reason that is told, if there is one.
BIAS = "what is added to its scores ({}) is a bias, no mask"
OTHERWISE = "its scores are no product that is only scaled and masked"
OTHER = {
    "softmax over queries": (
        lambda q, k, v: (q @ k).softmax(1) @ v,
        "its softmax is not over the keys",
    ),
    "a sum with a number": (lambda q, k, v: (q @ k + 3.0).softmax(-1) @ v, OTHERWISE),
    "a function of scores": (lambda q, k, v: (q @ k).relu().softmax(-1) @ v, OTHERWISE),
    "scores twice": (lambda q, k, v: torch.baddbmm(q @ k, q, k, beta=2).softmax(-1) @ v, OTHERWISE),
    "a mask twice": (
        lambda q, k, v: torch.add(q @ k, torch.zeros(5), alpha=2).softmax(-1) @ v,
        OTHERWISE,
    ),
    "a bias": (lambda q, k, v: (q @ k + torch.ones(5)).softmax(-1) @ v, BIAS.format("ones")),
    "no product": (lambda q, k, v: q[:, :1, :1].expand(2, 3, 5).softmax(-1) @ v, OTHERWISE),
    "values scaled": (lambda q, k, v: (q @ k).softmax(-1) @ (v * 0.5), None),
    "turned": (lambda q, k, v: ((q @ k) * -2).softmax(-1) @ v, "its scores are multiplied by -2"),
    "scores of two queries together": (
        lambda q, k, v: (q @ k).reshape(2, -1).softmax(-1).reshape(2, 3, 5) @ v,
        None,
    ),
    "a row in parts": (
        lambda q, k, v: (
            (q @ k)[..., :4].reshape(2, 3, 2, 2).softmax(-1).reshape(2, 3, 4) @ v[:, :4]
        ),
        None,
    ),
    "truth of scores": (lambda q, k, v: (q @ k).bool().float().softmax(-1) @ v, OTHERWISE),
    "rounded": (lambda q, k, v: (q @ k).softmax(-1).long().float() @ v, None),
    "a mask that a factor turns": (
        lambda q, k, v: ((q @ k).masked_fill(torch.eye(3, 5) > 0, -1e9) * -1 * -1).softmax(-1) @ v,
        "its mask is neither dense nor causal nor a window, keys behind it padding",
    ),
    "a mask that a factor shrinks": (
        lambda q, k, v: ((q @ k).masked_fill(torch.eye(3, 5) > 0, -1e4) * 1e-4).softmax(-1) @ v,
        OTHERWISE,
    ),
    "a mask added that a factor shrinks": (
        lambda q, k, v: ((q @ k + torch.eye(3, 5) * -1e4) * 1e-4).softmax(-1) @ v,
        BIAS.format("mul"),
    ),
    "one sequence, no heads": (
        lambda q, k, v: (q[0] @ k[0]).softmax(-1) @ v[0],
        "its heads are laid out in a way that no view explains",
    ),
    "all but themselves": (
        lambda q, k, v: (q @ k + torch.full((3, 5), -1e9).tril(0).triu(0)).softmax(-1) @ v,
        "its mask is neither dense nor causal nor a window, keys behind it padding",
    ),
}


@pytest.mark.parametrize("spelling", OTHER)
def test_what_is_no_attention(spelling):
    function, reason = OTHER[spelling]
    assert found(function, *SLICES) == (None, [] if reason is None else [reason])


@pytest.mark.parametrize(
    ("options", "scale", "causal"),
    [({}, 0.5, False), ({"scale": 0.25}, 0.25, False), ({"is_causal": True}, 0.5, True)],
)
def test_options_of_torchs_operator(options, scale, causal):
    match, _ = found(lambda q, k, v: sdpa(q, k, v, **options), *(drawn(1, 2, 3, 4),) * 3)
    assert (match.scale, match.causal) == (scale, causal)
    assert match.filter == (Causal() if causal else Dense())


@pytest.mark.parametrize("scale", [0.0, -0.25])
def test_a_scale_that_is_not_positive(scale):
    match, reasons = found(lambda q, k, v: sdpa(q, k, v, scale=scale), *HEADS)
    assert (match, reasons) == (None, [f"its scores are multiplied by {scale:g}"])


def test_dropout_that_is_always_on_is_torchs():
    reasons = ["it drops 50% of its probabilities"]
    assert found(lambda q, k, v: sdpa(q, k, v, dropout_p=0.5), *HEADS) == (None, reasons)

    def spelled_out(q, k, v, training):
        return dropout((q @ k).softmax(-1), 0.9, training) @ v

    assert found(partial(spelled_out, training=True), *SLICES) == (None, [])
    assert found(partial(spelled_out, training=False), *SLICES)[0] is not None


QUERIES, SHARED = drawn(1, 6, 3, 4), drawn(1, 2, 3, 4)


@pytest.mark.parametrize(
    "function",
    [
        lambda q, k, v: sdpa(q, k, v, enable_gqa=True),
        lambda q, k, v: sdpa(q, *(part.repeat_interleave(3, 1) for part in (k, v))),
    ],
    ids=["by torch", "repeated"],
)
def test_queries_may_share_keys_and_values(function):
    match, _ = found(function, QUERIES, SHARED, SHARED)
    assert (match.heads, match.kv_heads, match.slices.tolist()) == (6, 2, [0] * 6)
    assert [len(part) for part in match.columns] == [6, 2, 2]


def test_sequences_in_two_dimensions_may_share_keys_and_values():
    inputs = drawn(1, 2, 6, 3, 4), drawn(1, 2, 2, 3, 4), drawn(1, 2, 2, 3, 4)
    match, _ = found(lambda q, k, v: sdpa(q, k, v, enable_gqa=True), *inputs)
    assert (match.heads, match.kv_heads, match.leading) == (6, 2, (1, 2, 6))
    assert match.slices.tolist() == [0] * 6 + [1] * 6


def test_what_lies_between_the_products_belongs_to_an_attention():
    def function(q, k, v):
        scores = (q @ k).clone().softmax(-1)
        return dropout(scores.double().float().view(2, 3, 5), 0.9, False) @ v

    match, _ = found(function, *SLICES)
    kinds = sorted(str(node.target).split(".")[1] for node in match.nodes)
    assert kinds == ["clone", "dropout", "matmul", "matmul", "softmax", "to", "to", "view"]


def test_all_queries_may_share_keys_and_values():
    match, _ = found(sdpa, HEADS[0], *(part[:, :1] for part in HEADS[1:]))
    assert (match.heads, match.kv_heads, match.slices.tolist()) == (2, 1, [0, 0, 1, 1])


@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (  # query heads 0, 2 and 4 share, not 0, 1 and 2
            lambda q, k, v: sdpa(
                q, *(x[:, None].expand(1, 3, 2, 3, 4).reshape(1, 6, 3, 4) for x in (k, v))
            ),
            (QUERIES, SHARED, SHARED),
        ),
        (sdpa, (SHARED[:, :1], SHARED, SHARED)),
        (sdpa, (SHARED, SHARED[:, :1], SHARED)),
        (sdpa, (SHARED, SHARED, SHARED[:, :1])),
        (lambda x: sdpa(x, x, x.transpose(0, 1)), (drawn(3, 3, 4),)),
    ],
    ids=["tiled", "one query head", "one of keys", "one of values", "other rows of values"],
)
def test_heads_that_do_not_meet(function, inputs):
    reason = "queries and keys of a head are of different sequences or heads"
    assert found(function, *inputs) == (None, [reason])


class Shared(nn.Module):
    """Four heads of queries, two of keys and values, in many forms."""

    def __init__(self, form):
        super().__init__()
        torch.manual_seed(2)
        self.form = form
        self.q, self.k, self.v = nn.Linear(16, 16), nn.Linear(16, 8), nn.Linear(16, 8)
        self.out = nn.Linear(16, 8)

    def forward(self, x):
        b, t = x.shape[:2]
        q = self.q(x).view(b, t, 4, 4).transpose(1, 2)
        k, v = (part(x).view(b, t, 2, 4).transpose(1, 2) for part in (self.k, self.v))
        return self.out(self.form(q, k, v).reshape(b, 4, t, 4).transpose(1, 2).reshape(b, t, 16))


def product(q, k, v):
    return (0.5 * q @ k.transpose(-1, -2)).softmax(-1) @ v


def grouped(q, k, v):
    """Two queries for each head of keys, one after the other."""
    return product(q.unflatten(1, (2, 2)), k[:, :, None], v[:, :, None])


def interleaved(q, k, v):
    """Queries 0 and 2 for the first head of keys."""
    return product(q.unflatten(1, (2, 2)), k[:, None], v[:, None])


FORMS = {
    "grouped": (grouped, 1),
    "interleaved": (interleaved, 0),
    "interleaved, by torch": (
        lambda q, k, v: sdpa(
            q.unflatten(1, (2, 2)), *(p[:, None].expand(-1, 2, -1, -1, -1) for p in (k, v))
        ),
        0,
    ),
    "repeated": (lambda q, k, v: product(q, *(p.repeat_interleave(2, 1) for p in (k, v))), 1),
    "tiled": (lambda q, k, v: product(q, *(p.repeat(1, 2, 1, 1) for p in (k, v))), 1),
    "by torch": (lambda q, k, v: sdpa(q, k, v, enable_gqa=True), 1),
}


@pytest.mark.parametrize("form", FORMS)
def test_heads_that_share_keys_meet_their_own(form):
    function, on = FORMS[form]
    model, x = Shared(function).eval(), drawn(2, 6, 16)
    program = transept.compile(model, x, config="tiny")
    assert program.explain()["attention_on"] == on
    got, want = program.run(x, device="cpu"), model(x)
    assert cosine_similarity(got, want, dim=-1).min() > 0.98


class Folded(nn.Module):
    """Heads and sequences are one dimension of the products; the mask meets them apart."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))
        self.out = nn.Linear(16, 8)

    def forward(self, x, mask):
        b, t = x.shape[:2]
        q, k, v = (
            part(x).view(b, t, 4, 4).transpose(1, 2).reshape(b * 4, t, 4)
            for part in (self.q, self.k, self.v)
        )
        scores = torch.bmm(q, k.transpose(1, 2)).view(b, 4, t, t) * 0.5 + mask
        context = torch.bmm(scores.view(b * 4, t, t).softmax(-1), v)
        return self.out(context.view(b, 4, t, 4).transpose(1, 2).reshape(b, t, 16))


def test_a_mask_may_meet_the_scores_in_another_view():
    model, x = Folded().eval(), drawn(2, 6, 16)
    mask = torch.zeros(2, 1, 1, 6)
    mask[1, ..., 4:] = -1e9
    program = transept.compile(model, (x, mask), config="tiny")
    assert program.explain()["attention_on"] == 1
    got, want = program.run(x, mask, device="cpu"), model(x, mask)
    assert program.notes == []
    assert cosine_similarity(got, want, dim=-1).min() > 0.98
    # more scores than there are: of two masks for one sequence
    alone = program.run(x[:1], mask[:1], device="cpu")
    assert cosine_similarity(alone, want[:1], dim=-1).min() > 0.98


@pytest.mark.parametrize("shape", [(0, 6, 16), (2, 0, 16)])
def test_no_sequences_and_no_rows(shape):
    model, x = Shared(grouped).eval(), drawn(2, 6, 16)
    program = transept.compile(model, x, config="tiny")
    assert program.run(torch.zeros(shape), device="cpu").shape == (*shape[:2], 8)
