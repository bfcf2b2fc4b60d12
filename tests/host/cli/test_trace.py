"""What a trace runs, on which inputs."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from transept.golden.config import TINY
from transept.host.cli import trace
from transept.host.cli.options import DeviceName
from transept.host.compiler.cut import Shape

CLI = "transept.host.cli"


@pytest.fixture
def traced(stand_in):
    """Calls of a trace of a program with two regions, none of which runs anywhere."""
    regions = [SimpleNamespace(name=name, executables={1: name.upper()}) for name in ("a", "b")]
    result = SimpleNamespace(report=None)

    class Session:
        def __init__(self, *told, **options):
            calls.append((*told, options))
            self.opened, self.notes = None, ["no", "way"]

        def run(self, region, inputs):
            calls.append((region.name, inputs))
            return result

    stand_in(f"{CLI}.trace.load", SimpleNamespace(config=TINY, regions=regions))
    stand_in(f"{CLI}.trace.build_simulation")
    stand_in(f"{CLI}.trace.Session", Session)
    calls = stand_in(f"{CLI}.trace._inputs", lambda region, executable, rng: rng.integers(1 << 30))
    return calls, result


@pytest.mark.parametrize(
    ("options", "seed", "memory", "region"),
    [("", 1, "default", "a"), ("--seed 7 --memory board --region b", 7, "board", "b")],
)
def test_a_run_without_cycles_has_no_trace(
    transept_command, traced, tmp_path, options, seed, memory, region
):
    calls, result = traced
    for report in (None, SimpleNamespace(cycles=3)):
        result.report = report
        code, _, (line,) = transept_command("trace", "file", "-o", "x", *options.split())
        assert (code, line) == (1, "error: no; way")
    assert list(tmp_path.iterdir()) == []
    told = {"memory": memory, "seed": seed, "timeline": True}
    inputs = np.random.default_rng(seed).integers(1 << 30)
    load, built, opened, made, ran = [call for call in calls if call[0] != "Session"][:5]
    assert load == ("load", Path("file"))
    assert built == ("build_simulation", TINY, DeviceName.rtl)
    assert opened == (TINY, "rtl", told)
    assert made[2] == region.upper()
    assert ran == (region, inputs)


def test_inputs_of_a_trace_fill_int8():
    value = SimpleNamespace(name="x", dim="rows", width=50, bits=16, limit=32767)
    graph = SimpleNamespace(values={"x": value}, inputs=("x",))
    executable = SimpleNamespace(shape=Shape(2, {"rows": 30}))
    rng = np.random.default_rng(0)
    x = trace._inputs(SimpleNamespace(graph=graph), executable, rng)["x"]
    assert (x.shape, x.dtype) == ((2, 30, 50), np.int16)
    assert (x.min(), x.max()) == (-127, 127)
