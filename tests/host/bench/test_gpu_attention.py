"""Rows of ``bench gpu`` for attentions, on a stand-in for a card, with times that are given."""

import dataclasses

import numpy as np
import pytest
import torch
from cards import on_the_cpu, spread
from torch.nn import functional

from transept.golden.filters import Causal, Dense
from transept.golden.numerics.requantise import ChannelParameters
from transept.host.bench import gpu
from transept.host.kernels import INTERPRETED
from transept.host.kernels.attention import AttentionBlocks

CHOICES = (AttentionBlocks(64, 64), AttentionBlocks(128, 64))

pytestmark = pytest.mark.skipif(not INTERPRETED, reason="there is a card")


@pytest.fixture
def card(monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(gpu, "SAMPLED", 4)
    monkeypatch.setattr(gpu, "ATTENTION_BLOCKS", CHOICES)
    with on_the_cpu(monkeypatch) as done:
        yield done


def test_an_attention_is_that_of_real_numbers():
    heads, kv_heads, width, keys = 4, 2, 16, 24
    op = gpu.attention_op(heads, width, keys, kv_heads=kv_heads)
    assert (op.name, op.q, op.k, op.v, op.out) == ("attention", "q", "k", "v", "out")
    assert (op.heads, op.kv_heads, op.block, op.filter) == (heads, kv_heads, 16, Dense())
    generator = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randint(-127, 128, (keys, count * width), generator=generator)
        for count in (heads, kv_heads, kv_heads)
    )
    real = [x.reshape(keys, -1, width).transpose(0, 1) * (4 / 127) for x in (q, k, v)]
    wanted = functional.scaled_dot_product_attention(*real, enable_gqa=True)
    found = op._sequence(q, k, v, keys).reshape(keys, heads, width).transpose(0, 1) * (4 / 32767)
    assert (found - wanted).abs().max() < 0.05
    slope = (found * wanted).sum() / (wanted * wanted).sum()
    assert slope == pytest.approx(1, abs=1e-3)


def test_heads_and_filter_of_an_attention_may_be_told():
    op = gpu.attention_op(4, 16, 8, Causal())
    assert (op.kv_heads, op.filter) == (4, Causal())


def test_a_head_has_its_own_parameters():
    op = gpu.attention_op(3, 2, 8)
    numbers = np.arange(6)
    op = dataclasses.replace(
        op,
        score_multiplier=np.array([10, 20, 30]),
        score_shift=np.array([1, 2, 3]),
        context=ChannelParameters(numbers + 100, numbers + 10, numbers),
    )
    one = gpu._one_head(op, 1, slice(2, 4))
    assert (one.heads, one.kv_heads) == (1, 1)
    assert (one.score_multiplier.tolist(), one.score_shift.tolist()) == ([20], [2])
    parts = (one.context.multiplier, one.context.shift, one.context.bias)
    assert [part.tolist() for part in parts] == [[102, 103], [12, 13], [2, 3]]


def test_the_last_head_of_the_first_sequence_is_compared(card):
    work = gpu._Heads(2, 2, 64, 16)
    work.run(CHOICES[0])()
    assert work.mismatches() == 0
    for sequence, row, column in [(0, 0, 16), (0, 1, 31), (0, 63, 24), (0, 62, 25)]:
        work.out[sequence, row, column] += 1
    for sequence, row, column in [(0, 2, 16), (0, 61, 31), (0, 0, 15), (1, 0, 16), (1, 63, 31)]:
        work.out[sequence, row, column] += 1
    assert work.mismatches() == 4


def test_operands_of_an_attention_fill_their_range(card, monkeypatch):
    monkeypatch.setattr(torch, "randn", spread)
    work = gpu._Heads(2, 3, 64, 16)
    wanted = (30 * torch.linspace(-8, 8, 2 * 64 * 48)).clamp(-127, 127).to(torch.int8)
    for x in (work.q, work.k, work.v):
        assert torch.equal(x, wanted.reshape(2, 64, 48))
    assert (work.out.shape, work.out.dtype) == ((2, 64, 48), torch.int16)
    assert work.keys.tolist() == [64, 64]
    assert work.real.shape == (3, 2, 3, 64, 16)


def test_torch_has_the_same_attention_on_two_backends(card, monkeypatch):
    work, seen, cuda = gpu._Heads(2, 3, 64, 16), [], torch.backends.cuda

    def attention(*operands):
        assert torch.equal(torch.stack(operands), work.real)
        assert not cuda.math_sdp_enabled()
        seen.append((cuda.cudnn_sdp_enabled(), cuda.flash_sdp_enabled()))

    monkeypatch.setattr(functional, "scaled_dot_product_attention", attention)
    for name, run in work.baselines():
        seen.append(name)
        run()
    assert seen == ["cudnn", (True, False), "flash", (False, True)]


def clock(monkeypatch, *times):
    """It tells these times without a launch."""
    left = iter(times)
    monkeypatch.setattr(gpu, "_milliseconds", lambda run: next(left))


def test_a_row_of_an_attention(card, monkeypatch):
    clock(monkeypatch, 6.0, 4.0, 2.0, 8.0)
    assert gpu._attention(2, 1, 128, 16) == {
        "work": "attention",
        "shape": "2x1x128x16",
        "ms": 4.0,
        "tops": pytest.approx(4 * 2 * 1 * 128 * 128 * 16 / 4e-3 / 1e12),
        "mismatches": 0,
        **{"cudnn_ms": 2.0, "against_cudnn": 0.5, "flash_ms": 8.0, "against_flash": 2.0},
        "blocks": dataclasses.asdict(CHOICES[1]),
    }


@pytest.fixture
def drawn(monkeypatch):
    """Of four tiles, those of the diagonal are kept and what is below 0.25."""
    lots = torch.tensor([[0.9, 0.25], [0.1, 0.9]])
    monkeypatch.setattr(torch, "rand", lambda *size, device: lots[: size[0], : size[1]])
    return {
        "work": "attention, 25% of 64 x 64 tiles",
        "shape": "1x2x128x16",
        "ms": 2.0,
        "tops": pytest.approx(4 * 1 * 2 * 3 * 64 * 64 * 16 / 2e-3 / 1e12),
        "mismatches": 0,
        **{"cudnn_ms": 1.0, "against_cudnn": 0.5, "flash_ms": 3.0, "against_flash": 1.5},
        "blocks": dataclasses.asdict(AttentionBlocks(64, 64, registers=128)),
        **{"dense_ms": 6.0, "against_dense": 3.0},
    }


def test_a_row_of_an_attention_on_some_tiles(card, drawn, monkeypatch):
    clock(monkeypatch, 8.0, 6.0, 2.0, 1.0, 3.0, 5.0)
    tiles = []
    monkeypatch.setattr(gpu, "_flex", lambda real, kept: tiles.append((real.shape, kept.tolist())))
    found = gpu._sparse(1, 2, 128, 16, share=0.25)
    assert found == drawn | {"flex_ms": 5.0, "against_flex": 2.5}
    assert tiles == [((3, 1, 2, 128, 16), [[True, False], [True, True]])]


def test_what_torch_cannot_compile_has_its_reason(card, drawn, monkeypatch):
    clock(monkeypatch, 8.0, 6.0, 2.0, 1.0, 3.0)

    def refused(real, kept):
        raise RuntimeError("\n no such tiles\nand more")

    monkeypatch.setattr(gpu, "_flex", refused)
    found = gpu._sparse(1, 2, 128, 16, share=0.25)
    assert found == drawn | {"flex": "no such tiles"}


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_has_the_same_tiles(card, monkeypatch):
    monkeypatch.setattr(gpu, "TILE", 16)
    real = torch.randn(3, 2, 3, 48, 8)
    kept = torch.tensor([[1, 0, 1], [1, 1, 0], [0, 1, 1]]).bool()
    mask = torch.kron(kept.int(), torch.ones(16, 16, dtype=torch.int32)).bool()
    wanted = functional.scaled_dot_product_attention(*real, attn_mask=mask)
    assert torch.allclose(gpu._flex(real, kept)(), wanted, atol=1e-5)
    assert card[0] == ("compile", {"dynamic": False})
