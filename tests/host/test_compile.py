"""Programs of small encoders and chains: the emulator gives the golden model's bits."""

import numpy as np
import pytest
from small_models import emulate, golden, quantised_chain, quantised_encoder, random_rows

from transept.golden.config import TINY
from transept.golden.isa import Opcode
from transept.host import graph
from transept.host.compile import CompileError, compile_chain, compile_encoder

# hidden, heads, ffn, layers
MODELS = [(8, 2, 16, 1), (6, 2, 10, 1), (12, 3, 20, 2), (16, 2, 24, 2), (8, 1, 4, 1)]
# tokens, batch: one row, no tile's multiple, one block, two blocks, several sequences, the longest
SHAPES = [(1, 1), (3, 1), (4, 1), (9, 1), (16, 1), (1, 8), (7, 2), (5, 3), (4, 4)]
#: Other hardware that must not change a bit.
HARDWARE = {
    "tile 8": {"tile": 8, "max_rows": 32},
    "two DSPs a chain": {"dsp_chain": 2},
    "more rows": {"max_rows": 32, "rowstat_entries": 256},
    "other banks": {"act_banks": (512, 128, 128, 256, 256)},
    "small weight memory": {"stat_words": 512},
    "longer rows": {"max_hidden": 256, "max_keys": 128, "acc_slots": 2},
}


def lengths_of(tokens, batch, seed):
    return np.random.default_rng(seed).integers(1, tokens + 1, batch).tolist()


@pytest.mark.parametrize(("tokens", "batch"), SHAPES)
@pytest.mark.parametrize("sizes", MODELS, ids=str)
def test_encoder_is_golden(sizes, tokens, batch):
    model = quantised_encoder(*sizes)
    launch = compile_encoder(TINY, model, tokens=tokens, batch=batch)
    values = random_rows(launch, seed=tokens)
    for lengths in (None, [1] * batch, lengths_of(tokens, batch, 1)):
        got = emulate(launch, values, lengths)
        assert (got == golden(launch, model, values, lengths)).all()
    assert np.unique(got).size > 1


@pytest.mark.parametrize(("tokens", "batch"), [(17, 1), (30, 2), (64, 1), (4, 20)])
def test_more_rows_than_one_block(tokens, batch):
    model = quantised_encoder(12, 3, 20, 2)
    launch = compile_encoder(TINY, model, tokens=tokens, batch=batch)
    values, lengths = random_rows(launch, 0), lengths_of(tokens, batch, 0)
    want = golden(launch, model, values, lengths)
    assert (emulate(launch, values, lengths) == want).all()
    order = np.random.default_rng(0)
    assert (emulate(launch, values, lengths, seed=1, order=order) == want).all()


@pytest.mark.parametrize(("tokens", "batch"), [(11, 1), (5, 3)])
def test_no_interleaving_changes_a_bit(tokens, batch):
    model = quantised_encoder(12, 3, 20, 2)
    launch = compile_encoder(TINY, model, tokens=tokens, batch=batch)
    values, lengths = random_rows(launch, 0), lengths_of(tokens, batch, 0)
    want = golden(launch, model, values, lengths)
    for seed in range(12):
        order = np.random.default_rng(seed)
        assert (emulate(launch, values, lengths, seed=seed, order=order) == want).all()


@pytest.mark.parametrize("changes", HARDWARE.values(), ids=HARDWARE)
def test_no_cut_of_the_work_changes_a_bit(changes):
    model = quantised_encoder(8, 2, 20, 2)
    config = TINY.replace(name="other", **changes)
    launch = compile_encoder(config, model, tokens=7, batch=2)
    values, lengths = random_rows(launch, 3), [7, 4]
    assert (emulate(launch, values, lengths) == golden(launch, model, values, lengths)).all()


def test_what_lies_behind_a_sequence_changes_nothing_in_it():
    model = quantised_encoder(8, 2, 16, 2)
    launch = compile_encoder(TINY, model, tokens=7, batch=2)
    values = random_rows(launch, 0)
    other = values.copy()
    other[5:7], other[10:] = 32767, -32767
    first, second = (emulate(launch, rows, [5, 3]) for rows in (values, other))
    assert (first[:5] == second[:5]).all()
    assert (first[7:10] == second[7:10]).all()


def test_neighbours_in_a_batch_change_nothing():
    model = quantised_encoder(8, 2, 16, 1)
    together = compile_encoder(TINY, model, tokens=5, batch=3)
    alone = compile_encoder(TINY, model, tokens=5, batch=1)
    values = random_rows(together, 0)
    got = emulate(together, values, [5, 2, 4])
    for index, length in enumerate([5, 2, 4]):
        rows = slice(5 * index, 5 * index + length)
        part = emulate(alone, values[5 * index : 5 * index + 5], [length])
        assert (got[rows] == part[:length]).all()


@pytest.mark.parametrize("activation", graph.ACTIVATIONS)
def test_activations(activation):
    model = quantised_encoder(8, 2, 16, 1, activation)
    launch = compile_encoder(TINY, model, tokens=6, batch=1)
    values = random_rows(launch, 0)
    assert (emulate(launch, values) == golden(launch, model, values, None)).all()


CHAINS = [
    ([5, 7], [None]),
    ([8, 16, 4], [None, None]),
    ([4, 40, 12, 3], ["gelu", "relu", None]),
    ([60, 6, 60], ["silu", "tanh"]),
    ([1, 1], ["sigmoid"]),
]


@pytest.mark.parametrize("rows", [1, 3, 16])
@pytest.mark.parametrize(("widths", "activations"), CHAINS, ids=str)
def test_chain_is_golden(widths, activations, rows):
    model = quantised_chain(widths, activations)
    launch = compile_chain(TINY, model, rows=rows)
    values = random_rows(launch, rows)
    want = golden(launch, model, values, None)
    assert (emulate(launch, values) == want).all()
    for seed in range(3):
        order = np.random.default_rng(seed)
        assert (emulate(launch, values, seed=seed, order=order) == want).all()


@pytest.mark.parametrize("changes", HARDWARE.values(), ids=HARDWARE)
def test_chain_on_other_hardware(changes):
    model = quantised_chain([20, 36, 9], ["gelu", None])
    launch = compile_chain(TINY.replace(name="other", **changes), model, rows=9)
    values = random_rows(launch, 0)
    assert (emulate(launch, values) == golden(launch, model, values, None)).all()


def test_labels_and_macs():
    model = quantised_encoder(8, 2, 16, 1)
    launch = compile_encoder(TINY, model, tokens=6, batch=2)
    assert len(launch.labels) == len(launch.decoded())
    assert set(launch.macs) <= set(launch.labels)
    assert sum(launch.macs.values()) == model.macs([6, 6])
    assert {launch.decoded()[index].opcode for index, _ in launch.sequences} == {
        Opcode.SCORES,
        Opcode.SOFTMAX,
        Opcode.CONTEXT,
    }


@pytest.mark.parametrize(
    ("tokens", "batch", "message"),
    [
        (65, 1, "sequence length 65 exceeds 64 of tiny"),
        (0, 1, "tokens=0 and batch=1 must be at least 1"),
        (4, 0, "tokens=4 and batch=0 must be at least 1"),
    ],
)
def test_shapes_that_do_not_fit(tokens, batch, message):
    with pytest.raises(CompileError, match=message):
        compile_encoder(TINY, quantised_encoder(8, 2, 16, 1), tokens=tokens, batch=batch)


def test_hidden_rows_that_do_not_fit():
    with pytest.raises(CompileError, match="hidden size 132 exceeds 128 of tiny"):
        compile_encoder(TINY, quantised_encoder(132, 2, 8, 1), tokens=1, batch=1)


@pytest.mark.parametrize(
    ("widths", "rows", "message"),
    [
        ([8, 8], 0, "rows 0 is outside 1 to 16 of tiny"),
        ([8, 8], 17, "rows 17 is outside 1 to 16 of tiny"),
        ([1000, 8], 16, "16 rows of 1000 elements need 4032 activation words, tiny has 1600"),
        ([1024, 8], 1, "1024 elements exceed 1020 of tiny"),
    ],
)
def test_chains_that_do_not_fit(widths, rows, message):
    with pytest.raises(CompileError, match=message):
        compile_chain(TINY, quantised_chain(widths, [None]), rows=rows)
