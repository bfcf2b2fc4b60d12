"""Plans: the least time of all, by trying every other; independent parts; pins; memory."""

import collections
import dataclasses
import functools
import itertools
import math
import re

import numpy as np
import pytest
from graphs import GraphBuilder, mlp, post_norm, pre_norm, random_inputs
from placements import SHAPE, chain, costs, two_chains

from transept.golden.ops import Attention
from transept.host.compiler.cut import Shape
from transept.host.placement import solve
from transept.host.placement.costs import DeviceCosts, Sample, fitted
from transept.host.placement.parts import Work, boundaries, part_graph, transfers, weight_bytes
from transept.host.placement.plan import Planner, check_pins, pinned
from transept.host.placement.solve import Piece, critical_path, makespan, starts


def every_plan(planner, devices, memory=None):
    """Seconds of every sequence of parts on every device whose weights fit."""
    cuts = boundaries(planner.graph, {})

    @functools.cache
    def piece(span, device):
        return Piece(*span, device, planner.part(*span, device))

    for count in range(len(cuts) - 1):
        for chosen in itertools.combinations(cuts[1:-1], count):
            spans = list(itertools.pairwise([cuts[0], *chosen, cuts[-1]]))
            for places in itertools.product(devices, repeat=len(spans)):
                held = collections.Counter()
                for span, device in zip(spans, places, strict=True) if memory else ():
                    held[device] += planner.held(*span)
                if all(held[device] <= limit for device, limit in (memory or {}).items()):
                    yield makespan(planner.graph, list(map(piece, spans, places)))


def two_blocks(seed):
    """Attention and a feed-forward layer that read the same rows, twice."""
    builder = GraphBuilder(seed)
    first = x = builder.value(12)
    for inner in (16, 20):
        q, k, v = (builder.linear(x, 12, 8) for _ in range(3))
        context = builder.linear(builder.attention(q, k, v, 2), 12)
        x = builder.norm(context, builder.linear(builder.linear(x, inner, table=True), 12))
    return builder.graph([first], [x])


def moved(graph, first, end):
    """Bytes in and out of a part, value by value: 2 sequences of 8 rows."""
    part = part_graph(graph, first, end)
    values = [part.values[name] for name in (*part.inputs, *part.outputs)]
    return sum(2 * 8 * value.width * value.bits // 8 for value in values)


def wired_by_lot(seed):
    """Linear layers that each read what some layer before, or nothing, has made."""
    builder = GraphBuilder(seed)
    values = [builder.value(8)]
    for width in (8, 8, 16, 8, 8, 16):
        likely = [name for name in values if builder.values[name].width == 8]
        values.append(builder.linear(likely[builder.rng.integers(len(likely))], width))
    read = {name for op in builder.ops for name in op.inputs}
    return builder.graph(values[:1], [name for name in values if name not in read])


GRAPHS = {
    "wired by lot": wired_by_lot,
    "chain": lambda seed: chain([10, 24, 16, 12, 20]),
    "residual": lambda seed: mlp(seed, [10, 24, 16, 12, 20]),
    "two chains": lambda seed: two_chains(3),
    "two blocks": two_blocks,
}


@pytest.mark.parametrize(("launch", "rate"), [(0.0, 1e12), (3.0, 300.0)])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", GRAPHS)
def test_no_other_plan_takes_less(kind, seed, rate, launch):
    graph = GRAPHS[kind](seed)
    devices = "abc" if len(boundaries(graph, {})) < 7 else "ab"
    known = {name: costs(graph, 10 * seed + i, launch, rate) for i, name in enumerate(devices)}
    planner = Planner(graph, SHAPE, known)
    plan = planner.plan()
    assert plan.least
    assert plan.seconds == pytest.approx(min(every_plan(planner, devices)))
    assert plan.seconds <= min(plan.alone.values()) + 1e-9
    assert plan.bound <= plan.seconds + 1e-9
    assert [p.first for p in plan.parts[1:]] == [p.end for p in plan.parts[:-1]]
    assert (plan.parts[0].first, plan.parts[-1].end) == (0, len(graph.ops))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", GRAPHS)
def test_plans_do_not_depend_on_the_unit(kind, seed):
    graph = GRAPHS[kind](seed)
    known = {name: costs(graph, 10 * seed + i, 0.5) for i, name in enumerate("ab")}
    less = {name: device.scaled(1e-4) for name, device in known.items()}
    plan, other = (Planner(graph, SHAPE, devices).plan() for devices in (known, less))
    assert other.seconds == pytest.approx(1e-4 * plan.seconds, rel=1e-4)


@pytest.mark.parametrize("shares", [{"a": 0.5}, {"a": 0.6, "b": 0.6}])
@pytest.mark.parametrize("kind", GRAPHS)
@pytest.mark.parametrize("seed", range(3))
def test_no_other_plan_that_fits_takes_less(seed, kind, shares):
    graph = GRAPHS[kind](seed)
    total = sum(map(weight_bytes, graph.ops))
    memory = {device: int(share * total) for device, share in shares.items()}
    known = {name: costs(graph, 10 * seed + i, 3.0) for i, name in enumerate("ab")}
    planner = Planner(graph, SHAPE, known, memory=memory)
    least = min(every_plan(planner, "ab", memory), default=math.inf)
    if math.isinf(least):
        with pytest.raises(ValueError, match="no plan found"):
            planner.plan()
        return
    plan = planner.plan()
    assert plan.least
    assert plan.seconds == pytest.approx(least)
    for device, limit in memory.items():
        assert used(graph, plan, device) <= limit


@pytest.mark.parametrize("seed", range(12))
def test_values_are_as_late_as_what_makes_them(seed):
    """A plan may be behind another in when its devices are free, and still win."""
    graph = wired_by_lot(seed)
    known = {name: costs(graph, 10 * seed + i, 0.5) for i, name in enumerate("ab")}
    pins = {op.name: "ab"[i % 2] for i, op in enumerate(graph.ops[1:])}
    for planner in (Planner(graph, SHAPE, known), Planner(graph, SHAPE, known, pins)):
        assert planner.plan().seconds == pytest.approx(min(every_plan(planner, "ab")))


def test_where_parts_wait_for_each_other_one_plan_is_left_at_a_cut(monkeypatch):
    """However large the graph."""
    monkeypatch.setattr(solve, "LABELS", 1)
    monkeypatch.setattr(solve, "NARROW", 1)
    for graph in (chain([8, 12, 16] * 6), post_norm(1, 16, 2, [24, 32, 40, 28])):
        known = {name: costs(graph, i, 3.0) for i, name in enumerate("abc")}
        assert Planner(graph, SHAPE, known).plan().least


FAMILIES = {
    "chain": (GRAPHS["chain"], "abc", {}),
    "two chains": (GRAPHS["two chains"], "ab", {}),
    "two blocks": (two_blocks, "ab", {}),
    "half fits one": (GRAPHS["chain"], "ab", {"a": 0.5}),
    "a third fits two": (GRAPHS["chain"], "abc", {"a": 0.33, "b": 0.33}),
    "0.6 fits each": (GRAPHS["chain"], "ab", {"a": 0.6, "b": 0.6}),
}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_table_of_the_decision(family):
    """Of docs/decisions/0010-placement.md: 25 of 25."""
    make, devices, shares = FAMILIES[family]
    for seed in range(25):
        graph = make(seed)
        total = sum(map(weight_bytes, graph.ops))
        memory = {device: int(share * total) for device, share in shares.items()}
        known = {name: costs(graph, 10 * seed + i, 3.0) for i, name in enumerate(devices)}
        planner = Planner(graph, SHAPE, known, memory=memory)
        least = min(every_plan(planner, devices, memory), default=math.inf)
        if math.isfinite(least):
            plan = planner.plan()
            assert plan.least
            assert plan.seconds == pytest.approx(least)


@pytest.mark.parametrize("kind", GRAPHS)
def test_the_rest_of_a_graph_is_planned_like_a_graph(kind):
    graph = GRAPHS[kind](1)
    known = {name: costs(graph, i, 3.0, 300.0) for i, name in enumerate("ab")}
    planner = Planner(graph, SHAPE, known)
    for first in boundaries(graph, {})[1:-1]:
        rest = Planner(part_graph(graph, first, len(graph.ops)), SHAPE, known).plan()
        found = planner.plan(first)
        assert found.seconds == pytest.approx(rest.seconds)
        assert found.bound == rest.bound
        assert (found.parts[0].first, found.parts[-1].end) == (first, len(graph.ops))


def test_a_short_search_still_finds_a_plan(monkeypatch):
    """One that fits, is not said to be the least, and is never below it."""
    graph = post_norm(1, 16, 2, [24, 32, 40, 28])
    known = {name: costs(graph, i, 3.0) for i, name in enumerate("abc")}
    limit = sum(map(weight_bytes, graph.ops)) // 3
    memory = {"a": limit, "b": limit}
    best = Planner(graph, SHAPE, known, memory=memory).plan()
    monkeypatch.setattr(solve, "LABELS", 1)
    monkeypatch.setattr(solve, "NARROW", 1)
    short = Planner(graph, SHAPE, known, memory=memory).plan()
    assert not short.least
    assert best.seconds <= short.seconds <= 1.5 * best.seconds
    assert max(used(graph, short, device) for device in memory) <= limit


def test_what_a_part_takes_is_told():
    graph = mlp(1, [10, 24, 16])
    known = {name: costs(graph, i, launch=2.0, rate=100.0) for i, name in enumerate("ab")}
    planner = Planner(graph, SHAPE, known)
    for part in planner.plan().parts:
        transfer = moved(graph, part.first, part.end) / 100.0
        work = sum(
            known[part.device].operator(graph, SHAPE, op) for op in graph.ops[part.first : part.end]
        )
        assert part.transfer == pytest.approx(transfer)
        assert part.seconds == pytest.approx(2.0 + transfer + work)
        (other,) = set("ab") - {part.device}
        assert part.elsewhere == {other: pytest.approx(planner.part(part.first, part.end, other))}


# --- where graphs are cut
def test_attention_stays_with_its_operands():
    graph = post_norm(1, 16, 2, [32, 24])
    for place in boundaries(graph, {})[1:-1]:
        part = part_graph(graph, 0, place)
        assert all(graph.values[name].bits == 16 for name in part.outputs)


@pytest.mark.parametrize(
    "make", [lambda: post_norm(1, 16, 2, [32]), lambda: pre_norm(2, 16, 4, 2, [8])]
)
def test_parts_one_by_one_are_the_graph(make):
    graph = make()
    arrays = dict(random_inputs(graph, 2, 5))
    wanted = graph.evaluate(arrays)
    cuts = boundaries(graph, {})
    for first, end in itertools.pairwise(cuts):
        part = part_graph(graph, first, end)
        arrays |= part.evaluate({name: arrays[name] for name in part.inputs})
    for name, y in wanted.items():
        assert np.array_equal(arrays[name], y)


@pytest.mark.parametrize("make", [lambda: pre_norm(2, 16, 4, 2, [8, 12]), two_chains])
def test_what_is_moved_is_what_enters_and_leaves(make):
    """Of every part, also of values that several operators of it read, or that nothing reads."""
    graph = make()
    for first in range(len(graph.ops)):
        found = transfers(graph, SHAPE, first)
        assert found[0] == 0
        for count in range(1, len(found)):
            assert found[count] == moved(graph, first, first + count)
        assert first + len(found) - 1 == len(graph.ops)
    assert Work(graph, SHAPE).part(1, 3).moved == moved(graph, 1, 3)


# --- pins and memory
def test_pins_are_kept():
    graph = post_norm(1, 16, 2, [32])
    name = graph.ops[0].name
    pins = pinned(graph, {name: "b"})
    assert pins == {name: "b"}
    known = {"a": costs(graph, 0), "b": costs(graph, 1, launch=100.0)}
    plan = Planner(graph, SHAPE, known, pins).plan()
    assert {p.device for p in plan.parts if name in p.operators} == {"b"}
    assert {p.device for p in plan.parts if name not in p.operators} == {"a"}
    assert "a" not in plan.alone


@pytest.mark.parametrize("pin", ["linear9*", "linear99", "linear1.weight"])
def test_a_pin_that_fits_nothing_is_refused(pin):
    with pytest.raises(ValueError, match=f"no layer .{re.escape(pin)}. to pin, there are linear0"):
        check_pins([mlp(1, [4, 8])], {"linear0": "cpu", pin: "cpu"})


def test_pins_take_prefixes_and_patterns():
    graph = mlp(1, [4, 8, 4, 8])
    names = [op.name for op in graph.ops]
    assert set(pinned(graph, {"*": "a"})) == set(names)
    assert set(pinned(graph, {"linear*": "a"})) == {n for n in names if n.startswith("linear")}
    layers = [dataclasses.replace(op, name=f"layers.1{i}.x") for i, op in enumerate(graph.ops)]
    graph = dataclasses.replace(graph, ops=tuple(layers))
    assert set(pinned(graph, {"layers.10": "a"})) == {"layers.10.x"}
    assert not pinned(graph, {"layers.1": "a"})


def test_pins_are_for_all_uses_of_a_layer():
    graph = mlp(1, [4, 8, 4, 8])
    names = ["x", "x#2", "x~2", "x~2#2.query", "xy#2"]
    ops = tuple(
        dataclasses.replace(op, name=name) for op, name in zip(graph.ops, names, strict=True)
    )
    graph = dataclasses.replace(graph, ops=ops)
    assert pinned(graph, {"x": "a", "x#2": "b"}) == dict.fromkeys(names[:4], "a") | {"x#2": "b"}


def test_pins_cut_where_an_int8_value_passes():
    graph = post_norm(1, 16, 2, [32])
    name = next(op.name for op in graph.ops if isinstance(op, Attention))
    known = {"a": costs(graph, 0), "b": costs(graph, 1)}
    plan = Planner(graph, SHAPE, known, pinned(graph, {"*": "a", name: "b"})).plan()
    assert [part.operators for part in plan.parts if part.device == "b"] == [(name,)]


def test_a_device_whose_memory_is_too_small_is_none_that_runs_all():
    graph = mlp(3, [10, 24, 16])
    known = {"small": costs(graph, 0), "large": costs(graph, 1)}
    plan = Planner(graph, SHAPE, known, memory={"small": 10}).plan()
    assert set(plan.alone) == {"large"}


def test_weights_fit_the_memory():
    graph = mlp(3, [10, 24, 16, 12, 20])
    fast, slow = costs(graph, 0), costs(graph, 1)
    slow = slower(slow, 10)
    total = sum(map(weight_bytes, graph.ops))
    before = 0.0
    for limit in (total, total * 3 // 4, total // 2, 0):
        plan = Planner(graph, SHAPE, {"fast": fast, "slow": slow}, memory={"fast": limit}).plan()
        held = sum(
            weight_bytes(op)
            for part in plan.parts
            if part.device == "fast"
            for op in graph.ops[part.first : part.end]
        )
        assert held <= limit
        assert plan.seconds >= before
        before = plan.seconds
        if limit:
            assert held > 0


def used(graph, plan, device):
    parts = (part for part in plan.parts if part.device == device)
    return sum(weight_bytes(op) for part in parts for op in graph.ops[part.first : part.end])


def slower(known, seconds):
    """The same device, so many seconds slower at every operator."""
    samples = {
        key: Sample(sample.kind, sample.features, sample.seconds + seconds)
        for key, sample in known.samples.items()
    }
    return DeviceCosts(known.launch, known.bytes_per_second, samples)


@pytest.mark.parametrize("seed", range(4))
def test_weights_fit_two_memories(seed):
    """What leaves one device does not overfill the other."""
    graph = mlp(seed, [10, 24, 16, 12, 20])
    fast = costs(graph, seed)
    known = {"a": fast, "b": slower(fast, 1), "slow": slower(fast, 1000)}
    total = sum(map(weight_bytes, graph.ops))
    limits = {"a": total // 3, "b": total // 3}
    plan = Planner(graph, SHAPE, known, memory=limits).plan()
    for device, limit in limits.items():
        assert 0 < used(graph, plan, device) <= limit


def test_a_memory_is_shared_with_other_weights():
    graph = mlp(3, [10, 24, 16, 12, 20])
    known = {"fast": costs(graph, 0), "slow": slower(costs(graph, 0), 10)}
    total = sum(map(weight_bytes, graph.ops))
    planner = Planner(graph, SHAPE, known, memory={"fast": total})
    assert used(graph, planner.plan(), "fast") == total
    assert used(graph, planner.plan(held={"fast": 300}), "fast") <= total - 300
    assert used(graph, planner.plan(held={"slow": 300}), "fast") == total


def test_weights_that_fit_nowhere_are_told():
    """Together, while each part would fit."""
    graph = mlp(3, [10, 24, 16, 12, 20])
    total = sum(map(weight_bytes, graph.ops))
    known = {"a": costs(graph, 0)}
    assert used(graph, Planner(graph, SHAPE, known, memory={"a": total}).plan(), "a") == total
    planner = Planner(graph, SHAPE, known, memory={"a": total - 1, "b": 5})
    message = (
        f"no plan found for {total:,} bytes of weights where devices hold at most: a {total - 1:,}$"
    )
    with pytest.raises(ValueError, match=message):
        planner.plan()


def test_what_no_device_runs_is_told():
    graph = mlp(1, [4, 8])
    with pytest.raises(ValueError, match="no device runs"):
        Planner(graph, SHAPE, {"a": DeviceCosts(0.0, 1e9)}).plan()


# --- independent parts
def test_independent_parts_run_at_the_same_time():
    graph = two_chains()
    known = {"a": costs(graph, 0), "b": costs(graph, 0)}
    plan = Planner(graph, SHAPE, known).plan()
    assert {part.device for part in plan.parts} == {"a", "b"}
    assert plan.seconds == pytest.approx(plan.bound)
    assert plan.seconds < plan.alone["a"]


def test_makespan_waits_for_values_and_devices():
    graph = two_chains()
    pieces = [Piece(0, 2, "a", 3.0), Piece(2, 3, "b", 1.0), Piece(3, 4, "a", 1.0)]
    assert makespan(graph, pieces) == 4.0
    pieces = [Piece(0, 1, "a", 3.0), Piece(1, 2, "b", 1.0), Piece(2, 4, "b", 1.0)]
    assert makespan(graph, pieces) == 5.0


def test_the_longest_way_is_the_bound():
    graph = two_chains(3)
    seconds = {op.name: 2.0**i for i, op in enumerate(graph.ops)}
    assert critical_path(graph.ops, seconds) == 8 + 16 + 32
    assert critical_path(graph.ops, seconds, since=graph.ops[0].outputs[0]) == 2 + 4
    assert critical_path(graph.ops, seconds, since=graph.ops[2].outputs[0]) == 0


def test_pieces_start_when_they_can():
    graph = two_chains()
    pieces = [
        Piece(0, 1, "a", 3.0),
        Piece(1, 2, "b", 1.0),
        Piece(2, 3, "a", 5.0),
        Piece(3, 4, "c", 1.0),
    ]
    assert starts(graph, pieces) == [0.0, 3.0, 3.0, 8.0]
    plan = Planner(graph, SHAPE, {"a": costs(graph, 0), "b": costs(graph, 0)}).plan()
    assert [part.start for part in plan.parts] == starts(graph, plan.parts)
    assert max(part.start + part.seconds for part in plan.parts) == plan.seconds


# --- fits
def test_fits_find_the_factors():
    rng = np.random.default_rng(0)
    rows = np.column_stack(
        [np.ones(20), rng.uniform(1, 1e6, 20), rng.uniform(1, 1e5, 20), np.zeros(20)]
    )
    seconds = rows @ [1e-5, 2e-9, 3e-8, 0]
    found = fitted([Sample("linear", list(row), t) for row, t in zip(rows, seconds, strict=True)])
    assert found == pytest.approx([1e-5, 2e-9, 3e-8, 0])


def test_no_factor_is_negative():
    rng = np.random.default_rng(1)
    rows = np.column_stack([np.ones(9), rng.uniform(1, 10, 9), rng.uniform(1, 10, 9)])
    seconds = rows @ [5.0, 1.0, -0.3]
    found = fitted([Sample("norm", list(row), t) for row, t in zip(rows, seconds, strict=True)])
    assert min(found) >= 0
    assert found[2] == 0
    others = np.linalg.lstsq(rows[:, :2] / seconds[:, None], np.ones(9), rcond=None)[0]
    assert found[:2] == pytest.approx(others)


def test_a_device_is_scaled():
    """All but its link."""
    graph = mlp(1, [10, 24, 16])
    known = costs(graph, 3, launch=2.0, rate=50.0)
    twice = known.scaled(2.0)
    assert (twice.launch, twice.bytes_per_second) == (4.0, 50.0)
    for op in graph.ops:
        assert twice.operator(graph, SHAPE, op) == 2 * known.operator(graph, SHAPE, op)


def test_operators_like_measured_ones_are_fitted():
    graph = mlp(1, [10, 24, 16])
    known = costs(graph, 3)
    other = Shape(1, {"rows": 9})
    seconds = [known.operator(graph, other, op) for op in graph.ops]
    assert all(math.isfinite(s) and s >= 0 for s in seconds)
    again = DeviceCosts.read(known.told())
    assert [again.operator(graph, other, op) for op in graph.ops] == seconds
