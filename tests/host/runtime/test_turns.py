"""What a session asks of its devices: what is done once, what is timed, and where work goes."""

import dataclasses

import numpy as np
import pytest
from graphs import mlp, random_inputs

from transept.golden.config import TINY
from transept.host.backends.base import GraphBackend, Outcome
from transept.host.backends.golden import GoldenGraph
from transept.host.compiler.errors import CompileError
from transept.host.devices.base import DeviceError
from transept.host.runtime import session as module
from transept.host.runtime.region import Region
from transept.host.runtime.session import Session

REGION = Region("it", mlp(1, [4, 8, 4]), TINY)


class Clock:
    """Seconds that only devices and checks take."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@dataclasses.dataclass
class Fake:
    """A device that notes what is asked of it; preparing takes 100 seconds, and running 3."""

    name: str
    clock: Clock
    asked: list
    error: Exception | None = None

    def prepare(self, region, shape, lengths):
        self.asked.append((self.name, "prepare", str(shape), lengths))
        self.clock.now += 100

    def run(self, region, shape, inputs, lengths):
        self.asked.append((self.name, "run", str(shape), lengths))
        self.clock.now += 3
        if self.error is not None:
            raise self.error
        return Outcome({"out": inputs["v0"]}, "report", "executable")


@pytest.fixture
def opened(monkeypatch):
    """Fakes in place of devices: a list of those that were opened, with their options."""
    clock, found, asked = Clock(), [], []

    def open_backend(name, config, **options):
        found.append((name, config.name, options))
        return Fake(name, clock, asked, found.errors.get(name))

    class Opened(list):
        errors, log = {}, asked

    found = Opened()
    monkeypatch.setattr(module, "open_backend", open_backend)
    monkeypatch.setattr("time.perf_counter", clock)
    check = Region.check

    def slow(self, inputs, lengths):
        clock.now += 0.5
        return check(self, inputs, lengths)

    monkeypatch.setattr(Region, "check", slow)
    return found


def run(session, rows, lengths=None):
    return session.run(REGION, random_inputs(REGION.graph, 1, rows), lengths)


def test_a_shape_is_prepared_once_and_not_timed(opened):
    session = Session(TINY, "emulator", seed=2)
    assert not opened
    results = [run(session, rows, {"rows": [2]}) for rows in (4, 4, 5)]
    assert opened == [("emulator", "tiny", {"seed": 2})]
    four, five = "1 x 4", "1 x 5"
    asked = [("prepare", four), ("run", four), ("run", four), ("prepare", five), ("run", five)]
    assert opened.log == [("emulator", *what, {"rows": [2]}) for what in asked]
    assert {result.seconds for result in results} == {3.5}
    first = results[0]
    assert (first.report, first.executable, first.device) == ("report", "executable", "emulator")
    assert list(first.outputs) == ["out"]


@pytest.mark.parametrize("error", [DeviceError("it broke"), CompileError("it does not fit")])
def test_what_fails_is_done_on_the_cpu_without_the_options_of_the_device(opened, error):
    opened.errors["emulator"] = error
    session = Session(TINY, "emulator", seed=2)
    result = run(session, 4)
    assert opened == [("emulator", "tiny", {"seed": 2}), ("cpu", "tiny", {})]
    assert (result.device, result.seconds) == ("cpu", 3.5)
    assert session.notes == [f"it ran on cpu: {error}"]
    run(session, 4)
    assert session.notes == [f"it ran on cpu: {error}"] * 2
    assert len(opened) == 2


@pytest.mark.parametrize(("device", "fallback"), [("emulator", False), ("cpu", True)])
def test_without_another_device_the_error_is_raised(opened, device, fallback):
    opened.errors[device] = DeviceError("it broke")
    session = Session(TINY, device, fallback=fallback)
    with pytest.raises(DeviceError, match="it broke"):
        run(session, 4)
    assert (len(opened), session.notes) == (1, [])


def test_what_no_device_can_mend_is_raised_at_once(opened):
    opened.errors["emulator"] = MemoryError("no more")
    with pytest.raises(MemoryError, match="no more"):
        run(Session(TINY, "emulator"), 4)
    assert len(opened) == 1


# --- what is open
def test_an_accelerator_is_open_after_its_first_run():
    session = Session(TINY, "emulator", dram_bytes=1 << 20)
    assert session.opened is None
    run(session, 2)
    assert session.opened.name == "emulator"
    other = Session(TINY, "golden")
    run(other, 2)
    assert other.opened is None


def test_a_graph_is_prepared_once():
    made = []

    def prepare(graph, **options):
        made.append((graph, options))
        return GoldenGraph(graph)

    session = Session(TINY, "golden")
    session._backends["golden"] = backend = GraphBackend(prepare, threads=3)
    for rows in (2, 2, 3):
        inputs = random_inputs(REGION.graph, 1, rows)
        found = session.run(REGION, inputs)
        wanted = REGION.graph.evaluate(inputs)
        assert all(np.array_equal(found.outputs[name], y) for name, y in wanted.items())
        assert (found.report, found.executable) == (None, None)
    assert made == [(REGION.graph, {"threads": 3})]
    assert session.prepared(REGION) is backend.prepared(REGION.graph)
