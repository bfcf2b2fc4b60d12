"""Each way to cut the work is chosen where it is needed, and gives the same bits there."""

import itertools

import numpy as np
import pytest
from emulation import emulate
from graphs import (
    GraphBuilder,
    iterated,
    mlp,
    post_norm,
    pre_norm,
    random_inputs,
    read_again,
    read_behind,
)

from transept.golden.config import PYNQ_Z2, TINY
from transept.golden.isa import Memory, Opcode, Window
from transept.host.compiler.compile import compile_cut
from transept.host.compiler.cut import Policy, Shape, Sizing, Spill, choose, spilled
from transept.host.compiler.homes import first_residuals
from transept.host.compiler.segments import segments
from transept.host.runtime.region import Region


def compiled(graph, config, batch, length):
    """The executable, once its bits are those of the golden model."""
    region = Region("graph", graph, config)
    executable = region.executable(region.shape(batch, {"rows": length}))
    inputs = random_inputs(graph, batch, length)
    found = emulate(region, executable, inputs, order=np.random.default_rng(0), seed=1)
    wanted = graph.evaluate(inputs)
    assert all(np.array_equal(found[name], wanted[name]) for name in graph.outputs)
    return executable


def loads(executable, memory=Memory.STAT):
    """Bytes of every load of the weight image to a memory."""
    return [
        i.words * TINY.tile
        for i in executable.decoded()
        if i.opcode == Opcode.LOAD and (i.window, i.memory) == (Window.WEIGHTS, memory)
    ]


def test_what_fits_stays_on_chip():
    executable = compiled(post_norm(1, 16, 2, [32]), TINY, 1, 8)
    assert not executable.cut.spilled
    assert not executable.scratch_bytes
    stores = [i for i in executable.decoded() if i.opcode == Opcode.STORE]
    assert {i.window for i in stores} == {Window.IO}


def test_rows_that_do_not_fit_are_spilled():
    executable = compiled(post_norm(1, 16, 2, [32]), TINY.replace(act_banks=(96,) * 4), 1, 40)
    assert executable.cut.spilled
    assert executable.scratch_bytes == 40 * 16 * 2 * len(executable.cut.spilled)
    ends = [
        i.offset + ((i.rows - 1) * i.pitch + 2 * i.words) * TINY.tile
        for i in executable.decoded()
        if i.opcode == Opcode.STORE and i.window == Window.SCRATCH
    ]
    assert max(ends) == executable.scratch_bytes


def test_long_sequences_have_blocks_of_queries():
    executable = compiled(post_norm(1, 16, 2, [16]), TINY, 1, 30)
    assert executable.cut.queries < 30
    scores = [i for i in executable.decoded() if i.opcode == Opcode.SCORES]
    assert {i.position for i in scores} == set(range(0, 30, executable.cut.queries))
    assert all(i.rows + 1 <= executable.cut.queries for i in scores)


@pytest.mark.parametrize(("stat_words", "heads"), [(512, 2), (320, 1)])
def test_as_many_heads_as_leave_room_for_weights(stat_words, heads):
    config = TINY.replace(stat_words=stat_words)
    executable = compiled(post_norm(1, 16, 2, [16]), config, 1, 32)
    assert executable.cut.heads == heads


@pytest.mark.parametrize("few_first", [False, True])
@pytest.mark.parametrize(("keys", "fit"), [(48, True), (100, False)])
def test_heads_leave_room_where_there_are_most_keys(few_first, keys, fit):
    build = GraphBuilder(1, dims=("few", "rows"))
    made = [
        [build.value(16, 8, dim) for _ in "qkv"]
        for dim in (("few", "rows") if few_first else ("rows", "few"))
    ]
    inputs = [name for rows in made for name in rows]
    graph = build.graph(inputs, [build.attention(*rows, 2) for rows in made])
    policy = Policy(1, False, Spill.NONE, 2, Sizing(True, 0.95), 1.0)
    cut = choose(graph, TINY, Shape(1, {"few": 3, "rows": keys}), policy)
    assert (cut is not None) == fit


@pytest.mark.parametrize(("batch", "length", "group"), [(4, 4, 4), (10, 4, 4), (3, 9, 1)])
def test_sequences_go_in_groups_of_nearly_the_same_size(batch, length, group):
    assert compiled(post_norm(1, 8, 2, [12]), TINY, batch, length).cut.group == group


def test_long_sums_are_split_in_chains():
    executable = compiled(mlp(1, [200, 12]), TINY, 1, 5)
    products = [i for i in executable.decoded() if i.opcode == Opcode.MATMUL]
    assert any(i.accumulate for i in products)
    for first, second in itertools.pairwise(products):
        assert second.accumulate == (not first.finish)
    assert {i.k_tiles for i in products} == {50 // 3, 50 // 3 + 1}  # of at most 24 tiles


def test_blocks_between_the_first_and_the_last_product_are_larger():
    executable = compiled(mlp(1, [12, 240, 12]), TINY, 1, 5)
    tiles: dict[str, set[int]] = {}
    for instruction, label in zip(executable.decoded(), executable.labels, strict=True):
        if instruction.opcode == Opcode.MATMUL:
            tiles.setdefault(label, set()).add(instruction.k_tiles)
    assert sorted(map(max, tiles.values())) == [3, 20, 30]  # of 60, the last product's in three


def test_weights_that_fit_are_read_once():
    once, often = (compiled(iterated(1, 8, 2, 12, times), TINY, 2, 6) for times in (1, 8))
    for executable in (once, often):
        assert executable.cut.resident
    assert loads(once) == loads(often)
    columns, parameters = 3 * 2 + 2 + 3 + 2, 1
    assert len(loads(once)) == columns + parameters
    for memory in (Memory.VPARAM, Memory.TABLE):
        assert loads(once, memory) == loads(often, memory)
    products = sum(i.opcode == Opcode.MATMUL for i in once.decoded())
    assert sum(i.opcode == Opcode.MATMUL for i in often.decoded()) == 8 * products


def test_weights_that_do_not_fit_are_read_again():
    small = TINY.replace(stat_words=224)
    once, often = (compiled(iterated(1, 8, 2, 12, times), small, 1, 4) for times in (1, 3))
    assert not often.cut.resident
    assert sum(loads(often)) >= 2 * sum(loads(once))


@pytest.mark.parametrize("spill", Spill)
@pytest.mark.parametrize(
    "make",
    [
        lambda: post_norm(3, 12, 2, [20, 8]),
        lambda: two_layers(12, 2, 20),
        lambda: pre_norm(4, 16, 4, 2, [32]),
        lambda: read_behind(5, 12, 2),
    ],
)
def test_every_policy_gives_the_same_bits(make, spill):
    graph = make()
    region, shape = Region("graph", graph, TINY), Shape(2, {"rows": 9})
    inputs = random_inputs(graph, 2, 9)
    wanted = graph.evaluate(inputs)
    policy = Policy(1, False, spill, 2, Sizing(loose=False, share=0.4), 1.0)
    cut = choose(graph, TINY, shape, policy)
    assert cut.spilled == spilled(graph, spill)
    executable = compile_cut(graph, TINY, shape, cut, region.image)
    found = emulate(region, executable, inputs, order=np.random.default_rng(0))
    assert all(np.array_equal(found[name], wanted[name]) for name in graph.outputs)


def two_layers(width, heads, inner):
    """Post-norm layers, the first of which reads the input."""
    build = GraphBuilder(3, limit=128)
    first = x = build.value(width)
    for _ in range(2):
        x = build.layer(x, heads, inner)
    return build.graph([first], [x])


@pytest.mark.parametrize("length", [3, 21])
def test_nothing_overwrites_what_is_read_again(length):
    compiled(read_again(14, 16, 2), TINY, 1, length)


def test_what_is_spilled():
    graph = two_layers(12, 2, 20)
    by_kind = {spill: spilled(graph, spill) for spill in Spill}
    contexts = {op.out for op in graph.ops if hasattr(op, "kv_heads")}
    (first,) = first_residuals(graph, segments(graph))
    assert graph.producer(first).x in graph.inputs
    assert by_kind[Spill.NONE] == {first}
    assert by_kind[Spill.NONE_WHOLE] == set()
    assert by_kind[Spill.CONTEXTS] == contexts | {first}
    assert by_kind[Spill.CONTEXTS_WHOLE] == contexts
    assert by_kind[Spill.BOTH] == by_kind[Spill.CONTEXTS] | by_kind[Spill.RESIDUALS]
    assert by_kind[Spill.BOTH] < by_kind[Spill.ALL] | by_kind[Spill.BOTH]


def test_a_model_may_begin_with_its_first_layer():
    """The first residual comes from memory, and goes on on chip: BERT-base's width."""
    graph = two_layers(768, 12, 3072)
    region, shape = Region("graph", graph, PYNQ_Z2), Shape(1, {"rows": 128})
    macs = sum(graph.macs(shape.rows).values())
    executable = region.executable(shape)
    (first,) = first_residuals(graph, segments(graph))
    assert first not in executable.cut.spilled
    assert macs / PYNQ_Z2.macs / executable.predicted_cycles > 0.98


def test_two_compilations_are_equal():
    graph, shape = post_norm(3, 12, 2, [20, 8]), {"rows": 9}
    first, second = (Region("graph", graph, TINY) for _ in range(2))
    programs = [r.executable(r.shape(2, shape)).instructions for r in (first, second)]
    assert programs[0] == programs[1]
