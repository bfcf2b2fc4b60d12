"""Rotary embeddings in their spellings, and what only looks like one."""

import pytest
import torch
from matches import Calls, matched
from torch.nn import functional

from transept.host.front.matches import RotaryMatch

BATCH, LENGTH, HEADS, D = 2, 5, 3, 4
X = torch.randn(BATCH, LENGTH, 8, generator=torch.Generator().manual_seed(1))
W = torch.randn(HEADS * D, 8, generator=torch.Generator().manual_seed(2))
ANGLES = torch.rand(LENGTH, D // 2, generator=torch.Generator().manual_seed(3))


def heads_of(x, w):
    return functional.linear(x, w).view(BATCH, LENGTH, HEADS, D).transpose(1, 2)


def turned(x):
    return torch.cat((-x[..., D // 2 :], x[..., : D // 2]), dim=-1)


def tables(x, angles):
    """Something that depends on an input, as positions do."""
    angle = torch.cat([angles, angles], -1) + x[:, :, :1] * 0
    return angle.cos(), angle.sin()


def usual(x, w, angles):
    q, (cos, sin) = heads_of(x, w), tables(x, angles)
    return q * cos.unsqueeze(1) + turned(q) * sin.unsqueeze(1)


def reversed_operands(x, w, angles):
    q, (cos, sin) = heads_of(x, w), tables(x, angles)
    return sin[:, None] * turned(q) + cos[:, None] * q


def heads_last(x, w, angles):
    """Without a transposition: [batch, length, heads, d]."""
    q = functional.linear(x, w).view(BATCH, LENGTH, HEADS, D)
    cos, sin = (part.unsqueeze(2).transpose(1, 2) for part in tables(x, angles))
    q = q.transpose(1, 2)
    return q * cos + turned(q) * sin


def found(function, w=W):
    matcher = matched(Calls(function, w=w, angles=ANGLES), X)
    return matcher, [op for op in matcher.matches if isinstance(op, RotaryMatch)]


@pytest.mark.parametrize("function", [usual, reversed_operands, heads_last])
def test_every_fact_of_a_rotary_embedding(function):
    matcher, (op,) = found(function)
    x, cos, sin = op.inputs
    assert (op.name, x, op.outputs, op.heads) == ("model.rotary", "w", ("model.rotary",), HEADS)
    assert torch.equal(op.columns, torch.arange(HEADS * D).reshape(HEADS, D))
    assert len(op.nodes) == 5
    angle = ANGLES.repeat(BATCH, 2)  # of every row
    values = matcher.values
    for name, wanted in ((cos, angle.cos()), (sin, angle.sin())):
        source = matcher.boundaries[name].source
        assert matcher.boundaries[name].rows == BATCH * LENGTH
        sign = torch.tensor([-1, -1, 1, 1]) if name == sin else 1
        rows = source.rows(values[source.node]).double()
        assert torch.allclose(rows, (wanted * sign).double())
    # the result lies as the heads do
    boundary = op.defines["model.rotary"]
    rows = torch.arange(BATCH * LENGTH * HEADS * D).reshape(BATCH, LENGTH, HEADS, D)
    assert torch.equal(boundary.codes, rows.transpose(1, 2))


def test_one_table_serves_several():
    def function(x, w, angles):
        cos, sin = tables(x, angles)
        first, second = heads_of(x, w[: HEADS * D]), heads_of(x, w[HEADS * D :])
        parts = [q * cos.unsqueeze(1) + turned(q) * sin.unsqueeze(1) for q in (first, second)]
        return torch.cat(parts)

    _, ops = found(function, torch.cat([W, W + 1]))
    assert [op.inputs[1:] for op in ops] == [ops[0].inputs[1:]] * 2
    assert ops[0].name != ops[1].name


def test_heads_of_a_packed_projection():
    def function(x, w, angles):
        q = functional.linear(x, w).view(BATCH, LENGTH, 2, HEADS, D)[:, :, 1].transpose(1, 2)
        cos, sin = tables(x, angles)
        return q * cos.unsqueeze(1) + turned(q) * sin.unsqueeze(1)

    _, (op,) = found(function, torch.cat([W, W + 1]))
    assert torch.equal(op.columns, torch.arange(HEADS * D).reshape(HEADS, D) + HEADS * D)


def test_a_table_may_be_longer_than_the_text():
    """Its rows are where the view of it says."""

    def function(x, w, angles):
        q = heads_of(x, w)
        angle = torch.cat([angles, angles], -1) + x[:1, :1, :1] * 0
        longer = torch.cat([angle - 1, angle, angle + 1], 1)
        cos, sin = (part[:, LENGTH : 2 * LENGTH] for part in (longer.cos(), longer.sin()))
        return q * cos.unsqueeze(1) + turned(q) * sin.unsqueeze(1)

    matcher, (op,) = found(function)
    source = matcher.boundaries[op.inputs[1]].source
    assert matcher.values[source.node].shape == (1, 3 * LENGTH, D)
    rows = source.rows(matcher.values[source.node])
    assert torch.allclose(rows, ANGLES.repeat(BATCH, 2).cos())


def built(turn=turned, combine=lambda q, r, c, s: q * c + r * s, heads=heads_of, by_head=False):
    def function(x, w, angles):
        q, (cos, sin) = heads(x, w), tables(x, angles)
        cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
        if by_head:
            cos = torch.cat([cos, cos * 2, cos], 1)
        return combine(q, turn(q), cos, sin)

    return function


NONE = {
    "the wrong half is negative": built(
        lambda x: torch.cat((x[..., D // 2 :], -x[..., : D // 2]), -1)
    ),
    "nothing is turned": built(lambda x: torch.cat((-x[..., : D // 2], x[..., D // 2 :]), -1)),
    "neighbours are pairs": built(
        lambda x: torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
    ),
    "other parts": built(lambda x: torch.cat((-x[..., 3:], x[..., :3]), -1)),
    "turned along the rows": built(lambda x: torch.cat((-x[:, :, :2], x[:, :, 2:]), 2)),
    "a difference": built(combine=lambda q, r, c, s: q * c - r * s),
    "a weighted sum": built(combine=lambda q, r, c, s: torch.add(q * c, r * s, alpha=2)),
    "cosines by head": built(by_head=True),
    "of another factor": built(heads=lambda x, w: heads_of(x, w) * 2.0),
    "what torch computes": built(heads=lambda x, w: heads_of(x, w).cumsum(-1)),
}


@pytest.mark.parametrize("kind", NONE)
def test_what_only_looks_like_one(kind):
    assert found(NONE[kind])[1] == []
