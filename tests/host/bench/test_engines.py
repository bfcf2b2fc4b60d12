"""Engines over time: planned and observed work, by operator."""

import itertools
from types import SimpleNamespace

import pytest
from drawings import Drawing
from graphs import post_norm, random_inputs
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from transept.golden.config import TINY
from transept.golden.isa import Engine, Instruction, Opcode
from transept.host.bench import engines
from transept.host.compiler.compile import schedule_of
from transept.host.runtime.region import Region
from transept.host.runtime.session import Session
from transept.sim import timeline


@pytest.fixture(scope="module")
def run():
    """A layer at tiny: its executable, its schedule, the slices of a run, and its cycles."""
    region = Region("model", post_norm(0, 8, 2, [12, 12]), TINY)
    session = Session(TINY, "rtl", timeline=True)
    result = session.run(region, random_inputs(region.graph, 2, 16))
    changes = timeline.last_run(session.opened.simulation.timeline(), result.report.cycles)
    pieces = timeline.slices(changes, result.report.cycles)
    schedule = schedule_of(region.graph, TINY, result.executable.shape)
    return result.executable, schedule, pieces, result.report


def test_every_instruction_has_its_operator_and_its_time(run):
    executable, _, pieces, report = run
    work = engines.observed(executable, pieces, gap=-1)
    for engine in Engine:
        program = [
            label
            for label, instruction in zip(executable.labels, executable.decoded(), strict=True)
            if instruction.engine == engine
        ]
        assert sorted(label for label, _, _ in work[engine.name]) == sorted(program)
        busy = sum(end - start for _, start, end in work[engine.name])
        assert busy >= report.busy[engine.name] > 0
        inside = sum(piece.stop - piece.start for piece in pieces if piece.track == engine.name)
        assert busy <= inside
        assert all(0 <= start < end <= report.cycles for _, start, end in work[engine.name])


def test_no_engine_does_two_things_at_once(run):
    work = engines.observed(run[0], run[2], gap=-1)
    for parts in work.values():
        ordered = sorted((start, end) for _, start, end in parts)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ordered))


def test_plan_and_run_are_of_the_same_operators(run):
    executable, schedule, pieces, _ = run
    planned, observed = engines.planned(schedule), engines.observed(executable, pieces)
    assert list(planned) == list(observed) == [engine.name for engine in Engine]
    for name in ("GEMM", "SOFTMAX", "VECTOR"):
        plan, happened = ({label for label, _, _ in work[name]} for work in (planned, observed))
        assert plan == happened


def test_a_wider_gap_makes_fewer_bars(run):
    executable, schedule, pieces, report = run
    for work in (
        lambda gap: engines.planned(schedule, gap),
        lambda gap: engines.observed(executable, pieces, gap),
    ):
        apart, together = (sum(map(len, work(gap).values())) for gap in (0, report.cycles))
        assert together < apart


def test_bars_have_the_colour_of_their_operator():
    work = {"LOAD": [("one", 0, 10), ("two", 10, 15), ("one", 20, 30)], "GEMM": [("stray", 3, 4)]}
    colours = engines.palette(["one", "two"])
    figure = Figure()
    axes = figure.subplots()
    engines.draw_engines(axes, work, colours, (5, 40))
    engines.legend(figure, colours, 3)
    found = {}
    for bars in axes.collections:
        spans = [path.get_extents() for path in bars.get_paths()]
        found[to_hex(bars.get_facecolor()[0])] = [(s.x0, s.x1, (s.y0 + s.y1) / 2) for s in spans]
    assert found == {
        colours["one"]: [(0, 10, 0), (20, 30, 0)],
        colours["two"]: [(10, 15, 0)],
        engines.OTHER: [(3, 4, 1)],
    }
    assert axes.get_xlim() == (5, 40)
    assert axes.get_ylim() == (1.5, -0.5)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["LOAD", "GEMM"]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["one", "two", "other"]


def test_operators_beyond_the_colours_take_them_again():
    names = [f"operator {n}" for n in range(20)]
    assert list(engines.palette(names)) == names


DRAWING = """
broken_barh([[0 10] [20 10]], [-0.4 0.8], color=red, linewidth=0)
broken_barh([[10 5]], [-0.4 0.8], color=blue, linewidth=0)
broken_barh([[3 1]], [0.6 0.8], color=#bbbbbb, linewidth=0)
set_yticks([0 1], {LOAD, GEMM})
set_ylim(1.5, -0.5)
set_xlim(5, 40)
xaxis.set_major_formatter({x:,.0f})
set_xlabel(cycle)
"""


def test_a_whole_drawing():
    work = {"LOAD": [("one", 0, 10), ("two", 10, 15), ("one", 20, 30)], "GEMM": [("stray", 3, 4)]}
    drawing = Drawing()
    engines.draw_engines(drawing, work, {"one": "red", "two": "blue"}, (5, 40))
    assert drawing == DRAWING


def test_a_legend_is_below_the_figure():
    figure = Figure()
    engines.legend(figure, {"one": "#ff0000"}, 2)
    (legend,) = figure.legends
    assert [to_hex(patch.get_facecolor()) for patch in legend.get_patches()] == [
        *("#ff0000", engines.OTHER)
    ]
    assert (legend._ncols, legend._outside_loc, legend.get_frame_on()) == (2, "lower", False)


def test_work_begins_behind_the_wait_for_tokens():
    """Neighbours of one operator are one bar, unless a cycle lies between them."""
    program = [Instruction(Opcode.MATMUL, {})] * 3 + [Instruction(Opcode.LOAD, {})]
    program.insert(1, Instruction(Opcode.END, {}))
    executable = SimpleNamespace(labels=["a", "", "a", "b", "c"], decoded=lambda: program)
    pieces = [
        timeline.Slice("GEMM", "token", 0, 4, 0),
        timeline.Slice("GEMM", "busy", 4, 6, 0),
        timeline.Slice("GEMM", "weights", 6, 9, 0),
        timeline.Slice("GEMM", "busy", 9, 12, 1),
        timeline.Slice("GEMM", "busy", 12, 20, 2),
        timeline.Slice("LOAD", "busy", 1, 3, 0),
        timeline.Slice("elsewhere", "busy", 0, 20, 0),
    ]
    found = engines.observed(executable, pieces)
    bars = {"LOAD": [("c", 1, 3)], "GEMM": [("a", 4, 12), ("b", 12, 20)]}
    assert found == {engine.name: bars.get(engine.name, []) for engine in Engine}
    pieces[3] = timeline.Slice("GEMM", "busy", 10, 12, 1)
    apart = [("a", 4, 9), ("a", 10, 12), ("b", 12, 20)]
    assert engines.observed(executable, pieces)["GEMM"] == apart
    assert engines.observed(executable, pieces, 1)["GEMM"] == bars["GEMM"]


def test_a_plan_has_the_slots_of_every_engine():
    def slot(label, start, end, engine=Engine.GEMM):
        task = SimpleNamespace(engine=engine, label=label)
        return SimpleNamespace(task=task, start=start, end=end, streamed=[])

    schedule = SimpleNamespace(
        slots=[slot("a", 0, 4), slot("a", 5, 6), slot("b", 0, 3, Engine.STORE)]
    )
    bars = {"GEMM": [("a", 0, 4), ("a", 5, 6)], "STORE": [("b", 0, 3)]}
    assert engines.planned(schedule) == {e.name: bars.get(e.name, []) for e in Engine}
    assert engines.planned(schedule, 1)["GEMM"] == [("a", 0, 6)]
