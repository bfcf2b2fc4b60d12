"""Compiled graphs give the bits of the golden model, in whatever order the engines get along."""

import dataclasses

import numpy as np
import pytest
from emulation import emulate
from graphs import (
    attention_alone,
    cross,
    four_bits,
    gated,
    iterated,
    linear_alone,
    mlp,
    post_norm,
    pre_norm,
    random_inputs,
    read_sums,
    twice_the_same,
    uneven,
)

from transept.golden.config import TINY
from transept.golden.filters import Causal, TileThreshold, Window
from transept.host.compiler.compile import compile_cut
from transept.host.compiler.errors import CompileError
from transept.host.runtime.region import Region

SMALL = TINY.replace(name="small", act_banks=(96,) * 4, stat_words=512)
#: Other hardware that must not change a bit.
HARDWARE = {
    "tile_8": {"tile": 8, "max_rows": 32},
    "two_dsps_a_chain": {"dsp_chain": 2},
    "more_rows": {"max_rows": 32, "rowstat_entries": 256},
    "other_banks": {"act_banks": (512, 128, 128, 256, 256)},
    "few_statistics": {"rowstat_entries": 40},
    "small_weights": {"stat_words": 384},
}
GRAPHS = {
    "post-norm": lambda: post_norm(1, 16, 2, [32, 8]),
    "padded heads": lambda: post_norm(2, 14, 2, [30]),
    "pre-norm": lambda: pre_norm(3, 16, 4, 2, [32, 24]),
    "one key head": lambda: pre_norm(9, 12, 3, 1, [20]),
    "causal": lambda: post_norm(4, 16, 2, [16], Causal()),
    "window": lambda: post_norm(5, 16, 2, [16], Window(3, 2)),
    "threshold": lambda block=4: post_norm(6, 16, 2, [16], TileThreshold(1000), block=block),
    "keys from DRAM": lambda: attention_alone(10, 12, 2, TileThreshold(500)),
    "uneven": lambda: uneven(11, [(8, 2, 20), (18, 3, 7)]),
    "iterated": lambda: iterated(12, 8, 2, 12, 3),
    "gated": lambda: gated(13, 32, 4, 2, [24, 12]),
    "four bits": lambda: four_bits(gated(14, 32, 2, 1, [32, 24])),
    "four bits alone": lambda: four_bits(linear_alone(15, 64, 80)),
    "wide": lambda: mlp(7, [60, 90, 50]),
    "sums": lambda: read_sums(9),
    "twice": lambda: twice_the_same(10),
    "int8": lambda: mlp(8, [10, 24, 7], bits=8),
}
SHAPES = [(1, 1, None), (3, 5, [5, 2, 1]), (1, 21, [18])]
LONG = (2, 40, [40, 33])
ORDERS = 4  # that of the program, and three others


def check(graph, config, batch, length, lengths=None):
    """The program in its own order and in others, from other garbage each time."""
    region = Region("graph", graph, config)
    if isinstance(length, int):
        length = {dim.name: length for dim in graph.dims}
    executable = region.executable(region.shape(batch, length))
    inputs = random_inputs(graph, batch, length)
    wanted = graph.evaluate(inputs, lengths)
    for seed in range(ORDERS):
        order = np.random.default_rng(seed) if seed else None
        found = emulate(region, executable, inputs, lengths, order, seed)
        for out in graph.outputs:
            np.testing.assert_array_equal(found[out], wanted[out], f"{out}, order {seed}")
    return executable


@pytest.mark.parametrize(("batch", "length", "real"), SHAPES)
@pytest.mark.parametrize("config", [TINY, SMALL], ids=lambda config: config.name)
@pytest.mark.parametrize("name", GRAPHS)
def test_every_order_gives_the_bits_of_the_golden_model(name, config, batch, length, real):
    check(GRAPHS[name](), config, batch, length, real and {"rows": real})


@pytest.mark.parametrize("name", ["threshold", "keys from DRAM", "wide", "four bits alone"])
def test_long_sequences(name):
    batch, length, real = LONG
    check(GRAPHS[name](), SMALL, batch, length, {"rows": real})


def test_row_blocks_in_halves_take_weights_together():
    executable = check(GRAPHS["four bits alone"](), TINY.replace(max_rows=8), 1, 40)
    assert (executable.cut.rows, executable.cut.together) == ((4,), 10)


@pytest.mark.parametrize("name", ["pre-norm", "threshold", "wide", "four bits"])
@pytest.mark.parametrize("changes", HARDWARE)
def test_no_hardware_changes_a_bit(changes, name):
    config = TINY.replace(name=changes, **HARDWARE[changes])
    sizes = {"block": config.tile} if name == "threshold" else {}
    check(GRAPHS[name](**sizes), config, 2, 13, {"rows": [11, 6]})


@pytest.mark.parametrize(("rows", "memory"), [(1, 30), (30, 1), (11, 7), (16, 40)])
def test_queries_and_keys_of_other_rows(rows, memory):
    lengths = {"rows": [rows, 1], "memory": [memory, (memory + 1) // 2]}
    check(cross(1, 12, 3, 20), TINY, 2, {"rows": rows, "memory": memory}, lengths)


@pytest.mark.parametrize("seed", range(10))
def test_random_layers(seed):
    """Whatever is drawn, it fits or is refused by name."""
    rng = np.random.default_rng(seed)
    sizes = [
        (int(heads * rng.integers(2, 12)), int(heads), int(rng.integers(1, 50)))
        for heads in rng.integers(1, 5, rng.integers(1, 4))
    ]
    banks = tuple(rng.integers(48, 192, 6).tolist())
    config = TINY.replace(name="drawn", act_banks=banks, stat_words=8 * int(rng.integers(38, 113)))
    batch, length = int(rng.integers(1, 4)), int(rng.integers(1, 20))
    lengths = {"rows": rng.integers(1, length + 1, batch).tolist()}
    try:
        check(uneven(seed, sizes), config, batch, length, lengths)
    except CompileError as error:
        pytest.fail(f"{sizes}, {batch} x {length}, {config.memories}: {error}")


def test_what_lies_behind_a_sequence_changes_nothing_in_it():
    graph = post_norm(1, 16, 2, [32], Causal())
    region = Region("graph", graph, TINY)
    executable = region.executable(region.shape(2, {"rows": 7}))
    lengths = {"rows": [5, 3]}
    inputs = random_inputs(graph, 2, 7)
    other = {name: rows.copy() for name, rows in inputs.items()}
    for rows in other.values():
        rows[0, 5:], rows[1, 3:] = 32767, -32767
    first, second = (emulate(region, executable, x, lengths) for x in (inputs, other))
    for name in graph.outputs:
        assert (first[name][0, :5] == second[name][0, :5]).all()
        assert (first[name][1, :3] == second[name][1, :3]).all()


def test_neighbours_in_a_batch_change_nothing():
    graph = post_norm(1, 16, 2, [32])
    region = Region("graph", graph, TINY)
    together, alone = (region.executable(region.shape(n, {"rows": 5})) for n in (3, 1))
    inputs = random_inputs(graph, 3, 5)
    got = emulate(region, together, inputs, {"rows": [5, 2, 4]})
    for index, length in enumerate([5, 2, 4]):
        one = {name: rows[index : index + 1] for name, rows in inputs.items()}
        part = emulate(region, alone, one, {"rows": [length]})
        for name in graph.outputs:
            assert (got[name][index, :length] == part[name][0, :length]).all()


@pytest.mark.parametrize("rows", range(1, 8))
def test_key_tiles_in_several_blocks_of_rows(rows):
    """Whatever the blocks, a key tile is summed from its first row on."""
    graph = post_norm(6, 16, 2, [16], TileThreshold(1000))
    region = Region("threshold", graph, TINY)
    shape = region.shape(1, {"rows": 37})
    cut = region.executable(shape).cut
    cut = dataclasses.replace(cut, rows=tuple(min(rows, n) for n in cut.rows))
    executable = compile_cut(graph, TINY, shape, cut, region.image)
    inputs = random_inputs(graph, 1, 37)
    wanted = graph.evaluate(inputs)
    found = emulate(region, executable, inputs)
    assert all(np.array_equal(found[out], wanted[out]) for out in graph.outputs)
