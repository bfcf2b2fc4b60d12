"""Sequences whose rows are spilled, and batches in groups: still the golden model's bits."""

import numpy as np
import pytest
import torch
from small_models import emulate, float_encoder, golden, quantised_encoder, random_rows

from transept.golden.config import PYNQ_Z2, TINY
from transept.golden.isa import Opcode, Window
from transept.host.compile import CompileError, compile_encoder
from transept.host.compile_long import compile_long_encoder
from transept.host.quantize import Ranges, quantize_encoder

SIZES = (16, 2, 32, 2)  # hidden, heads, ffn, layers


def check(launch, model, lengths, orders=0):
    values = random_rows(launch, 0)
    want = golden(launch, model, values, lengths)
    assert (emulate(launch, values, lengths) == want).all()
    for seed in range(orders):
        order = np.random.default_rng(seed)
        assert (emulate(launch, values, lengths, seed=seed, order=order) == want).all()
    assert np.unique(want).size > 1


@pytest.mark.parametrize("length", [1, 33, 64])
@pytest.mark.parametrize("tokens", [17, 33, 64])
def test_long_sequence_is_golden(tokens, length):
    model = quantised_encoder(*SIZES)
    launch = compile_encoder(TINY, model, tokens=tokens, batch=1)
    assert launch.scratch_bytes
    check(launch, model, [min(length, tokens)])


@pytest.mark.parametrize("sizes", [(6, 2, 10, 1), (12, 3, 20, 2), (8, 1, 4, 1)], ids=str)
def test_padded_heads_and_rows(sizes):
    model = quantised_encoder(*sizes)
    check(compile_encoder(TINY, model, tokens=21, batch=1), model, [19])


@pytest.mark.parametrize("tokens", [1, 4, 7, 16])
def test_short_sequence_may_be_spilled_too(tokens):
    model = quantised_encoder(*SIZES)
    check(compile_long_encoder(TINY, model, tokens=tokens, batch=2), model, [tokens, 1], orders=1)


@pytest.mark.parametrize(("tokens", "batch"), [(33, 2), (64, 1)])
def test_no_interleaving_changes_a_bit(tokens, batch):
    model = quantised_encoder(*SIZES)
    launch = compile_encoder(TINY, model, tokens=tokens, batch=batch)
    check(launch, model, [tokens, 17][:batch], orders=5)


@pytest.mark.parametrize(
    "changes",
    [
        {"stat_words": 384},  # K and V of one head only
        {"act_banks": (256, 64, 64, 192)},
        {"act_banks": (240, 192, 192, 64)},  # few rows in every block
        {"rowstat_entries": 40},
        {"tile": 8, "max_rows": 16},
    ],
    ids=str,
)
def test_no_cut_of_the_work_changes_a_bit(changes):
    model = quantised_encoder(*SIZES)
    config = TINY.replace(name="other", **changes)
    check(compile_encoder(config, model, tokens=47, batch=1), model, [42], orders=2)


@pytest.mark.parametrize(("tokens", "batch"), [(4, 20), (6, 7), (16, 3), (11, 2)])
def test_batches_in_groups_stay_on_chip(tokens, batch):
    model = quantised_encoder(*SIZES)
    launch = compile_encoder(TINY, model, tokens=tokens, batch=batch)
    assert not launch.scratch_bytes
    lengths = np.random.default_rng(0).integers(1, tokens + 1, batch).tolist()
    check(launch, model, lengths, orders=2)


def test_every_sequence_has_its_length():
    model = quantised_encoder(*SIZES)
    launch = compile_encoder(TINY, model, tokens=20, batch=3)
    program = launch.decoded()
    attention = {Opcode.SCORES, Opcode.SOFTMAX, Opcode.CONTEXT}
    indices = [index for index, i in enumerate(program) if i.opcode in attention]
    assert indices == [index for index, _ in launch.sequences]
    assert {sequence for _, sequence in launch.sequences} == {0, 1, 2}


def test_spilled_rows_stay_in_their_window():
    launch = compile_encoder(TINY, quantised_encoder(*SIZES), tokens=50, batch=2)
    stores = [i for i in launch.decoded() if i.opcode == Opcode.STORE]
    ends = [
        i.offset + ((i.rows - 1) * i.pitch + 2 * i.words) * TINY.tile
        for i in stores
        if i.window == Window.SCRATCH
    ]
    assert max(ends) == launch.scratch_bytes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stat_words": 256}, "K and V of 64 tokens need 256 stationary words, other has 256"),
        ({"act_banks": (192, 32, 32, 64)}, "scores of 4 x 64 tokens need 64 words, a bank of"),
        ({"act_banks": (128, 64, 64, 64)}, "attention of 64 tokens leaves"),
        ({"act_banks": (400, 400, 400)}, "exceeds 3 of other"),
        ({"max_keys": 32}, "sequence length 64 exceeds 32 of other"),
    ],
    ids=str,
)
def test_shapes_that_do_not_fit(changes, message):
    config = TINY.replace(name="other", **changes)
    with pytest.raises(CompileError, match=message):
        compile_encoder(config, quantised_encoder(*SIZES), tokens=64, batch=1)


@pytest.mark.parametrize(("tokens", "length"), [(200, 150), (512, 512)])
def test_one_layer_of_full_size(tokens, length):
    float_model, ranges = float_encoder(384, 12, 1536, 1), Ranges()
    float_model(torch.randn(1, 64, 384), torch.ones(1, 64, dtype=torch.bool), ranges)
    model = quantize_encoder(float_model, ranges, max_tokens=PYNQ_Z2.geometry.max_tokens)
    launch = compile_encoder(PYNQ_Z2, model, tokens=tokens, batch=1)
    check(launch, model, [length])
