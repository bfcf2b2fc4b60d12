"""Layouts, weight image, patches, memories, places and costs, each by itself."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from graphs import GraphBuilder, four_bits, gated, iterated, linear_alone, mlp, post_norm
from hypothesis import given, settings
from hypothesis import strategies as st

from transept.golden import isa, layouts
from transept.golden.config import PYNQ_Z2, TINY
from transept.golden.filters import TileThreshold
from transept.golden.isa import AMode, Opcode, OutMode, Window
from transept.host.compiler.compile import compile_graph
from transept.host.compiler.cost import Cost
from transept.host.compiler.cut import Shape
from transept.host.compiler.depend import dependences
from transept.host.compiler.errors import CompileError
from transept.host.compiler.layout import Layouts, Segments
from transept.host.compiler.link import Patch, link
from transept.host.compiler.lower.linear import _pieces
from transept.host.compiler.memories import Occupancy, capacities, stationary_reserve
from transept.host.compiler.order import _Scheduler, schedule, schedule_below
from transept.host.compiler.place import place
from transept.host.compiler.places import RowBlock, row_blocks
from transept.host.compiler.segments import AttentionSegment, RowSegment, segments
from transept.host.compiler.stream import program_order
from transept.host.compiler.tasks import (
    Buffer,
    DramRows,
    LoadRows,
    Product,
    Ring,
    Rows,
    StoreRows,
)
from transept.host.compiler.weights import ColumnTile, WeightImage, block_tiles


# --- layouts
def test_padding_lies_between_segments():
    padded = Segments(count=2, width=3, words=1, tile=4).pad(np.arange(6), 0)
    assert padded.tolist() == [0, 1, 2, 0, 3, 4, 5, 0]
    rows = Segments(count=2, width=5, words=2, tile=4).pad(np.ones((3, 10), int), 1)
    assert rows.shape == (3, 16)
    assert rows.sum(0).tolist() == [3] * 5 + [0] * 3 + [3] * 5 + [0] * 3


def test_one_segment_is_not_padded():
    values = np.arange(6)
    assert Segments(count=1, width=6, words=2, tile=4).pad(values, 0) is values


def test_heads_that_fill_words_are_contiguous():
    graph = post_norm(1, 16, 2, [12])
    found = {name: Layouts(graph, TINY)[name] for name in graph.values}
    attention = next(op for op in graph.ops if hasattr(op, "kv_heads"))
    for name in (*attention.inputs, attention.out):
        assert found[name] == Segments(2, 8, 2, 4)
    assert found[graph.inputs[0]] == Segments(1, 16, 4, 4)


def test_two_ways_to_split_a_value_are_refused():
    build = GraphBuilder(1)
    q, k, v = (build.value(12, 8) for _ in range(3))
    outs = [build.attention(q, k, v, heads) for heads in (2, 3)]
    with pytest.raises(
        CompileError, match=r"attention1 splits v0 into 3 heads, another .* does not"
    ):
        Layouts(build.graph([q, k, v], outs), TINY)


def test_padded_heads_have_no_norm():
    build = GraphBuilder(1)
    q, k, v = (build.value(6, 8) for _ in range(3))
    out = build.norm(build.attention(q, k, v, 2))
    with pytest.raises(CompileError, match=r"norm1 reads v3, whose 2 heads of 3 .* padded to 4"):
        Layouts(build.graph([q, k, v], [out]), TINY)


# --- segments
def test_projections_belong_to_their_attention():
    kinds = segments(post_norm(1, 8, 2, [12]))
    assert [type(part) for part in kinds] == [RowSegment, AttentionSegment, RowSegment]
    assert [op.name for op in kinds[1].ops] == ["linear1", "linear2", "linear3", "attention4"]


def test_a_projection_that_others_read_is_none():
    build = GraphBuilder(1)
    x = build.value(8)
    q, k, v = (build.linear(x, 8, 8) for _ in range(3))
    graph = build.graph([x], [k, build.attention(q, k, v, 2)])
    (_, part) = segments(graph)
    assert part.key is None
    assert part.query is not None


# --- weights
def test_a_column_is_its_tiles_and_its_parameters():
    graph = mlp(1, [10, 24, 7])
    image = WeightImage(graph, TINY)
    data, op = image.image(), graph.ops[0]
    assert len(image.columns[op.name]) == 6
    for n, column in enumerate(image.columns[op.name]):
        assert column.k_tiles == 3
        block = column.block(0, 3)
        assert (block.offset, block.words) == (column.offset, column.words)
        assert column.offset % 64 == 0
        found = data[block.offset : block.offset + block.words * 4]
        weight = np.zeros((12, 4), np.int8)
        weight[:10] = op.weight[4 * n : 4 * n + 4].T
        assert np.array_equal(
            found[:48].view(np.int8), layouts.pack_weights(weight, 4).ravel().view(np.int8)
        )
        parameters = layouts.unpack_channel_parameters(found[48:])
        np.testing.assert_array_equal(parameters.bias, op.channel.bias[4 * n : 4 * n + 4])


def test_outputs_that_fill_the_words_of_a_head_are_zeros_of_four_bits():
    build = GraphBuilder(1)
    x = build.value(32)
    q, k, v = (build.linear(x, 12, 8) for _ in range(3))
    graph = four_bits(build.graph([x], [build.attention(q, k, v, 2)]))
    image, op = WeightImage(graph, TINY), graph.ops[0]
    data, found = image.image(), []
    for column in image.columns[op.name]:
        words = layouts.unpack_four_bit(data[column.offset :][: layouts.PACKED_BLOCK * 4], 4)
        found.append(words.reshape(8, 4, 4).transpose(1, 0, 2).reshape(4, 32))
    wanted = np.zeros((2, 8, 32), np.int8)  # heads of six outputs in two words of four
    wanted[:, :6] = op.weight.reshape(2, 6, 32)
    assert np.array_equal(np.concatenate(found), wanted.reshape(16, 32))


def test_what_operators_share_is_there_once():
    once, often = (WeightImage(iterated(1, 8, 2, 12, times), TINY) for times in (1, 4))
    assert np.array_equal(once.image(), often.image())
    assert once.column_words == often.column_words
    assert len(often.columns) == 4 * len(once.columns)


def test_a_graph_without_constants_has_an_image_of_one_burst():
    image = WeightImage(products(8), TINY)
    assert (image.image().dtype, image.image().tolist()) == (np.uint8, [0] * 64)
    assert (image.column_words, image.k_tiles) == (0, 0)


@given(st.integers(1, 80), st.integers(1, 24))
def test_blocks_of_a_column(k_tiles, largest):
    blocks = ColumnTile(128, k_tiles, 4).blocks(largest)
    sizes = [tiles for _, tiles, _ in blocks]
    assert sum(sizes) == k_tiles
    assert max(sizes) <= largest
    assert max(sizes) - min(sizes) <= 1
    assert len(blocks) == -(-k_tiles // largest)
    for (start, tiles, block), last in zip(blocks, [*[0] * (len(blocks) - 1), 8], strict=True):
        assert (block.offset, block.words) == (128 + start * 16, 4 * tiles + last)


def test_blocks_have_a_tile_at_least_and_48_at_most():
    words = (0, 47, 63, 64, 200, 415, 416, 799, 800, 1024)
    assert [block_tiles(n, 4, 1, fine=True) for n in words] == [1, 1, 1, 2, 10, 23, 24, 24, 24, 24]
    assert [block_tiles(n, 4, 1, fine=False) for n in words] == [1, 1, 1, 2, 10, 23, 24, 47, 48, 48]


def test_blocks_of_many_rows_are_smaller():
    assert [block_tiles(6144, 16, n, fine=False) for n in (1, 31, 32, 128)] == [48, 48, 24, 24]
    assert block_tiles(6144, 128, 1, fine=False) == 11  # of four in the ring


def test_four_blocks_fit_the_ring():
    for words in (64, 200, 1024, 6144):
        tiles = block_tiles(words, 4, 1, fine=False)
        assert tiles == 1 or 4 * (4 * tiles + 8) <= words


# --- linking
def test_a_patch_changes_one_operand():
    executable = compile_graph(post_norm(1, 8, 2, [12]), TINY, Shape(2, {"rows": 9}))
    before = executable.decoded()
    after = isa.decode_program(executable.linked({"rows": [9, 4]}))
    changed = {patch.instruction: patch.sequence for patch in executable.patches}
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        if index not in changed:
            assert old == new
            continue
        assert new.keys == [8, 3][changed[index]]
        assert {**old.operands, "keys": new.keys} == new.operands
    kinds = {before[index].opcode for index in changed}
    assert kinds == {Opcode.SCORES, Opcode.SOFTMAX, Opcode.CONTEXT}


def test_scale_and_offset_of_a_patch():
    image = isa.encode_program(
        compile_graph(post_norm(1, 8, 2, [12]), TINY, Shape(1, {"rows": 9})).decoded()
    )
    index = next(n for n, i in enumerate(isa.decode_program(image)) if i.opcode == Opcode.SCORES)
    for options, keys in (({}, 7), ({"scale": 3, "offset": 5}, 26)):
        patch = Patch(index, "keys", "rows", 0, **options)
        assert isa.decode_program(link(image, [patch], {"rows": [7]}))[index].keys == keys


def test_what_does_not_fit_an_operand_is_not_linked():
    executable = compile_graph(post_norm(1, 8, 2, [12]), TINY, Shape(1, {"rows": 9}))
    index = executable.patches[0].instruction
    for offset, low in ((0, "field keys=-1 is outside 0 to "), (1 << 20, "keys=1048575 is out")):
        patch = Patch(index, "keys", "rows", 0, offset=offset - 10)
        with pytest.raises(ValueError, match=low):
            link(executable.instructions, [patch], {"rows": [9]})


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([9], "takes 2 sequences, got 1"),
        ([9, 0], "length 0 is outside 1 to 9"),
        ([10, 1], "length 10 is outside 1 to 9"),
    ],
)
def test_lengths_that_do_not_fit(lengths, message):
    executable = compile_graph(post_norm(1, 8, 2, [12]), TINY, Shape(2, {"rows": 9}))
    with pytest.raises(ValueError, match=message):
        executable.linked({"rows": lengths})


# --- blocks of rows
@given(st.integers(1, 300), st.integers(1, 100), st.sampled_from([1, 4, 16]))
def test_row_blocks(total, largest, step):
    blocks = row_blocks(total, largest, step)
    assert [b.start for b in blocks] == [
        sum(x.rows for x in blocks[:n]) for n in range(len(blocks))
    ]
    assert sum(b.rows for b in blocks) == total
    assert max(b.rows for b in blocks) <= largest
    assert len(blocks) == -(-total // largest) or largest < step or step > 1
    if largest >= step:
        assert all(b.rows % step == 0 or b.rows < step or largest % step for b in blocks[:-1])


def test_rows_of_a_block():
    assert row_blocks(10, 4, 4) == [RowBlock(0, 4), RowBlock(4, 4), RowBlock(8, 2)]


# --- tasks by hand
LINEAR = dataclasses.replace(mlp(1, [16, 16, 4]).ops[0], table=None)
COLUMN = ColumnTile(0, 4, 4)


def load(buffer, rows=4, start=0):
    to = Rows(buffer, 4, offset=4 * start)
    return LoadRows(
        label="x", source=DramRows(Window.IO, 0, 16, 2), to=to, rows=rows, words=4,
        writes=[to.use(rows, 4)],
    )  # fmt: skip


def multiply(a, out, rows, first=0):
    source, target = Rows(a, 4).row(first), Rows(out, 1).row(first)
    return Product(
        label="linear", op=LINEAR, columns=[(0, COLUMN)], resident=None, a=source, out=target,
        rows=rows, a_mode=AMode.DYNAMIC, out_mode=OutMode.ACT16,
        reads=[source.use(rows, 4)], writes=[target.use(rows, 1)],
    )  # fmt: skip


def store(buffer, rows=4):
    source = Rows(buffer, 1)
    return StoreRows(
        label="y", target=DramRows(Window.IO, 0, 8, 2), source=source, rows=rows, words=1,
        reads=[source.use(rows, 1)],
    )  # fmt: skip


def test_what_is_read_must_be_complete():
    x, y = Buffer("x", "act", 16), Buffer("y", "act", 4)
    before = dependences([load(x), multiply(x, y, 4), store(y)])
    assert before == [[], [(0, True, True)], [(1, True, True)]]


def test_a_turn_comes_after_all_users_of_the_one_before():
    ring, y = Ring("x", 1), Buffer("y", "act", 8)
    first, second = (Buffer(f"x{n}", "act", 16, ring=ring) for n in range(2))
    tasks = [load(first), multiply(first, y, 4), load(second), multiply(second, y, 4, first=4)]
    assert (1, True, False) in dependences(tasks)[2]
    assert (0, False, False) in dependences(tasks)[2]


def test_products_of_rows_that_follow_each_other_are_one():
    x, y = Buffer("x", "act", 32), Buffer("y", "act", 8)
    tasks = [load(x, 8), multiply(x, y, 4), multiply(x, y, 4, first=4)]
    made = schedule(tasks, TINY)
    assert [slot.shares for slot in made.slots] == [False, False, True]
    steps = program_order(made, tasks)
    assert len(steps) == 3  # rows, weights, both products


@pytest.mark.parametrize(("rows", "shared"), [(4, True), (5, False), (8, False)])
def test_products_of_too_many_rows_are_two(rows, shared):
    x, y = Buffer("x", "act", 80), Buffer("y", "act", 20)
    tasks = [load(x, 20), multiply(x, y, 12), multiply(x, y, rows, first=12)]
    assert any(slot.shares for slot in schedule(tasks, TINY).slots) == shared


def test_an_order_below_a_limit_is_that_without_one():
    x, y = Buffer("x", "act", 32), Buffer("y", "act", 8)
    tasks = [load(x, 8), multiply(x, y, 4), store(y)]
    made = schedule(tasks, TINY)
    assert schedule_below(made.cycles, tasks, TINY) is None
    assert schedule_below(made.cycles + 1, tasks, TINY).slots == made.slots


@pytest.mark.parametrize(("over", "tried"), [(0, 1), (1, 8)])
def test_an_order_that_is_too_long_is_left_early(monkeypatch, over, tried):
    """As soon as an engine is late, whatever it has still to do."""
    buffers = [Buffer(f"x{n}", "act", 16) for n in range(8)]
    tasks = [load(buffer) for buffer in buffers]
    busy = sum(cycles.busy for cycles in map(Cost(TINY), tasks))
    taken = []
    take = _Scheduler._take
    monkeypatch.setattr(_Scheduler, "_take", lambda *given: taken.append(given[1]) or take(*given))
    assert schedule_below(busy + over, tasks, TINY) is None
    assert len(taken) == tried


# --- memories
def test_words_and_entries_that_buffers_may_take():
    """Of the stationary scratchpad what is not for streamed weights."""
    assert capacities(TINY, 100) == {
        "act": 1600,
        "stat": 100,
        "rowstat": 128,
        "select": 16,
        "vparam": 128 * 8 // 4,
        "table": 130,
    }
    assert capacities(PYNQ_Z2, 7)["vparam"] == 1024 * 8 // 16


def test_buffers_that_never_fit_are_refused_by_name():
    x, y = Buffer("x", "act", 1500), Buffer("y", "act", 200)
    with pytest.raises(CompileError, match="linear needs 1700 act words, 1600 of tiny may be used"):
        Occupancy([load(x), multiply(x, y, 4)], TINY, 0, 1.0)


def test_nothing_opens_that_could_keep_the_earliest_task_from_running():
    """Banker's rule: x is open and needs y beside it, so z, which comes later, has to wait."""
    x, y, z = (Buffer(name, "act", words) for name, words in (("x", 900), ("y", 500), ("z", 300)))
    tasks = [load(x), multiply(x, y, 4), load(z)]
    occupancy = Occupancy(tasks, TINY, 0, 1.0)
    assert occupancy.room(0, 7) == 7
    occupancy.take(0, end=20, visible=30, now=0)
    assert occupancy.room(2, 20) is None
    assert occupancy.room(1, 30) == 30
    occupancy.take(1, end=90, visible=100, now=30)
    assert occupancy.room(2, 40) == 100  # x and y are in use until then


@pytest.mark.parametrize("words", [700, 701])
def test_a_task_leaves_room_for_those_before_it(words):
    x, z = Buffer("x", "act", 900), Buffer("z", "act", words)
    occupancy = Occupancy([load(x), load(z)], TINY, 0, 1.0)
    assert occupancy.room(1, 10) == (10 if words == 700 else None)


def test_room_opens_as_buffers_close():
    x, z = Buffer("x", "act", 900), Buffer("z", "act", 900)
    tasks = [load(x), load(z)]
    occupancy = Occupancy(tasks, TINY, 0, 1.0)
    occupancy.take(0, end=50, visible=95, now=0)
    assert occupancy.room(1, 10) == 50  # the same engine: in order anyway


# --- places
def placed(config, *lives):
    """Buffers of (words, steps in which they are used), placed in ``config``."""
    tasks, buffers = [], []
    for words, uses, align in lives:
        buffers.append((Buffer(f"b{len(buffers)}", "act", words, align), uses))
    for step in range(1 + max(max(uses) for _, uses in buffers)):
        touched = [buffer for buffer, uses in buffers if step in uses]
        task = load(touched[0], 1)
        task.writes = [Rows(buffer, buffer.words).use(1, buffer.words) for buffer in touched]
        tasks.append(task)
    made = schedule(tasks, config)
    place(program_order(made, tasks), config, made.reserve)
    return [(buffer.addr, buffer.addr + buffer.words) for buffer, _ in buffers]


def disjoint(one, other):
    return one[1] <= other[0] or other[1] <= one[0]


def test_buffers_of_one_time_lie_apart():
    spans = placed(TINY, (300, [0, 2], 1), (400, [0, 1], 1), (500, [0, 2], 1))
    assert all(disjoint(spans[i], spans[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert max(stop for _, stop in spans) <= TINY.act_words


def test_buffers_of_other_times_may_share_words():
    spans = placed(TINY, (1000, [0], 1), (1000, [1], 1), (1000, [2], 1))
    assert not all(disjoint(spans[i], spans[j]) for i, j in ((0, 1), (1, 2)))


def test_addresses_are_aligned():
    spans = placed(TINY, (3, [0, 1], 1), (40, [0, 1], 8), (40, [0, 1], 16))
    assert spans[1][0] % 8 == 0
    assert spans[2][0] % 16 == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 300), st.integers(0, 6), st.integers(0, 3), st.sampled_from([1, 8])
        ),
        min_size=1,
        max_size=12,
    )
)
def test_whatever_lives_together_lies_apart(drawn):
    lives = [(words, list(range(first, first + n + 1)), align) for words, first, n, align in drawn]
    steps = {step for _, uses, _ in lives for step in uses}
    lives.append((1, sorted(set(range(max(steps) + 1))), 1))
    try:
        spans = placed(TINY, *lives)
    except CompileError as error:
        assert "act words" in str(error)  # noqa: PT017
        return
    for i, (_, used, align) in enumerate(lives):
        assert spans[i][0] % align == 0
        assert 0 <= spans[i][0] <= spans[i][1] <= TINY.act_words
        for j in range(i):
            if set(used) & set(lives[j][1]):
                assert disjoint(spans[i], spans[j]), (i, j)


# --- costs
def test_costs_of_rows_and_products():
    cost, x, y = Cost(PYNQ_Z2), Buffer("x", "act", 512), Buffer("y", "act", 128)
    rows = dataclasses.replace(load(x), rows=128, words=4)
    assert cost(rows).busy == 128 * 4 * 16 * 2 / (0.8 * 16)
    product = dataclasses.replace(multiply(x, y, 128), columns=[(0, ColumnTile(0, 24, 16))] * 3)
    assert cost(product).busy == 3 * 24 * 128
    few = dataclasses.replace(product, rows=4)  # a pass takes no less than a tile of rows
    assert cost(few).busy == 3 * 24 * 16
    short = dataclasses.replace(product, columns=[(0, ColumnTile(0, 1, 16))])
    assert cost(short).busy == 128 * 2  # two beats of eight lanes for each row


def test_an_activation_takes_four_times_as_long():
    cost, x, y = Cost(PYNQ_Z2), Buffer("x", "act", 512), Buffer("y", "act", 128)
    plain = dataclasses.replace(multiply(x, y, 128), columns=[(0, ColumnTile(0, 1, 16))])
    tabled = dataclasses.replace(
        plain, op=dataclasses.replace(LINEAR, table=GraphBuilder(1).table())
    )
    assert cost(tabled).busy == 4 * cost(plain).busy


# --- errors
def products(width):
    build = GraphBuilder(1)
    y, x = build.value(width), build.value(width)
    return build.graph([y, x], [build.multiply(y, x)])


@pytest.mark.parametrize(
    ("graph", "changes", "message"),
    [
        (post_norm(1, 132, 2, [8]), {}, "norm0 have 132 elements, tiny normalises up to 128"),
        (
            mlp(1, [8, 8]),
            {"act_banks": (2,) * 4},
            "not even a row of 1 x 4 fits other: linear0 to add2 takes 12 words of ACT a row, 8 of",
        ),
        (products(1021), {}, "rows of multiply0 have 1021 elements, an instruction takes 1020$"),
        (products(8), {"elementwise": False}, "multiply0 multiplies elements, other has no such"),
        (
            gated(1, 32, 4, 2, [12]),
            {"tile": 8, "max_rows": 32},
            "rotary2 has heads of 8 elements, half of which are no whole words of 8$",
        ),
        (
            four_bits(linear_alone(1, 64, 8)),
            {"halves": False, "packed": False},
            "linear0 has rows of 15 bits, other has no halves$",
        ),
    ],
    ids=["norm", "row", "product", "no products", "half a head", "halves"],
)
def test_what_does_not_fit_is_named(graph, changes, message):
    config = TINY.replace(name="other", **changes) if changes else TINY
    with pytest.raises(CompileError, match=message):
        compile_graph(graph, config, Shape(1, {"rows": 4}))


def test_the_longest_rows_that_an_instruction_multiplies():
    executable = compile_graph(products(1020), TINY, Shape(1, {"rows": 1}))
    found = [i for i in executable.decoded() if i.opcode == Opcode.ELEMENTWISE]
    assert [(i.words, i.count) for i in found] == [(255, 1020)]


def test_stationary_words_that_do_not_fit_are_named():
    keys = Buffer("k", "stat", 1025)
    with pytest.raises(CompileError, match=r"1025 stationary words are needed .* tiny has 1024"):
        schedule([load(keys)], TINY)


def test_filters_decide_for_blocks_of_the_accelerator():
    graph = post_norm(1, 8, 2, [8], TileThreshold(5), block=8)
    with pytest.raises(CompileError, match=r"attention4 decides for blocks of 8 rows, tiny"):
        compile_graph(graph, TINY, Shape(1, {"rows": 9}))


def test_norms_of_different_widths_share_the_parameter_memory():
    """The widest decides how many have their parameters on chip."""
    build = GraphBuilder(1)
    x = build.value(16)
    for width in (16, 28, 16, 28):
        x = build.norm(build.linear(build.norm(x), width))
    graph = build.graph(["v0"], [x])
    compile_graph(graph, TINY.replace(max_hidden=64), Shape(1, {"rows": 5}))


@pytest.mark.parametrize(("buffers", "slots"), [(2, 2), (3, 3), (5, 3)])
def test_a_ring_has_no_more_slots_than_buffers(buffers, slots):
    ring = Ring("keys", 3)
    tasks = [load(Buffer(f"k{i}", "stat", 10 + i, 4, ring)) for i in range(buffers)]
    tasks += [load(Buffer("alone", "stat", 5, 4)), load(Buffer("elsewhere", "act", 100))]
    largest = -(-(9 + buffers) // 4) * 4
    assert stationary_reserve(tasks) == 8 + slots * largest


@pytest.mark.parametrize(
    ("rows", "words", "last", "pieces"),
    [
        (16, 30, False, 1),
        (128, 30, False, 2),
        (64, 8, False, 1),
        (64, 8, True, 4),
        (900, 3, True, 3),
        (2049, 4, False, 4),
    ],
)
def test_columns_that_leave_together_fit_a_share_of_the_scratchpad(rows, words, last, pieces):
    scope = SimpleNamespace(config=SimpleNamespace(act_words=16384))
    found = _pieces(scope, SimpleNamespace(rows=rows), words, last)
    assert found[0][0] == 0
    assert found[-1][1] == words
    assert len(found) == pieces, found
