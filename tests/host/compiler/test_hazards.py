"""Hazards become tokens: every conflict is ordered whatever the engines' speeds, and no token is
superfluous."""

import itertools

import pytest
from hazards import edges, ends_before_starts
from hypothesis import given, settings
from hypothesis import strategies as st

from transept.golden.isa import Engine, Opcode
from transept.host.compiler.hazards import Assembly, Region

OPCODES = {
    Engine.LOAD: Opcode.LOAD,
    Engine.GEMM: Opcode.MATMUL,
    Engine.SOFTMAX: Opcode.SOFTMAX,
    Engine.VECTOR: Opcode.NORM,
    Engine.STORE: Opcode.STORE,
}
A, B = Region("act", 0, 4), Region("act", 8, 12)


def assembled(*steps):
    """Steps are (engine, reads, writes)."""
    made = Assembly()
    for engine, reads, writes in steps:
        made.emit(engine, OPCODES[engine], engine.name, {}, reads=reads, writes=writes)
    return made.program()[:-1]


def test_read_after_write():
    load, gemm = assembled((Engine.LOAD, [], [A]), (Engine.GEMM, [A], [B]))
    assert load.signal == {Engine.GEMM}
    assert gemm.wait == {Engine.LOAD}


def test_write_after_read():
    gemm, load = assembled((Engine.GEMM, [A], [B]), (Engine.LOAD, [], [A]))
    assert gemm.signal == {Engine.LOAD}
    assert load.wait == {Engine.GEMM}


def test_write_after_write():
    load, vector = assembled((Engine.LOAD, [], [A]), (Engine.VECTOR, [], [A]))
    assert load.signal == {Engine.VECTOR}
    assert vector.wait == {Engine.LOAD}


def test_reads_and_strangers_do_not_wait():
    program = assembled(
        (Engine.GEMM, [A], [B]),
        (Engine.STORE, [A], []),
        (Engine.LOAD, [], [Region("stat", 0, 4)]),
        (Engine.VECTOR, [], [Region("act", 4, 8)]),
    )
    assert not any(i.wait or i.signal for i in program)


def test_one_engine_waits_for_itself_only_to_read_what_it_wrote():
    first, second, third = assembled(
        (Engine.GEMM, [A], [B]), (Engine.GEMM, [B], [A]), (Engine.GEMM, [], [A, B])
    )
    assert (first.signal, second.wait) == ({Engine.GEMM}, {Engine.GEMM})
    assert not third.wait


def test_what_is_known_is_not_waited_for_again():
    """STORE waits for GEMM, which waited for LOAD: LOAD need not tell STORE."""
    load, _, store = assembled(
        (Engine.LOAD, [], [A]), (Engine.GEMM, [A], [B]), (Engine.STORE, [A, B], [])
    )
    assert load.signal == {Engine.GEMM}
    assert store.wait == {Engine.GEMM}


def test_the_last_of_several_producers_covers_the_others():
    *loads, gemm = assembled(
        *((Engine.LOAD, [], [Region("act", i, i + 1)]) for i in range(4)), (Engine.GEMM, [A], [])
    )
    assert [load.signal for load in loads] == [set(), set(), set(), {Engine.GEMM}]
    assert gemm.wait == {Engine.LOAD}


@pytest.mark.parametrize(
    ("start", "stop", "covered"),
    [(4, 8, True), (5, 7, True), (3, 8, False), (4, 9, False), (8, 9, False), (0, 12, False)],
)
def test_what_a_region_covers(start, stop, covered):
    assert Region("act", 4, 8).covers(Region("act", start, stop)) == covered
    assert Region("act", 4, 8).covers(Region("act", start, stop, 2, 1)) == covered


def test_columns_cover_nothing_but_themselves():
    column = columns(0, 3, 8, 5)
    assert column.covers(column)
    assert not column.covers(columns(0, 2, 8, 5))
    assert not column.covers(Region("act", 0, 3))


@pytest.mark.parametrize(("start", "stop"), [(0, 4), (8, 12)])
def test_regions_that_touch_do_not_overlap(start, stop):
    middle, other = Region("act", 4, 8), Region("act", start, stop)
    assert not middle.overlaps(other)
    assert middle.overlaps(other._replace(start=start - 1, stop=stop + 1))
    assert middle.overlaps(Region("act", 7, 12))
    assert middle.overlaps(Region("act", 0, 5))


def columns(start, width, stride, rows):
    return Region("act", start, start + (rows - 1) * stride + width, stride, width)


def words(region):
    if not region.stride:
        return set(range(region.start, region.stop))
    return {
        first + i
        for first in range(region.start, region.stop, region.stride)
        for i in range(region.width)
    }


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(range(8), 2)))
def test_columns_of_one_matrix(first, second):
    left, right = (columns(start, 3, 8, 5) for start in (first, second))
    program = assembled((Engine.GEMM, [], [left]), (Engine.STORE, [right], []))
    assert bool(program[1].wait) == bool(words(left) & words(right))


def test_a_column_does_not_hide_what_was_written_beside_it():
    whole, left, right = Region("act", 0, 35), columns(0, 3, 8, 5), columns(4, 3, 8, 5)
    program = assembled(
        (Engine.LOAD, [], [whole]), (Engine.GEMM, [], [left]), (Engine.STORE, [right], [])
    )
    assert program[2].wait == {Engine.LOAD}


regions = st.builds(
    lambda memory, start, stride, width, rows: (
        columns(start, min(width, stride - 1), stride, rows)._replace(memory=memory)
        if stride > 1
        else Region(memory, start, start + width)
    ),
    st.sampled_from(["act", "stat"]),
    st.integers(0, 12),
    st.sampled_from([0, 0, 3, 4]),
    st.integers(1, 5),
    st.integers(1, 4),
)
steps = st.lists(
    st.tuples(
        st.sampled_from([*Engine]),
        st.lists(regions, max_size=2),
        st.lists(regions, max_size=2),
    ),
    max_size=25,
)


def conflict(first, second):
    """Whether the second must start after the end of the first."""
    (a, reads_a, writes_a), (b, reads_b, writes_b) = first, second

    def meet(left, right):
        return any(x.memory == y.memory and words(x) & words(y) for x in left for y in right)

    if a == b:
        return a != Engine.LOAD and meet(writes_a, reads_b)
    return meet(writes_a, reads_b) or meet(reads_a, writes_b) or meet(writes_a, writes_b)


@settings(max_examples=150, deadline=None)
@given(steps)
def test_every_conflict_is_ordered(stream):
    program = assembled(*stream)
    before = ends_before_starts(program, edges(program))
    for i, j in itertools.combinations(range(len(stream)), 2):
        if conflict(stream[i], stream[j]):
            assert before[i, j], (i, j)


@settings(max_examples=50, deadline=None)
@given(steps)
def test_no_token_is_superfluous(stream):
    program = assembled(*stream)
    tokens = edges(program)
    for producer, consumer in tokens:
        rest = ends_before_starts(program, tokens - {(producer, consumer)})
        assert not rest[producer, consumer]


@settings(max_examples=50, deadline=None)
@given(steps, st.randoms(use_true_random=False))
def test_no_speed_of_the_engines_blocks(stream, random):
    """Tokens as counters, engines as queues: whatever may run, runs, until all are done."""
    program = assembled(*stream)
    queues = {engine: [i for i in program if i.engine == engine] for engine in Engine}
    tokens = dict.fromkeys(itertools.product(Engine, Engine), 0)
    while any(queues.values()):
        ready = [
            engine
            for engine, queue in queues.items()
            if queue and all(tokens[giver, engine] for giver in queue[0].wait)
        ]
        engine = random.choice(ready)
        i = queues[engine].pop(0)
        for giver in i.wait:
            tokens[giver, engine] -= 1
        for taker in i.signal:
            tokens[engine, taker] += 1
    assert not any(tokens.values())


def test_labels_name_every_instruction():
    made = Assembly()
    made.emit(Engine.GEMM, Opcode.MATMUL, "layer", {})
    assert made.labels == ["layer", "end"]
    assert [i.opcode for i in made.program()] == [Opcode.MATMUL, Opcode.END]
    assert len(made) == 1
