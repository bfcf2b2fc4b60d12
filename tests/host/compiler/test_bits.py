"""Compiled graphs give the bits of the golden model, in whatever order the engines get along."""

import dataclasses

import numpy as np
import pytest
from emulation import emulate
from graphs import GraphBuilder, mlp, post_norm, pre_norm, random_inputs

from transept.golden.config import TINY
from transept.golden.filters import Causal, TileThreshold, Window
from transept.host.compiler.compile import compile_cut
from transept.host.runtime.region import Region


def read_sums(seed):
    """Sums that norms keep, read by linear layers, whose row maxima the vector unit must find."""
    build = GraphBuilder(seed)
    first = x = build.value(16)
    outputs = []
    for _ in range(2):
        h, x = build.norm_and_sum(build.linear(x, 16), x)
        outputs.append(build.linear(x, 7))
        x = build.add(h, x)
    return build.graph([first], [*outputs, x])


def twice_the_same(seed):
    """A norm and a sum of a value and itself."""
    build = GraphBuilder(seed)
    first = build.value(16)
    x = build.linear(first, 16)
    h, total = build.norm_and_sum(x, x)
    return build.graph([first], [build.add(h, total), build.linear(h, 5)])


SMALL = TINY.replace(name="small", act_banks=(96,) * 4, stat_words=512)
GRAPHS = {
    "post-norm": lambda: post_norm(1, 16, 2, [32, 8]),
    "padded heads": lambda: post_norm(2, 14, 2, [30]),
    "pre-norm": lambda: pre_norm(3, 16, 4, 2, [32, 24]),
    "causal": lambda: post_norm(4, 16, 2, [16], Causal()),
    "window": lambda: post_norm(5, 16, 2, [16], Window(3, 2)),
    "threshold": lambda: post_norm(6, 16, 2, [16], TileThreshold(1000)),
    "wide": lambda: mlp(7, [60, 90, 50]),
    "sums": lambda: read_sums(9),
    "twice": lambda: twice_the_same(10),
    "int8": lambda: mlp(8, [10, 24, 7], bits=8),
}
SHAPES = [(1, 16, None), (3, 5, [5, 2, 1]), (2, 40, [40, 33])]
ORDERS = 3


@pytest.mark.parametrize(("batch", "length", "real"), SHAPES)
@pytest.mark.parametrize("config", [TINY, SMALL], ids=lambda config: config.name)
@pytest.mark.parametrize("name", GRAPHS)
def test_every_order_gives_the_bits_of_the_golden_model(name, config, batch, length, real):
    graph = GRAPHS[name]()
    region = Region(name, graph, config)
    executable = region.executable(region.shape(batch, {"rows": length}))
    inputs = random_inputs(graph, batch, length)
    lengths = None if real is None else {"rows": real}
    wanted = graph.evaluate(inputs, lengths)
    for seed in range(ORDERS):
        order = np.random.default_rng(seed) if seed else None
        found = emulate(region, executable, inputs, lengths, order, seed)
        assert all(np.array_equal(found[out], wanted[out]) for out in graph.outputs)


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
