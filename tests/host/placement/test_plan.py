"""Plans by hand: what every part takes here and elsewhere, and which pins fit."""

import dataclasses
import re

import pytest
from graphs import GraphBuilder
from placements import SHAPE, chain

from transept.golden.graph import Graph
from transept.host.placement import solve
from transept.host.placement.costs import DeviceCosts, Sample, kind_of, signature
from transept.host.placement.plan import Plan, PlannedPart, Planner, check_pins, pinned
from transept.host.placement.solve import Problem, _Place

GRAPH = chain([8, 8, 16])


def device(launch, rate, *seconds, graph=GRAPH):
    """A device that takes so many seconds for each operator; None for one it cannot run."""
    samples = {
        signature(graph, SHAPE, op): Sample(kind_of(op), [1.0], taken)
        for op, taken in zip(graph.ops, seconds, strict=True)
    }
    return DeviceCosts(launch, rate, samples)


#: Values of 2 x 8 rows have 256 bytes, the last has 512.
KNOWN = {"a": device(0.5, 256, 1, 5), "b": device(0.25, 512, 4, 2)}


def test_a_plan_tells_what_every_part_takes():
    first = PlannedPart(0, 1, "a", ("linear0",), 0.0, 0.5 + 1 + 2, 2.0, {"b": 0.25 + 4 + 1})
    second = PlannedPart(1, 2, "b", ("linear1",), 3.5, 0.25 + 2 + 1.5, 1.5, {"a": 0.5 + 5 + 3})
    alone = {"a": 0.5 + 6 + 3, "b": 0.25 + 6 + 1.5}
    planner = Planner(GRAPH, SHAPE, KNOWN)
    assert planner.plan() == Plan((first, second), 3.5 + 3.75, alone, 1 + 2, True)
    assert [planner.held(*span) for span in ((0, 0), (0, 1), (1, 2), (0, 2))] == [0, 64, 128, 192]
    rest = PlannedPart(1, 2, "b", ("linear1",), 0.0, 3.75, 1.5, {"a": 8.5})
    assert planner.plan(1) == Plan((rest,), 3.75, {"a": 8.5, "b": 3.75}, 2, True)
    start = PlannedPart(0, 1, "a", ("linear0",), 0.0, 3.5, 2.0, {"b": 5.25})
    assert planner.plan(end=1) == Plan((start,), 3.5, {"a": 3.5, "b": 5.25}, 1, True)


def test_a_device_that_cannot_run_an_operator_is_nowhere_told():
    build = GraphBuilder(4)
    x = build.value(8)
    graph = build.graph([x], [build.norm(build.linear(x, 8))])
    known = {"a": device(0.5, 256, 3, 5, graph=graph), "c": device(0.0, 1e9, 1, 1, graph=graph)}
    del known["c"].samples[signature(graph, SHAPE, graph.ops[1])]
    plan = Planner(graph, SHAPE, known).plan()
    assert plan.alone == {"a": 0.5 + 8 + 2}
    assert [part.device for part in plan.parts] == ["c", "a"]
    assert [list(part.elsewhere) for part in plan.parts] == [["a"], []]


def test_what_was_pinned_to_a_lost_device_may_go_anywhere():
    pins = {"linear0": "a", "linear1": "a"}
    planner = Planner(GRAPH, SHAPE, KNOWN, pins, {"a": 200, "b": 192, "c": 0})
    assert [part.device for part in planner.plan().parts] == ["a"]
    other = planner.without("a")
    assert [(part.device, part.elsewhere) for part in other.plan().parts] == [("b", {})]
    assert list(other.costs) == ["b"]
    with pytest.raises(ValueError, match=r"192 bytes of weights where .*: b 191$"):
        other.plan(held={"b": 1, "a": 5})


@pytest.mark.parametrize(("layers", "some"), [(6, ""), (7, ", ..")])
def test_the_first_six_layers_are_named(layers, some):
    graph = chain([4] * (layers + 1))
    names = ", ".join(f"linear{i}" for i in range(6))
    message = f"^no layer 'x' to pin, there are {names}{re.escape(some)}$"
    with pytest.raises(ValueError, match=message):
        check_pins([graph], {"x": "cpu"})


def test_a_pin_may_be_a_pattern_or_a_part_of_the_model():
    op = dataclasses.replace(GRAPH.ops[0], name="block.0.up~2")
    graph = Graph(GRAPH.dims, GRAPH.values, ("v0",), ("v1",), (op,))
    for pin in ("block", "block.0", "block.0.up", "block.0.up~2", "*.up", "block.[01].*"):
        check_pins([graph], {pin: "cpu"})
        assert pinned(graph, {pin: "cpu"}) == {op.name: "cpu"}
    for pin in ("bloc", "up", "block.0.up~2.x", "block.[12].*"):
        with pytest.raises(ValueError, match=f"^no layer {re.escape(repr(pin))} to pin, there are"):
            check_pins([graph], {pin: "cpu"})


def test_a_pin_of_any_graph_fits():
    other = Graph(GRAPH.dims, GRAPH.values, ("v0",), ("v1",), GRAPH.ops[:1])
    check_pins([other, GRAPH], {"linear1": "cpu", "linear0": "cpu"})


# --- what a search knows of a cut
def test_what_is_behind_a_cut():
    """Values that are still read, by whom first, and how long it takes from each to the end."""
    build = GraphBuilder(3)
    x, other = build.value(8), build.value(8)
    y = build.linear(x, 8)
    z = build.linear(y, 8)
    w = build.linear(other, 8)
    graph = build.graph([x, other], [build.add(build.add(z, y), w)])
    seconds = {op.name: 2.0**i for i, op in enumerate(graph.ops)}
    cuts = list(range(6))
    problem = Problem(graph, cuts, ["a"], None, seconds, lambda a, b: 100 * a + b, {})

    def told(place):
        facts = zip(place.readers, place.tails, strict=True)
        return dict(zip(place.live, facts, strict=True))

    place = _Place.at(problem, 2)
    assert told(place) == {z: (3, 8 + 16), y: (3, 8 + 16)}
    assert sorted(place.live.values()) == [0, 1]
    assert sorted(map(len, place.sources)) == [0, 2]
    assert (place.cut, place.work, place.weights) == (2, 4 + 8 + 16, 205)
    assert place.earliest([3.0, 5.0]) == 0.0
    last = _Place.at(problem, 4)
    assert told(last) == {graph.ops[3].sum: (4, 16), w: (4, 16)}
    assert [set(source) for source in last.sources] == [{0, 1}]
    assert last.earliest([3.0, 5.0]) == 5.0
    assert _Place.at(problem, 5).earliest([]) == 0.0


def test_how_many_plans_are_kept():
    assert (solve.LABELS, solve.NARROW) == (2048, 4)
