"""Slices, sums and traces from changes of the activity port."""

import json

import numpy as np
import pytest
from graphs import post_norm, random_inputs

from transept.golden.config import TINY
from transept.golden.isa import Engine
from transept.golden.registers import Stall
from transept.host.runtime.region import Region
from transept.host.runtime.session import Session
from transept.sim import timeline
from transept.sim.timeline import Slice


def activity(*, array=False, **engines):
    value = array << 4 * len(Engine)
    for name, (busy, stall) in engines.items():
        value |= (busy | stall.value << 1) << 4 * Engine[name]
    return value


CHANGES = np.array(
    [
        (0, activity()),
        (10, activity(LOAD=(1, Stall.MEMORY), GEMM=(0, Stall.TOKEN))),
        (30, activity(LOAD=(1, Stall.NONE), GEMM=(0, Stall.TOKEN))),
        (40, activity(GEMM=(1, Stall.TOKEN), array=True)),
        (90, activity(GEMM=(1, Stall.WEIGHTS))),
    ],
    np.uint64,
)


def test_the_last_of_several_runs():
    """The first run ended at 100; the second began at 150."""
    second = CHANGES[1:] + np.array([150, 0], np.uint64)
    both = np.vstack([CHANGES, [[100, 0]], second, [[250, 0]]]).astype(np.uint64)
    found = timeline.last_run(both, 100)
    assert found.tolist() == [*CHANGES[1:].tolist(), [100, 0]]


def test_slices():
    assert timeline.slices(CHANGES, 100) == [
        Slice("LOAD", "memory", 10, 30),
        Slice("LOAD", "busy", 30, 40),
        Slice("GEMM", "token", 10, 40),
        Slice("GEMM", "busy", 40, 90),
        Slice("GEMM", "weights", 90, 100),
        Slice("ARRAY", "busy", 40, 90),
    ]
    assert timeline.slices(np.empty((0, 2), np.uint64), 100) == []


def test_summary():
    sums = timeline.summarise(CHANGES, 100)
    assert (sums["GEMM"].busy, sums["GEMM"].stalled) == (60, {"token": 30, "weights": 10})
    assert (sums["LOAD"].busy, sums["LOAD"].stalled) == (30, {"memory": 20})
    assert sums["GEMM"].utilisation == 0.5
    assert sums["STORE"].busy == 0
    assert sums["ARRAY"].utilisation == 0.5


def test_trace_file(tmp_path):
    path = tmp_path / "trace.json"
    timeline.write_trace(path, CHANGES, 100, clock_mhz=100)
    events = json.loads(path.read_text())["traceEvents"]
    names = [e["args"]["name"] for e in events if e["name"] == "thread_name"]
    assert names == ["LOAD", "GEMM", "ARRAY"]
    weights = next(e for e in events if e["name"] == "waits: weights")
    assert (weights["ts"], weights["dur"], weights["cat"]) == (0.9, 0.1, "stall")
    assert weights["args"] == {"cycle": 90, "cycles": 10, "instruction": "instruction 0"}


RETIRING = np.array(
    [
        (0, activity(GEMM=(0, Stall.TOKEN))),
        (5, activity(GEMM=(1, Stall.NONE))),
        (10, activity(GEMM=(1, Stall.WEIGHTS))),
        (20, activity(GEMM=(1, Stall.WEIGHTS)) | 1 << timeline.RETIRE_BIT + Engine.GEMM),
        (22, activity(GEMM=(1, Stall.WEIGHTS))),
        (30, activity(GEMM=(1, Stall.NONE))),
        (40, activity()),
    ],
    np.uint64,
)


def test_slices_are_cut_behind_each_retirement():
    """Two instructions retire in the neighbouring cycles 20 and 21."""
    assert timeline.slices(RETIRING, 50) == [
        Slice("GEMM", "token", 0, 5, 0),
        Slice("GEMM", "busy", 5, 10, 0),
        Slice("GEMM", "weights", 10, 21, 0),
        Slice("GEMM", "weights", 21, 22, 1),
        Slice("GEMM", "weights", 22, 30, 2),
        Slice("GEMM", "busy", 30, 40, 2),
    ]


def test_events_are_named_by_instruction():
    names = {"GEMM": ["MATMUL first", "SCORES second"]}
    events = timeline.trace_events(timeline.slices(RETIRING, 50), clock_mhz=1, names=names)
    work = [e for e in events if e.get("cat") == "work"]
    assert [(e["name"], e["ts"], e["dur"]) for e in work] == [
        ("MATMUL first", 5, 16),
        ("SCORES second", 21, 1),
        ("instruction 2", 22, 18),
    ]
    token = next(e for e in events if e["name"] == "waits: token")
    assert (token["ts"], token["dur"], token["args"]["instruction"]) == (0, 5, "MATMUL first")


def run_on_rtl(**options):
    """A real program at tiny: its instructions, counters, the activity port, the last cycle."""
    region = Region("model", post_norm(0, 8, 2, [12, 12]), TINY)
    inputs = random_inputs(region.graph, 2, 16)
    session = Session(TINY, "rtl", timeline=True, **options)
    counters = session.run(region, inputs).report
    (executable,) = region.executables.values()
    simulation = session.opened.simulation
    return executable, counters, simulation.timeline(), simulation.cycle


@pytest.mark.parametrize("backpressure", [0.0, 0.3])
def test_the_timeline_of_a_real_program_agrees_with_its_counters(backpressure):
    executable, counters, changes, end = run_on_rtl(backpressure=backpressure, seed=3)
    sums = timeline.summarise(changes, end)
    assert sums["ARRAY"].busy == counters.array_cycles > 0
    for engine in Engine:
        found = sums[engine.name]
        assert found.busy == counters.busy[engine.name] > 0
        wanted = {name.lower(): n for name, n in counters.stalls[engine.name].items() if n}
        assert found.stalled == wanted
    retired = timeline.retirements(changes)
    for engine in Engine:
        program = [i for i in executable.decoded() if i.engine == engine]
        assert len(retired[engine]) == len(program)
        pieces = [p for p in timeline.slices(changes, end) if p.track == engine.name]
        assert {p.index for p in pieces} == set(range(len(program)))


def test_events_nest():
    """Perfetto shows the stalls of an instruction inside it."""
    _, _, changes, end = run_on_rtl()
    events = timeline.trace_events(timeline.slices(changes, end), clock_mhz=1)
    for track in {e["tid"] for e in events if "tid" in e}:
        open_until = [float("inf")]
        spans = [e for e in events if e.get("tid") == track and e["ph"] == "X"]
        for span in sorted(spans, key=lambda e: (e["ts"], -e["dur"])):
            while span["ts"] >= open_until[-1]:
                open_until.pop()
            assert span["ts"] + span["dur"] <= open_until[-1]
            open_until.append(span["ts"] + span["dur"])
