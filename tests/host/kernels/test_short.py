"""Attention over a few hundred keys gives the bits of the golden operator where it is taken, and is
taken where it can be."""

import dataclasses

import numpy as np
import pytest
import torch
from graphs import attention_alone, random_inputs

from transept.golden.filters import Causal, Dense
from transept.host.bench.gpu import attention_op
from transept.host.kernels import INTERPRETED, attention
from transept.host.kernels.attention import AttentionBlocks, AttentionKernel

DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
SMALL, LARGE = AttentionBlocks(64, 64, stages=2, parts=1), AttentionBlocks(64, 128, parts=2)


@pytest.fixture
def taken(monkeypatch):
    """How often the kernel was taken."""
    calls, real = [], attention.attend_short

    def counted(*arguments):
        calls.append(arguments)
        real(*arguments)

    monkeypatch.setattr(attention, "attend_short", counted)
    return calls


def normal(batch, length, width, spread, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, length, width, generator=generator) * spread
    return x.clamp(-127, 127).to(torch.int8).to(DEVICE)


def attend(op, q, k, v, lengths, blocks, whole=False, kernel=None):
    out = torch.zeros(*q.shape[:2], len(op.context.multiplier), dtype=torch.int16, device=DEVICE)
    keys = torch.tensor(lengths, dtype=torch.int32, device=DEVICE)
    (kernel or AttentionKernel(op, DEVICE))(q, k, v, out, keys, None, blocks, whole)
    return out


def golden(op, q, k, v, lengths):
    rows = zip(q.long(), k.long(), v.long(), lengths, strict=True)
    return torch.stack([op._sequence(*row) for row in rows]).to(torch.int16)


@pytest.mark.parametrize("spread", [3, 30, 1000])
@pytest.mark.parametrize(("width", "blocks"), [(32, SMALL), (64, LARGE)], ids=["small", "large"])
def test_sequences_of_any_length(width, spread, blocks, taken):
    """spread: scores of one level, usual ones, and such that they saturate."""
    op = attention_op(4, width, 200, kv_heads=2)
    q, k, v = (normal(2, 140, heads * width, spread, heads) for heads in (4, 2, 2))
    lengths = [140, 77]
    assert torch.equal(attend(op, q, k, v, lengths, blocks), golden(op, q, k, v, lengths))
    assert len(taken) == 1


def test_heads_of_values_that_are_wider_than_those_of_keys(taken):
    op, wider = (attention_op(4, width, 200, kv_heads=2) for width in (32, 64))
    op = dataclasses.replace(op, context=wider.context)
    q, k, v = (normal(1, 70, width, 30, width) for width in (4 * 32, 2 * 32, 2 * 64))
    assert torch.equal(attend(op, q, k, v, [70], SMALL), golden(op, q, k, v, [70]))
    assert len(taken) == 1


def test_every_remainder_of_a_tile():
    op = attention_op(1, 32, 200)
    lengths = [1, 2, 3, 5, 62, 63, 64, 65, 126, 127, 128, 129]
    q, (k, v) = normal(12, 10, 32, 30), (normal(12, 130, 32, 30, seed) for seed in (1, 2))
    assert torch.equal(attend(op, q, k, v, lengths, SMALL), golden(op, q, k, v, lengths))


@pytest.mark.parametrize("length", [60, 64, 256])
def test_sequences_of_all_their_keys(length, taken):
    op = attention_op(2, 32, 300)
    q, k, v = (normal(1, length, 64, 30, seed) for seed in range(3))
    for blocks in (SMALL, LARGE):
        found = attend(op, q, k, v, [length], blocks, whole=True)
        assert torch.equal(found, golden(op, q, k, v, [length]))
    assert len(taken) == 2


def test_as_many_keys_as_there_may_be(taken):
    op = attention_op(1, 128, 512)
    q, (k, v) = normal(2, 70, 128, 30), (normal(2, 512, 128, 30, seed) for seed in (1, 2))
    lengths = [512, 400]
    assert torch.equal(attend(op, q, k, v, lengths, LARGE), golden(op, q, k, v, lengths))
    assert len(taken) == 1


@pytest.mark.parametrize(("low", "high"), [(-127, -100), (-127, -80), (-90, 20), (90, 127)])
def test_scores_that_saturate(low, high):
    """Below, where the maximum of a row does so or nearly; above, where many are the maximum."""
    op = attention_op(1, 64, 300)
    q = torch.full((2, 40, 64), 127, dtype=torch.int8, device=DEVICE)
    k = torch.randint(low, high, (2, 128, 1), dtype=torch.int8).expand(-1, -1, 64).contiguous()
    k, v = k.to(DEVICE), torch.randint(-127, 128, (2, 128, 64), dtype=torch.int8).to(DEVICE)
    for lengths in ([128, 128], [128, 101]):
        wanted = golden(op, q, k, v, lengths)
        found = attend(op, q, k, v, lengths, SMALL, whole=min(lengths) == 128)
        assert torch.equal(found, wanted)


def test_heads_of_one_product_and_any_number_of_programs(taken):
    op = attention_op(2, 32, 200)
    joined = normal(1, 150, 3 * 64, 30)
    q, k, v = joined.split(64, -1)
    wanted = golden(op, q, k, v, [130])
    for parts in (1, 3, 100):
        blocks = AttentionBlocks(64, 64, parts=parts)
        assert torch.equal(attend(op, q, k, v, [130], blocks), wanted)
    assert len(taken) == 3


@pytest.mark.parametrize(
    ("width", "rule", "length", "most"),
    [
        (16, Dense(), 40, 200),
        (72, Dense(), 40, 200),
        (32, Causal(), 40, 200),
        (32, Dense(), 513, 600),
        (32, Dense(), 300, 8),
    ],
    ids=["width 16", "width 72", "causal", "too long", "steps of a context"],
)
def test_what_the_kernel_does_not_have(width, rule, length, most, taken):
    op = attention_op(2, width, most, rule)
    rows = 40 if isinstance(rule, Causal) else 10
    q = normal(1, rows, 2 * width, 30)
    k, v = (normal(1, length, 2 * width, 30, seed) for seed in (1, 2))
    assert torch.equal(attend(op, q, k, v, [length], SMALL), golden(op, q, k, v, [length]))
    assert not taken


def test_shifts_that_leave_no_room_for_reciprocals(taken):
    op = dataclasses.replace(attention_op(2, 32, 200), context_row_shift=9)
    q, (k, v) = normal(1, 10, 64, 30), (normal(1, 300, 64, 30, seed) for seed in (1, 2))
    for keys in (300, 70):
        found = attend(op, q, k[:, :keys], v[:, :keys], [keys], SMALL)
        assert torch.equal(found, golden(op, q, k[:, :keys], v[:, :keys], [keys]))
    assert len(taken) == 1


def test_roundings_that_do_not_merge(taken):
    graph = attention_alone(3, 32, 2, Dense())
    (op,) = graph.ops
    inputs = {k: torch.as_tensor(v).to(DEVICE) for k, v in random_inputs(graph, 1, 20).items()}
    q, k, v = (inputs[name].to(torch.int8) for name in op.inputs)
    assert torch.equal(attend(op, q, k, v, [20], SMALL), golden(op, q, k, v, [20]))
    assert not taken


def test_a_bias_of_some_channels_alone(taken):
    op = attention_op(1, 32, 200)
    bias = np.where(np.arange(32) % 2, 50_000, 0)
    op = dataclasses.replace(op, context=dataclasses.replace(op.context, bias=bias))
    q, k, v = (normal(1, 20, 32, 30, seed) for seed in range(3))
    assert torch.equal(attend(op, q, k, v, [20], SMALL), golden(op, q, k, v, [20]))
    assert not taken


@pytest.mark.parametrize("what", ["queries", "keys", "values", "outputs"])
def test_rows_that_begin_anywhere(what, taken):
    op = attention_op(1, 32, 200)
    rows = {
        name: normal(1, 20, 33, 30, seed)[..., :32]
        for seed, name in enumerate(("queries", "keys", "values"))
    }
    rows["outputs"] = torch.zeros(1, 20, 33, dtype=torch.int16, device=DEVICE)[..., :32]
    q, k, v, out = (x if name == what else x.contiguous() for name, x in rows.items())
    keys = torch.tensor([20], dtype=torch.int32, device=DEVICE)
    AttentionKernel(op, DEVICE)(q, k, v, out, keys, None, SMALL)
    assert torch.equal(out, golden(op, q, k, v, [20]))
    assert len(taken) == (what == "keys")
