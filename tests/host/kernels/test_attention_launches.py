"""How attentions are launched on a card: programs, tiles, constants, which kernel."""

import types

import pytest
import torch
from launches import boxes, numbers, recorded

from transept.golden.filters import Causal, Dense, TileThreshold, Window
from transept.golden.numerics.softmax import FLOAT_LEVELS
from transept.host.bench.gpu import attention_op
from transept.host.kernels.attention import AttentionBlocks, AttentionKernel
from transept.host.kernels.attention_short import is_short
from transept.host.kernels.tiles import KeptTiles

CPU = torch.device("cpu")


@pytest.fixture
def launches(monkeypatch):
    return recorded(monkeypatch)


def heads_of(count, width, rows, batch=2, spare=0):
    return torch.zeros(batch, rows, count * width + spare, dtype=torch.int8)[..., : count * width]


def attend(op, width, length, queries=70, blocks=None, whole=True, kept=None, spare=0):
    q = heads_of(op.heads, width, queries, spare=spare)
    k, v = (heads_of(op.kv_heads, width, length, spare=spare) for _ in range(2))
    out = torch.zeros(2, queries, op.heads * width + spare, dtype=torch.int16)
    keys = torch.full((2,), length, dtype=torch.int32)
    kernel = AttentionKernel(op, CPU)
    kernel(q, k, v, out[..., : op.heads * width], keys, kept, blocks, whole)
    return kernel


@pytest.mark.parametrize(
    ("rule", "before", "after", "listed", "fine", "whole"),
    [
        (None, 0, 0, False, 0, True),
        (Causal(), 0, 0, False, 0, False),
        (Window(5, 3), 5, 3, False, 0, False),
        (TileThreshold(40), 0, 0, True, 16, False),
    ],
)
def test_attentions_are_launched_in_tiles(launches, rule, before, after, listed, fine, whole):
    op = attention_op(4, 64, 300, rule, kv_heads=2)
    blocks = AttentionBlocks(64, 128, 2, 2, 99)
    kernel = attend(op, 64, 256, blocks=blocks)
    turned, launch = map(numbers, launches)
    assert turned == {
        "grid": (2, 2, 2),
        "length": 256,
        "stride": 128,
        "tiles": 2,
        "D": 64,
        "BD": 64,
        "BN": 128,
        "launch_pdl": True,
    }
    form, context = kernel._score_form(64), kernel._context
    assert launch == {
        "grid": (2, 4, 2),
        "queries": 70,
        "length": 256,
        "q_stride": 256,
        "k_stride": 128,
        "out_stride": 256,
        "tiles": 2,
        "fine_rows": 5 if fine else 0,
        "fine_columns": 16 if fine else 0,
        "channels": 256,
        "before": before,
        "after": after,
        "SHARE": 2,
        "D": 64,
        "E": 64,
        "BD": 64,
        "BE": 64,
        "BM": 64,
        "BN": 128,
        "KIND": int(op.filter.kind),
        "LISTED": listed,
        "WHOLE": whole,
        "FINE": fine,
        "MERGED": form.merged,
        "CLIP": form.clip,
        "LEFT": form.left,
        "ROW_SHIFT": op.score_row_shift,
        "CONTEXT_CLIP": context.clip(256),
        "CONTEXT_LEFT": context.left,
        "CONTEXT_UP": context.up(256),
        "CONTEXT_ROW_SHIFT": op.context_row_shift,
        "CONTEXT_OUT_SHIFT": op.context_out_shift,
        "TMA": True,
        "LEVEL_SCALE": FLOAT_LEVELS,
        "num_warps": 2,
        "num_stages": 2,
        "maxnreg": 99,
        "launch_pdl": True,
    }
    assert boxes(launches[1], "k_desc", "t_desc") == [[128, 64], [64, 128]]


@pytest.mark.parametrize(
    ("width", "spare", "bd", "be", "tma"),
    [(64, 0, 64, 64, True), (64, 8, 64, 64, False), (8, 0, 32, 16, False), (48, 0, 64, 64, False)],
)
def test_widths_that_tensor_memory_accesses_do_not_take(launches, width, spare, bd, be, tma):
    op = attention_op(2, width, 300)
    attend(op, width, 200, blocks=AttentionBlocks(), spare=spare)
    turned, launch = launches
    assert (launch["BD"], launch["BE"], turned["BD"], launch["TMA"]) == (bd, be, be, tma)
    assert launch["WHOLE"] is False  # 200 keys are no whole tiles
    assert boxes(launch, "k_desc") == [[128, bd] if tma else [128, 16]]
    tile = [launch[name] for name in ("BM", "BN", "num_warps", "num_stages")]
    assert tile == [128, 128, 4, 3]
    assert launch["maxnreg"] is None


def test_tiles_that_are_told_are_taken(launches):
    op = attention_op(2, 64, 300)
    kept = KeptTiles.of(torch.ones(2, 2, 1, 2, dtype=torch.bool))
    attend(op, 64, 256, kept=kept, blocks=AttentionBlocks(parts=1))
    launch = launches[1]
    assert (launch["count_ptr"], launch["list_ptr"]) == (kept.count, kept.tiles)
    assert (launch["LISTED"], launch["FINE"], launch["WHOLE"]) == (True, 0, True)


@pytest.mark.parametrize(
    ("parts", "queries", "length", "programs", "blocks", "whole"),
    [(1, 70, 256, 1, 2, True), (2, 200, 256, 2, 2, True), (9, 200, 200, 4, 1, False)],
)
def test_programs_that_hold_all_keys_share_the_queries(
    launches, parts, queries, length, programs, blocks, whole
):
    op = attention_op(4, 32, 300, kv_heads=2)
    tile = AttentionBlocks(64, 128, 2, 2, 99, parts)
    kernel = attend(op, 32, length, queries, tile)
    (launch,) = launches
    form, context = kernel._score_form(32), kernel._context
    assert numbers(launch) == {
        "grid": (programs, 4, 2),
        "queries": queries,
        "length": length,
        "q_stride": 32,
        "k_stride": 64,
        "v_stride": 16,
        "out_stride": 128,
        "blocks": blocks,
        "SHARE": 2,
        "D": 32,
        "E": 32,
        "BM": 64,
        "BN": 128,
        "TILES": 2,
        "WHOLE": whole,
        "CLIP": form.clip,
        "LEFT": form.left,
        "CONTEXT_CLIP": context.clip(length),
        "CONTEXT_LEFT": context.left,
        "CONTEXT_UP": context.up(length),
        "CONTEXT_ROW_SHIFT": op.context_row_shift,
        "CONTEXT_OUT_SHIFT": op.context_out_shift,
        "SCALE": FLOAT_LEVELS,
        "num_warps": 2,
        "num_stages": 2,
        "maxnreg": 99,
        "launch_pdl": 2 * queries <= 512,
    }
    assert launch["sums_ptr"].shape == (2, 4, programs, 32)


# --- which kernel
def rows_of(width, dtype=torch.int8, spare=0, first=0, length=8):
    """[1, length, width] in rows of ``spare`` columns more, from column ``first`` on."""
    return torch.zeros(1, length, width + spare, dtype=dtype)[..., first : first + width]


SHORT = {"filter": Dense(), "heads": 2, "kv_heads": 2, "merged": True, "up": 0}
FEW = {"q": rows_of(64), "k": rows_of(64), "v": rows_of(64), "out": rows_of(64, torch.int16)}


@pytest.mark.parametrize(
    ("changes", "short"),
    [
        ({}, True),
        ({"filter": Causal()}, False),
        ({"k": rows_of(64, length=512)}, True),
        ({"k": rows_of(64, length=513)}, False),
        ({"merged": False}, False),
        ({"up": -1}, False),
        ({"q": rows_of(48)}, False),
        ({"v": rows_of(48)}, False),
        ({"heads": 1, "kv_heads": 1, "q": rows_of(128), "v": rows_of(32)}, True),
        ({"q": rows_of(64, spare=4, first=4)}, True),
        ({"q": rows_of(64, spare=2)}, False),
        ({"v": rows_of(64, spare=2)}, False),
        ({"v": rows_of(64, spare=4, first=2)}, False),
        ({"k": rows_of(64, spare=1, first=1)}, True),
        ({"out": rows_of(64, torch.int16, spare=2, first=2)}, True),
        ({"out": rows_of(64, torch.int16, spare=1)}, False),
        ({"out": rows_of(64, torch.int16, spare=2, first=1)}, False),
    ],
)
def test_what_few_keys_are(changes, short):
    """Up to 512 that all are seen, in words, with roundings that merge."""
    facts = types.SimpleNamespace(**{**SHORT, **changes})
    rows = [{**FEW, **changes}[name] for name in ("q", "k", "v", "out")]
    context = types.SimpleNamespace(up=lambda keys: facts.up)
    assert is_short(facts, *rows, facts, context) is short
