"""What a program keeps of its runs: sessions, parts, counters, notes; and what it refuses."""

import types

import numpy as np
import pytest
from graphs import GraphBuilder, cross, random_inputs

from transept.golden.config import TINY
from transept.golden.filters import TileThreshold, Window
from transept.host.runtime.errors import ProgramError
from transept.host.runtime.program import Execution, Part, Program, choose_filter, compile
from transept.host.runtime.region import Region
from transept.host.runtime.session import Result


@pytest.fixture(scope="module")
def region():
    """One linear layer on int8, 4 to 10."""
    build = GraphBuilder(1)
    x = build.value(4, 8)
    return Region("linear", build.graph([x], [build.linear(x, 10, 8)]), TINY)


def part(region, batch, rows, tallies=None, seconds=0.0):
    """A part as if it had run."""
    report = None if tallies is None else types.SimpleNamespace(tallies=tallies)
    inputs = random_inputs(region.graph, batch, rows)
    return Part(region, inputs, {}, Result({}, report, None, "somewhere", seconds))


def test_elements_are_those_of_all_rows_and_columns():
    """Queries are other rows than keys; several operators may share a counter."""
    graph = cross(1, 16, 4, 24)
    found = part(Region("region", graph, TINY), 3, {"rows": 5, "memory": 7})
    sizes = {op.name: found.elements(op.name) for op in graph.ops}
    wanted = dict.fromkeys(sizes, 3 * 5 * 16) | {"norm1": 3 * 7 * 20, "linear8": 3 * 5 * 24}
    assert sizes == wanted | {"linear3": 3 * 7 * 16, "linear4": 3 * 7 * 16}
    assert found.elements("norm1, linear3") == 3 * 7 * (20 + 16)


def test_figures_of_a_run_are_those_of_its_parts(region):
    reports = [{"a": 3, "b": 0}, None, {"a": 4, "c": 1}]
    parts = [part(region, 1, 1, found, 1.5) for found in reports]
    execution = Execution(tuple(parts))
    assert execution.seconds == 4.5
    assert execution.reports == [parts[0].result.report, parts[2].result.report]
    assert execution.clipped == {"a": 7, "c": 1}
    assert execution.placed == ()


def test_more_than_a_thousandth_of_clipped_results_is_noted(region):
    program = Program(TINY, [region])
    parts = [part(region, 10, 100, {"linear0": count}) for count in (10, 11, 2345)]
    program.last = Execution((*parts, part(region, 10, 100)))
    assert program._saturation() == [
        "11 elements (0.1%) of linear0 were clipped",
        "2,345 elements (23.4%) of linear0 were clipped",
    ]


def test_devices_stay_open(region):
    program = Program(TINY, [region])
    session = program.session("emulator", seed=3, dram_bytes=1 << 20)
    assert program.session("emulator", dram_bytes=1 << 20, seed=3) is session
    assert program.session("emulator", seed=4, dram_bytes=1 << 20) is not session
    assert (session.device, session.options) == ("emulator", {"seed": 3, "dram_bytes": 1 << 20})
    inputs = random_inputs(region.graph, 1, 5)
    assert program.run_region(region, inputs).result.device == "emulator"
    found = program.run_region(region, inputs, {"rows": [4]}, "cpu")
    assert (found.region, found.inputs, found.lengths) == (region, inputs, {"rows": [4]})
    assert np.array_equal(found.result.outputs["v1"], region.graph.evaluate(inputs)["v1"])
    assert found.result.device == "cpu"
    assert program.run_region(region, inputs, device="cpu").lengths == {}


def test_notes_of_a_session_become_those_of_the_run(region):
    program = Program(TINY, [region])
    real = {"v0": np.zeros((1, 3, 4))}
    message = "linear ran on cpu: buffer of 40 bytes, device memory has 0 left"
    for _ in range(2):
        program.run(real, device="emulator", dram_bytes=0)
        assert [note[:24] for note in program.notes] == [message[:24]]
    assert program.session("emulator", dram_bytes=0).notes == []
    (run,) = program.last.parts
    assert (run.result.device, run.lengths) == ("cpu", {})
    program.run(real, {"rows": [2]}, device="cpu")
    assert program.notes == []
    assert program.last.parts[0].lengths == {"rows": [2]}


@pytest.mark.parametrize("args", [(), ([1],), ({}, {}, {}), (np.ones((1, 3, 4)),)])
def test_a_loaded_program_takes_real_values_by_name(region, args):
    message = r"takes a dictionary of the real values that enter it, v0, and lengths$"
    with pytest.raises(ProgramError, match=message):
        Program(TINY, [region]).run(*args)


def test_a_loaded_program_of_several_regions_runs_them_one_by_one(region):
    other = Region("other", region.graph, TINY)
    message = r"^the program has 2 regions: run_region of linear, other$"
    with pytest.raises(ProgramError, match=message):
        Program(TINY, [region, other]).run({"v0": np.ones((1, 3, 4))})


def test_a_program_without_an_explanation_has_an_empty_one(region):
    assert Program(TINY, [region]).explain() == {}


def test_what_is_open_is_not_shown(region):
    program = Program(TINY, [region])
    program.session("emulator")
    assert "_sessions" not in repr(program)
    assert "_schedulers" not in repr(program)


# --- options of compile
def test_a_configuration_is_a_name_or_one():
    with pytest.raises(ValueError, match=r"^config is a int, not a name or a Config$"):
        compile(None, None, config=5)
    with pytest.raises(ValueError, match="unknown configuration 'nope'"):
        compile(None, None, config="nope")


def test_filters_are_chosen_by_name():
    assert choose_filter("window:5,2", TINY) == Window(5, 2)
    assert choose_filter("tile_threshold:-7", TINY) == TileThreshold(-7)


BARE = types.SimpleNamespace(name="bare", filters=types.SimpleNamespace(names=()))
SOME = types.SimpleNamespace(name="some", filters=types.SimpleNamespace(names=("dense", "causal")))
FILTERS = [
    ("nope:1", TINY, "no key filter 'nope', there are dense, causal, tile_threshold, window"),
    ("window:1,2", BARE, "bare has not built the key filter window, it has none"),
    ("window:1,2", SOME, "some has not built the key filter window, it has dense, causal"),
    ("window:1", TINY, "key filter 'window:1' has 1 parameters, window has 2"),
    ("causal:1", TINY, "key filter 'causal:1' has 1 parameters, causal has 0"),
    ("tile_threshold", TINY, "key filter 'tile_threshold' has 0 parameters, tile_threshold has 1"),
]


@pytest.mark.parametrize(("text", "config", "message"), FILTERS)
def test_what_is_no_filter_is_told(text, config, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        choose_filter(text, config)
