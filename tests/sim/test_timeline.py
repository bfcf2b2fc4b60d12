"""Slices, sums and traces from changes of the activity port."""

import json

import numpy as np

from transept.golden.isa import Engine
from transept.golden.registers import Stall
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
    weights = next(e for e in events if e["name"] == "weights")
    assert (weights["ts"], weights["dur"], weights["cat"]) == (0.9, 0.1, "stall")
