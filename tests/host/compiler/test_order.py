"""Weights in time, the order of instructions, and the figures that both rest on."""

import dataclasses

import pytest
from graphs import four_bits, linear_alone, mlp

from transept.golden.config import TINY
from transept.golden.isa import AMode, Engine, OutMode, Window
from transept.golden.verify import verify
from transept.host.compiler import cost, cut, order, place, places, tensors, weights
from transept.host.compiler.compile import LOSS
from transept.host.compiler.cost import Cost
from transept.host.compiler.depend import dependences
from transept.host.compiler.errors import CompileError
from transept.host.compiler.lower import linear
from transept.host.compiler.memories import Users
from transept.host.compiler.order import Schedule, Slot, _shared, _Weights
from transept.host.compiler.place import _Conflicts, _conflicts, _Life, _Memory
from transept.host.compiler.stream import LoadStep, TaskStep, program_order
from transept.host.compiler.tasks import Buffer, DramRows, LoadRows, Product, Rows, StoreRows, whole
from transept.host.compiler.weights import ColumnTile
from transept.host.runtime.region import Region

LINEAR = dataclasses.replace(mlp(1, [16, 16, 4]).ops[0], table=None)


def product(k_tiles, columns=1):
    return Product(
        label="y", op=LINEAR, columns=[(n, ColumnTile(0, k_tiles, 4)) for n in range(columns)],
        resident=None, a=Rows(Buffer("x", "act", 64), 4), out=Rows(Buffer("y", "act", 64), 4),
        rows=10, a_mode=AMode.DYNAMIC, out_mode=OutMode.ACT16,
    )  # fmt: skip


def store():
    rows = Rows(Buffer("z", "act", 4), 4)
    return StoreRows(label="z", target=DramRows(Window.IO, 0, 8), source=rows, rows=1, words=1)


def test_what_orders_and_costs_rest_on():
    assert (cost.BUS_SHARE, cost.MEMORY_LATENCY, cost.NORM_LATENCY) == (0.8, 45, 90)
    assert cost.DRAIN == {"gemm": 60, "softmax": 30, "vector": 50}
    assert cost.ACTIVATION_SHARE == 4
    assert (order.LOOKAHEAD, order.HOP) == (16, 20)
    assert (place.SLACK, place.PLENTY) == (400, 4)
    assert (places.PIECES, cut.MOST_PIECES, places.SMALL_SHARE) == (2, 4, 8)
    assert (cut.TOGETHER, cut.COLUMNS_TOGETHER, LOSS) == ((1.5, 2.0), 4, 0.005)
    assert places.LOADED_WORDS == 384
    assert (linear.SHORTEST_PART, linear.WAITING_SHARE, linear.LAST_PIECES) == (4096, 8, 4)
    assert (weights.LARGEST_BLOCK, weights.FEW_ROWS_BLOCK, weights.BLOCKS) == (24, 48, 4)
    assert (weights.ALIGN, tensors.ALIGN) == (64, 64)


@pytest.mark.parametrize(("words", "fits"), [(40, True), (32, False)])
def test_a_block_of_four_bits_has_room_or_is_refused(words, fits):
    """A group of 32 inputs, and the parameters of the channels."""
    config = TINY.replace(stat_words=words)
    graph = four_bits(linear_alone(15, 64, 8))
    region = Region("graph", graph, config)
    if fits:
        executable = region.executable(region.shape(1, {"rows": 9}))
        sizes = dict.fromkeys(Window, 1 << 20)
        assert not verify(executable.instructions, config, sizes)
    else:
        with pytest.raises(CompileError, match="blocks of 40 words, 32 stationary words are left"):
            region.executable(region.shape(1, {"rows": 9}))


# --- weights: blocks of 8, 8 and 9 tiles, 32, 32 and 44 words; 3.2 bytes, 0.8 words a cycle
def ring(words=200):
    return _Weights(Cost(TINY), words, TINY.tile)


def test_weights_stream_while_the_array_works():
    streamed, end, free = ring().stream(product(25, columns=2), 500, 100, 20, 0)
    assert streamed == [
        (20, 60, 100), (60, 100, 180), (100, 155, 260),
        (155, 195, 350), (195, 235, 430), (235, 290, 510),
    ]  # fmt: skip
    assert (end, free) == (600, 290)


def test_the_array_waits_for_weights_and_ends_no_sooner_than_its_work():
    """Half a latency behind the last beat of a block."""
    streamed, end, free = ring().stream(product(25), 101, 0, 20, 0)
    assert streamed == [(20, 60, 82), (60, 100, 122), (100, 155, 178)]
    assert (end, free) == (178 + 36, 155)
    assert ring().stream(product(25), 101, 500, 20, 0)[1] == 601  # 32 + 32 + 36 is one less


def test_a_block_waits_for_the_words_that_it_takes():
    """The sixth: 172 of 200 words are taken until the array is done with the first block."""
    held = ring()
    streamed, end, free = held.stream(product(25, columns=2), 5000, 100, 20, 0)
    assert streamed[4:] == [(195, 235, 3400), (900, 955, 4200)]
    assert (end, free) == (5100, 955)
    assert [held.begin(955, words) for words in (16, 17, 49, 200)] == [955, 1700, 2600, 5100]


def test_load_has_half_of_the_memory_while_store_works():
    assert [_shared(100, 40, other) for other in (90, 100, 110, 140, 200)] == [
        140,
        140,
        150,
        180,
        180,
    ]
    assert ring().stream(product(25), 100, 1000, 20, 70)[0][0] == (20, 100, 1000)


# --- the order of instructions
def steps(tasks, slots):
    """(kind of step, number of its task) in the order of the program."""
    made = program_order(Schedule(slots, dependences(tasks), 0, 0), tasks)
    return [
        ("load", tasks.index(step.step.slots[0].task), step.step.block)
        if isinstance(step, LoadStep)
        else ("task", tasks.index(step.slots[0].task), step.block)
        for step in made
        if isinstance(step, LoadStep | TaskStep)
    ]


def test_instructions_stand_in_the_order_of_their_starts():
    tasks = [store(), product(2), store()]
    streamed = (order.Streamed(5, 20, 30), order.Streamed(20, 35, 40))
    slots = [
        Slot(tasks[0], 10, 12, 20, 10),
        Slot(tasks[1], 30, 50, 60, 5, streamed=streamed),
        Slot(tasks[2], 35, 37, 40, 35),
    ]
    assert steps(tasks, slots) == [
        ("load", 1, 0), ("task", 0, 0), ("load", 1, 1),
        ("task", 1, 0), ("task", 2, 0), ("task", 1, 1),
    ]  # fmt: skip


def test_weights_stand_behind_what_is_loaded_before_them():
    """Even if a store that stands earlier has to wait for their product."""
    rows = Rows(Buffer("x", "act", 4), 4)
    load = LoadRows(label="x", source=DramRows(Window.IO, 0, 8), to=rows, rows=1, words=1)
    made = product(2)
    made.writes = [made.out.use(10, 1)]
    needs = StoreRows(
        label="y", target=DramRows(Window.IO, 0, 8), source=made.out, rows=10, words=1,
        reads=made.writes,
    )  # fmt: skip
    tasks = [load, made, needs]
    slots = [
        Slot(load, 10, 12, 20, 10),
        Slot(made, 30, 50, 60, 12, streamed=(order.Streamed(12, 20, 30),)),
        Slot(needs, 8, 9, 90, 8),
    ]
    expected = [("task", 0, 0), ("load", 1, 0), ("task", 1, 0), ("task", 2, 0)]
    assert steps(tasks, slots) == expected


@pytest.mark.parametrize("start", [0, 10, 20])
def test_every_engine_keeps_its_order(start):
    tasks = [store(), store()]
    slots = [Slot(tasks[0], 10, 12, 20, 10), Slot(tasks[1], start, start + 2, 40, start)]
    assert steps(tasks, slots) == [("task", 0, 0), ("task", 1, 0)]


# --- banks
@pytest.mark.parametrize(("start", "end", "cycles"), [(20, 40, 10), (5, 12, 2), (0, 90, 20)])
def test_buffers_are_in_conflict_while_the_array_streams_one_of_them(start, end, cycles):
    """Those of the activation scratchpad that others read meanwhile."""
    made, other = product(2), store()
    made.reads = [made.a.use(10, 2)]
    x, z, select = made.a.buffer, other.source.buffer, Buffer("select", "select", 1)
    other.reads = [other.source.use(1, 1), made.a.use(1, 1), whole(select)]
    slots = [Slot(made, 10, 30, 40, 10), Slot(other, start, end, end, start)]
    found = _conflicts([TaskStep((slot,), 0) for slot in slots])
    assert found.others == {x: {z: cycles}, z: {x: cycles}}
    assert not found.within  # the same words of x


@pytest.mark.parametrize(("start", "end"), [(0, 10), (30, 40)])
def test_what_ends_before_the_array_begins_is_in_no_conflict(start, end):
    made, other = product(2), store()
    made.reads, other.reads = [made.a.use(10, 2)], [other.source.use(1, 1)]
    slots = [Slot(made, 10, 30, 40, 10), Slot(other, start, end, end, start)]
    found = _conflicts([TaskStep((slot,), 0) for slot in slots])
    assert not found.others
    assert not found.within


def test_parts_of_a_buffer_are_in_conflict_with_each_other():
    made, other = product(2), store()
    made.reads = [made.a.use(4, 4)]
    other.reads = [made.a.row(8).use(2, 4), made.a.row(3).use(2, 4)]  # the second one overlaps
    slots = [Slot(made, 10, 30, 40, 10), Slot(other, 15, 90, 90, 15)]
    found = _conflicts([TaskStep((slot,), 0) for slot in slots])
    assert found.within == {made.a.buffer: {(range(16), range(32, 40)): 15}}
    assert not found.others


@pytest.mark.parametrize(("words", "across"), [(24, True), (40, True), (0, False)])
def test_a_buffer_lies_across_banks_where_its_parts_meet(words, across):
    """Banks of 64 words; the array streams the first ``words`` words while the rest is read."""
    lives = [life_of(Buffer("x", "act", 48))]
    conflicts = _Conflicts()
    if words:
        conflicts.within[lives[0].buffer] = {(range(words), range(words, 48)): 100}
    _Memory("act", 256, [0, 64, 128, 192, 256], conflicts).place(lives)
    at = lives[0].buffer.addr
    assert (at // 64 != (at + 47) // 64) == across
    if across:
        assert (at + words) % 64 == 0


def test_where_buffers_do_not_fit_across_banks_they_leave_no_gaps():
    lives = [life_of(Buffer(name, "act", 60)) for name in "abcd"]
    conflicts = _Conflicts()
    for life in lives:
        conflicts.within[life.buffer] = {(range(30), range(30, 60)): 100}
    _Memory("act", 256, [0, 64, 128, 192, 256], conflicts).place(lives)
    assert sorted(life.buffer.addr for life in lives) == [0, 60, 120, 180]


def test_the_first_buffer_that_has_no_place_is_named():
    """With the largest first, which needs the fewest gaps, whatever else is tried."""
    lives = [life_of(Buffer("small", "act", 50)), life_of(Buffer("large", "act", 60))]
    message = "^small needs 50 act words, no 50 of 100 are free together$"
    with pytest.raises(CompileError, match=message):
        _Memory("act", 100, [0, 100], _Conflicts()).place(lives)


@pytest.mark.parametrize(
    ("opener", "first", "start", "slack", "meets"),
    [
        *((Engine.LOAD, 6, 20, 0, False), (Engine.LOAD, 6, 19, 0, True)),
        *((Engine.GEMM, 6, 10, 0, False), (Engine.GEMM, 6, 9, 0, True)),  # comes later anyway
        *((Engine.LOAD, 6, 420, 400, False), (Engine.LOAD, 6, 419, 400, True)),
        (Engine.LOAD, 5, 1000, 0, True),  # not behind it in the program
    ],
)
def test_when_words_are_free_for_another_buffer(opener, first, start, slack, meets):
    """The array works on them until 10, what it writes is visible at 20."""
    users = Users()
    users.add(Engine.GEMM, 7, 20)
    users.add(Engine.GEMM, 10, 15)
    early = _Life(Buffer("x", "act", 4), Engine.GEMM, 0, 5, 0, users)
    late = _Life(Buffer("y", "act", 4), opener, first, 9, start, Users())
    assert (users.until(Engine.GEMM), users.until(Engine.LOAD), users.done) == (10, 20, 20)
    assert early.meets(late, slack) == late.meets(early, slack) == meets


def test_a_ring_knows_what_its_latest_buffers_hold():
    held = places._Held("x", 2)
    a, b = (held.open(key, "act", 4, 8) for key in "ab")
    assert (a.name, a.memory, a.words, a.align, a.ring) == ("x.0", "act", 4, 8, held.ring)
    assert [held.find(key) for key in "abc"] == [a, b, None]
    c = held.open("c", "act", 4)
    assert [held.find(key) for key in "abc"] == [None, b, c]
    held.forget("b")
    assert [held.find(key) for key in "abc"] == [None, None, c]
    d = held.open("a", "act", 4)
    assert [held.find(key) for key in "abc"] == [d, None, c]
    assert [buffer.turn for buffer in (a, b, c, d)] == [0, 1, 2, 3]


def life_of(buffer):
    users = Users()
    users.add(Engine.GEMM, 10, 10)
    return _Life(buffer, Engine.GEMM, 0, 10, 0, users)
