"""The search for a cut: when it ends, on which layers it is made, and what it says if it fails."""

import dataclasses
import gc
import itertools
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from graphs import GraphBuilder, attention_alone, cross, iterated, norms_in_front, post_norm, uneven

from transept.golden import isa
from transept.golden.config import TINY
from transept.golden.filters import Causal
from transept.host.compiler import compile as compiler
from transept.host.compiler.compile import _beginning, _Compiler, compile_graph, tally_numbers
from transept.host.compiler.cut import Policy, Shape, Sizing, Spill
from transept.host.compiler.errors import CompileError
from transept.host.compiler.weights import WeightImage
from transept.host.language.cached import cached


# --- the search
class Plan(SimpleNamespace):
    """As ``_Plan``, by its cycles."""


LAYER, NINE = post_norm(1, 8, 2, [12]), Shape(1, {"rows": 9})


def searched(monkeypatch, results, *, ideal=0, resident=False, graph=LAYER, shape=NINE):
    """What ``_search`` finds if its families give these results, and the limits it asks for."""
    limits, left = [], iter(results)

    def family(self, graph, policies, seen, limit):
        limits.append(limit)
        found = next(left)
        if isinstance(found, Exception):
            raise found
        return found and [
            (Plan(cycles=n), SimpleNamespace(resident=resident)) for n in found if n < limit
        ]

    monkeypatch.setattr(_Compiler, "_family", family)
    monkeypatch.setattr(type(graph), "macs", lambda self, rows: {"all": ideal * TINY.macs * 0.985})
    made = _Compiler(graph, TINY, shape, WeightImage(graph, TINY))._search(graph)
    return [plan.cycles for plan, _ in made], limits


def test_the_search_ends_after_two_families_that_gain_nothing(monkeypatch):
    found, limits = searched(monkeypatch, [[1000], [], [900, 950], [], [], [1]])
    assert found == [900, 950, 1000]
    assert limits == pytest.approx([float("inf"), 999.5, 999.5, 899.55, 899.55])


@pytest.mark.parametrize(("rows", "patience"), [(4, 2), (5, 8)])
def test_many_rows_of_sequences_with_states_take_more_patience(monkeypatch, rows, patience):
    """More than a tile of them, however long the context is."""
    graph = cached(norms_in_front(2, 12, 3, [20], Causal()), 64)
    shape = Shape(1, {"rows": rows, "context": 64})
    results = [[1000], *[[]] * 20]
    found, limits = searched(monkeypatch, results, graph=graph, shape=shape)
    assert (found, len(limits)) == ([1000], 1 + patience)


@pytest.mark.parametrize(
    ("together", "chosen"),
    [
        ((1010, 1004), 1004),  # less than half a per cent more
        ((1003, 1004), 1003),
        ((1010, 1006), 1000),
        ((1004, 1004), 1004),
        ((1004, 1003), 1003),
        ((1005, None), 1000),
        ((None, 1004), 1004),
        ((CompileError("full"), 990), 990),
        ((None, CompileError("full")), 1000),
    ],
)
def test_weights_are_read_less_often_if_that_takes_hardly_longer(monkeypatch, together, chosen):
    cycles, asked = dict(zip((1.5, 2.0), together, strict=True)), []

    def below(self, limit, graph, cut):
        return cut if cut < limit else None

    def choose(graph, config, shape, policy):
        asked.append(policy)
        if isinstance(cycles[policy.together], Exception):
            raise cycles[policy.together]
        return cycles[policy.together]

    monkeypatch.setattr(compiler, "choose", choose)
    monkeypatch.setattr(_Compiler, "draft_below", below)
    monkeypatch.setattr(_Compiler, "plan", lambda self, cut: Plan(cycles=cut))
    policy = Policy(1, False, Spill.NONE, 2, Sizing(True, 0.95), 0.92)
    made = _Compiler(LAYER, TINY, NINE, WeightImage(LAYER, TINY))
    assert made._once(Plan(cycles=1000), policy).cycles == chosen
    assert asked == [dataclasses.replace(policy, together=tiles) for tiles in (1.5, 2.0)]


def test_families_that_do_not_fit_or_are_known_do_not_tire(monkeypatch):
    unfit = CompileError("unfit")
    results = [unfit, [1000], None, unfit, [], None, unfit, []]
    assert searched(monkeypatch, results)[0] == [1000]


def test_a_cut_that_keeps_the_array_busy_ends_the_search(monkeypatch):
    assert searched(monkeypatch, [[1000], [1]], ideal=1000.5)[0] == [1000]
    assert searched(monkeypatch, [[1001], [1000], [1]], ideal=1000.5)[0] == [1000, 1001]


def test_weights_that_are_read_once_end_the_search(monkeypatch):
    assert searched(monkeypatch, [[1000], [1]], resident=True)[0] == [1000]


def test_the_last_reason_is_told(monkeypatch):
    """That of the family that leaves the least on chip."""
    results = itertools.chain(
        [CompileError("x"), None, CompileError("the last")], itertools.repeat(None)
    )
    with pytest.raises(CompileError, match="the last"):
        searched(monkeypatch, results)
    with pytest.raises(CompileError, match="there is no way to cut 1 x 9 on tiny"):
        searched(monkeypatch, itertools.repeat(None))


class Tried(NamedTuple):
    """A cut of a policy, by what becomes of it: its cycles, or why there is none."""

    name: str
    cycles: float = 0
    rows: tuple[int, ...] = ()
    unfit: str = ""


def family(monkeypatch, graph, cuts, seen=(), limit=float("inf")):
    """What ``_family`` makes of these cuts, its best first, and the cuts that it looked at."""
    made = []

    def below(self, limit, graph, cut):
        made.append(cut.name)
        return SimpleNamespace(cycles=cut.cycles, cut=cut) if cut.cycles < limit else None

    def plan(self, draft):
        if draft.cut.unfit:
            raise CompileError(draft.cut.unfit)
        return draft.cut.name

    monkeypatch.setattr(compiler, "choose", lambda graph, config, shape, policy: policy)
    monkeypatch.setattr(_Compiler, "draft_below", below)
    monkeypatch.setattr(_Compiler, "plan", plan)
    shape, image = Shape(1, {"rows": 9}), WeightImage(graph, TINY)
    found = _Compiler(graph, TINY, shape, image)._family(graph, cuts, set(seen), limit)
    assert found is None or all(plan == policy.name for plan, policy in found)
    return found and [plan for plan, _ in found], made


def test_a_family_ends_where_nothing_is_gained(monkeypatch):
    a, b, c = Tried("a", 1000, (1,)), Tried("b", 999.4, (2,)), Tried("c", 998.95, (3,))
    found = family(monkeypatch, LAYER, [a, b, c, Tried("d", 1, (4,))])
    assert found == (["b", "a"], ["a", "b", "c"])
    assert family(monkeypatch, LAYER, [a, b], limit=1000) == ([], ["a"])


def test_of_a_single_operator_every_cut_is_tried(monkeypatch):
    graph = attention_alone(1, 8, 2)
    cuts = [Tried("a", 1000, (1,)), Tried("b", 2000, (2,)), Tried("c", 1, (3,))]
    assert family(monkeypatch, graph, cuts) == (["c", "a"], ["a", "b", "c"])
    build = GraphBuilder(1)
    x = build.value(8)
    two = build.graph([x], [build.linear(build.linear(x, 8), 8)])
    assert family(monkeypatch, two, cuts) == (["a"], ["a", "b"])


def test_row_blocks_that_fit_once_are_not_tried_with_less(monkeypatch):
    fits, again = Tried("fits", 1000, (8, 8)), Tried("again", 1, (8, 8))
    unfit = Tried("unfit", 1, (8, 8), "full")
    assert family(monkeypatch, LAYER, [None, fits, again]) == (["fits"], ["fits"])
    assert family(monkeypatch, LAYER, [unfit, fits, again]) == (["fits"], ["unfit", "fits"])


def test_a_family_without_a_cut_says_why(monkeypatch):
    a, b = Tried("a", 1000, (1,), "the first"), Tried("b", 1000, (2,), "the second")
    with pytest.raises(CompileError, match="the second"):
        family(monkeypatch, LAYER, [None, a, b, None], seen=[Tried("c")])
    assert family(monkeypatch, LAYER, [None, None]) == (None, [])
    assert family(monkeypatch, LAYER, [None, b], seen=[b]) == (None, [])


# --- from the first layers to all of them
def test_policies_are_found_on_the_first_two_attentions():
    three, five = (iterated(1, 8, 2, 12, times) for times in (3, 5))
    assert _beginning(three) is three
    probe, layer = _beginning(five), len(five.ops) // 5
    assert probe.ops == five.ops[: 2 * layer]
    assert probe.outputs == (five.ops[2 * layer - 1].out,)
    assert (probe.dims, probe.values, probe.inputs) == (five.dims, five.values, five.inputs)


def test_outputs_of_the_first_layers_stay_outputs():
    graph = uneven(1, [(8, 2, 8)] * 4)
    probe = _beginning(graph)
    assert probe.outputs == (*graph.outputs[:2], probe.ops[-1].outputs[0])


@pytest.mark.parametrize("refused", [0, 1, 2])
def test_what_does_not_fit_all_layers_gives_way(monkeypatch, refused):
    """The first policies have no cut of the whole graph, or one that does not fit."""
    graph, shape = iterated(1, 8, 2, 12, 4), Shape(1, {"rows": 9})
    made = _Compiler(graph, TINY, shape, WeightImage(graph, TINY))
    tried = []

    def search(self, part):
        whole = part is graph
        return [(SimpleNamespace(name=f"plan {n}", whole=whole), f"policy {n}") for n in range(2)]

    def draft(self, part, cut):
        assert part is graph
        tried.append(cut)
        if len(tried) <= refused:
            raise CompileError("full")
        return cut

    monkeypatch.setattr(_Compiler, "_search", search)
    monkeypatch.setattr(_Compiler, "draft", draft)
    monkeypatch.setattr(_Compiler, "plan", lambda self, draft: draft)
    monkeypatch.setattr(compiler, "choose", lambda graph, config, shape, policy: policy)
    found = made.best()
    if refused < 2:
        assert found == f"policy {refused}"
    else:
        assert (found.name, found.whole) == ("plan 0", True)
    monkeypatch.setattr(compiler, "choose", lambda graph, config, shape, policy: None)
    assert made.best().name == "plan 0"


def test_weights_that_take_nine_tenths_may_stay(monkeypatch):
    graph, shape = LAYER, Shape(1, {"rows": 9})
    words = WeightImage(graph, TINY).column_words
    asked = []
    monkeypatch.setattr(
        compiler, "policies", lambda *sizes, **options: asked.append((sizes, options)) or []
    )
    fits = -(-10 * words // 9)
    for stat_words in (fits, fits - 1):
        config = TINY.replace(name="other", stat_words=stat_words, packed=False)
        with pytest.raises(CompileError, match="there is no way to cut 1 x 9 on other"):
            compile_graph(graph, config, shape)
    assert [options["resident"] for _, options in asked] == [True, False]
    assert [sizes[:2] for sizes, _ in asked] == [(1, 9)] * 2


@pytest.mark.parametrize(("rows", "memory"), [(5, 9), (9, 5)])
def test_groups_are_of_the_longest_sequences(monkeypatch, rows, memory):
    asked = []
    monkeypatch.setattr(compiler, "policies", lambda *sizes, **_: asked.append(sizes[:2]) or [])
    with pytest.raises(CompileError):
        compile_graph(cross(1, 8, 2, 8), TINY, Shape(3, {"rows": rows, "memory": memory}))
    assert asked == [(3, 9)]


@pytest.mark.parametrize("over", [0, 1])
def test_a_column_that_stays_is_one_instruction(monkeypatch, over):
    most = isa.operand(isa.Opcode.MATMUL, "k_tiles").most
    asked = []
    monkeypatch.setattr(compiler, "policies", lambda *_, **options: asked.append(options) or [])
    monkeypatch.setattr(WeightImage, "k_tiles", property(lambda self: most + over))
    with pytest.raises(CompileError):
        compile_graph(LAYER, TINY.replace(stat_words=4096), NINE)
    assert [options["resident"] for options in asked] == [not over]


@pytest.mark.parametrize(("attentions", "chained"), [(1, False), (2, True), (3, True)])
def test_attentions_that_follow_each_other_are_chained(monkeypatch, attentions, chained):
    asked = []
    monkeypatch.setattr(compiler, "policies", lambda *_, **options: asked.append(options) or [])
    with pytest.raises(CompileError):
        compile_graph(iterated(1, 8, 2, 12, attentions), TINY, Shape(1, {"rows": 9}))
    assert [options["chained"] for options in asked] == [chained]


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_is_collected_as_before(enabled, monkeypatch):
    during = []
    monkeypatch.setattr(compiler, "policies", lambda *_, **__: during.append(gc.isenabled()) or [])
    try:
        gc.enable() if enabled else gc.disable()
        with pytest.raises(CompileError):
            compile_graph(LAYER, TINY, Shape(1, {"rows": 9}))
        assert gc.isenabled() == enabled
    finally:
        gc.enable()
    assert during == [False]


@pytest.mark.parametrize(("count", "last"), [(64, 63), (65, 32), (128, 63), (129, 42)])
def test_neighbours_share_a_tally_if_there_are_more_operators_than_tallies(count, last):
    ops = [SimpleNamespace(name=f"op{n}") for n in range(count)]
    numbers = list(tally_numbers(SimpleNamespace(ops=ops)).values())
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(last + 1))
    assert numbers.count(0) == -(-count // 64)
