"""Device ``auto``: what a program, the command line and a device that dies see of it."""

import numpy as np
import pytest
import torch
from graphs import mlp, random_inputs
from placements import SHAPE, costs

from transept.golden.config import TINY
from transept.host.devices.base import DeviceError, DeviceLostError
from transept.host.devices.emulator import EmulatorDevice
from transept.host.placement import auto
from transept.host.placement.auto import Placement
from transept.host.placement.costs import signature
from transept.host.placement.machine import load_costs, save_costs
from transept.host.placement.scheduler import Scheduler
from transept.host.runtime.program import Program, compile
from transept.host.runtime.region import Region
from transept.host.runtime.session import Session

DEVICES = ("cpu", "golden")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSEPT_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def program():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(12, 24), torch.nn.GELU(), torch.nn.Linear(24, 8))
    return compile(model.eval(), X, config=TINY)


X = torch.randn(9, 12, generator=torch.Generator().manual_seed(1))


# --- programs
def test_a_program_runs_where_it_ends_soonest(program):
    y = program.run(X, device="auto", placement=Placement(DEVICES))
    assert torch.equal(y, program.run(X, device="golden"))
    program.run(X, device="auto", placement=Placement(DEVICES))
    (placed,) = program.last.placed
    assert {part.result.device for part in placed.parts} <= set(DEVICES)
    assert set(placed.plan.alone) == set(DEVICES)
    assert placed.plan.seconds <= min(placed.plan.alone.values())


def test_a_program_of_several_sequences_is_placed():
    """It was tried on one, so that no executable is there yet."""
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    x = torch.randn(3, 4, 8)
    program = compile(layer, x, config=TINY)
    (region,) = program.regions
    assert list(region.shapes) == [region.shape(3, {dim.name: 4 for dim in region.graph.dims})]
    y = program.run(x, device="auto", placement=Placement(DEVICES))
    assert torch.equal(y, program.run(x, device="golden"))


def test_what_ran_a_part_is_watched(program):
    seen = []
    placement = Placement(("golden",), pins={program.regions[0].graph.ops[0].name: "emulator"})
    program.run(
        X,
        device="auto",
        placement=placement,
        watch=lambda part, session: seen.append((part.result.device, session)),
    )
    assert [device for device, _ in seen] == [session.device for _, session in seen]
    opened = [session.opened for device, session in seen if device == "emulator"]
    assert opened
    assert None not in opened


def test_pins_of_layers(program):
    first, second = (op.name for op in program.regions[0].graph.ops)
    placement = Placement(("golden",), pins={first: "emulator", second: "golden"})
    y = program.run(X, device="auto", placement=placement)
    devices = {part.result.device for part in program.last.parts}
    assert devices == {"golden", "emulator"}
    assert torch.equal(y, program.run(X, device="golden"))


def test_a_pin_that_fits_no_layer(program):
    with pytest.raises(ValueError, match="no layer 'nothing' to pin, there are 0"):
        program.run(X, device="auto", placement=Placement(DEVICES, pins={"nothing": "cpu"}))


def test_an_unknown_device_or_option(program):
    with pytest.raises(ValueError, match="no device 'npu'"):
        program.run(X, device="auto", placement=Placement(("npu",)))
    placement = Placement(("emulator",), options={"emulator": {"sed": 1}})
    with pytest.raises(ValueError, match="has no option 'sed'"):
        program.run(X, device="auto", placement=placement)
    with pytest.raises(ValueError, match="placement is for device auto, the device is cpu"):
        program.run(X, device="cpu", placement=Placement())


def test_a_loaded_program_is_placed_too(program, tmp_path):
    from transept.host.runtime.program import load

    program.save(tmp_path / "p.tsp")
    loaded = load(tmp_path / "p.tsp")
    (region,) = loaded.regions
    values = {
        name: np.ones((1, 9, region.graph.values[name].width)) for name in region.graph.inputs
    }
    found = loaded.run(values, device="auto", placement=Placement(DEVICES))
    wanted = loaded.run(values, device="golden")
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


def test_what_a_program_does_around_its_regions_runs_between_measurements(monkeypatch):
    """Once before every round; the regions themselves run once."""
    torch.manual_seed(0)
    linear = torch.nn.Linear(12, 12)
    model = torch.nn.Sequential(linear, torch.nn.Softplus(), torch.nn.Linear(12, 8)).eval()
    seen = []
    model[1].forward = lambda x: torch.sort(x)[0]
    program = compile(model, X, config=TINY)
    assert len(program.regions) == 2
    monkeypatch.setattr(
        program,
        "run_region",
        lambda *args: seen.append("region") or Program.run_region(program, *args),
    )
    wanted = program.run(X, device="cpu")
    seen.clear()
    around = program.around(X)
    assert torch.equal(around()[0], wanted)
    assert torch.equal(around()[0], wanted)
    assert seen == ["region"] * 2
    monkeypatch.setattr(program, "around", lambda *args: lambda: seen.append(args))
    assert torch.equal(program.run(X, device="auto", placement=Placement(DEVICES)), wanted)
    assert seen.count((X,)) >= 2 * len(DEVICES)


# --- costs
def test_costs_are_measured_once_and_kept(program, monkeypatch):
    program._schedulers.clear()
    program.run(X, device="auto", placement=Placement(DEVICES))
    assert set(load_costs(TINY)) == set(DEVICES)
    monkeypatch.setattr(auto, "calibrate", None)
    program._schedulers.clear()
    program.run(X, device="auto", placement=Placement(DEVICES))


def regions(graph, shape=SHAPE):
    region = Region("region", graph, TINY)
    region.executable(shape)
    return [region]


def costs_of(graph, *devices, **told):
    return auto.costs_of(TINY, Placement(devices, **told), devices, regions(graph), list, print)


def test_an_operator_that_was_never_measured_is_measured():
    """Beside those that were, which stay."""
    partly = costs(mlp(1, [8, 8]), 0)
    save_costs({"cpu": partly}, TINY)
    graph = mlp(1, [16, 16, 16])
    found = costs_of(graph, "cpu")["cpu"]
    assert {signature(graph, SHAPE, op) for op in graph.ops} <= found.samples.keys()
    assert partly.samples.items() <= found.samples.items()
    assert load_costs(TINY)["cpu"].samples == found.samples


@pytest.mark.parametrize("device", ["emulator", "rtl"])
def test_cycles_at_a_clock_are_not_kept_and_not_taken_from_what_is(device):
    """They are no measurements of this machine."""
    graph = mlp(1, [16, 16, 16])
    slow = costs(graph, 0)
    save_costs({device: slow}, TINY)
    found = costs_of(graph, device, clock=1e6)[device]
    assert max(sample.seconds for sample in found.samples.values()) < 0.1
    assert load_costs(TINY)[device].samples == slow.samples
    assert costs_of(graph, device)[device].samples == slow.samples


# --- devices that die
class Mortal(EmulatorDevice):
    """Dies at a register access of its life."""

    left = 0

    def _step(self):
        Mortal.left -= 1
        if Mortal.left == 0:
            raise DeviceLostError("emulator: it was killed")

    def read(self, offset):
        self._step()
        return super().read(offset)

    def write(self, offset, value):
        self._step()
        super().write(offset, value)


def test_an_accelerator_killed_a_hundred_times(monkeypatch):
    """At random points of a run of which it does a random part: the same bits every time."""
    monkeypatch.setattr(
        "transept.host.backends.accelerator.open_device",
        lambda name, config, **options: Mortal(config),
    )
    graph = mlp(8, [10, 24, 7, 30, 12])
    region, rng = Region("region", graph, TINY), np.random.default_rng(0)
    inputs = random_inputs(graph, 2, 8)
    wanted = graph.evaluate(inputs)
    killed = 0
    for seed in range(100):
        known = {name: costs(graph, 3 * seed + i) for i, name in enumerate((*DEVICES, "emulator"))}
        sessions = {name: Session(TINY, name, fallback=False) for name in known}
        scheduler = Scheduler(sessions.__getitem__, known)
        if "emulator" not in {part.device for part in scheduler.plan(region, SHAPE).parts}:
            scheduler = Scheduler(sessions.__getitem__, known, pins={"*": "emulator"})
        Mortal.left = int(rng.integers(1, 60))
        placed = scheduler.run(region, inputs)
        for name, y in wanted.items():
            assert np.array_equal(placed.outputs[name], y)
        killed += len(scheduler.notes)
    assert killed > 80


@pytest.mark.parametrize("built", [False, True])
def test_a_simulation_is_a_device_once_it_is_built(built, monkeypatch):
    monkeypatch.setattr("transept.sim.build.is_built", lambda config: built)
    found = auto.available(TINY)
    assert ("rtl" in found) == built
    assert "cpu" in found


@pytest.mark.parametrize(
    ("interpreted", "error", "found"),
    [
        (False, None, ["gpu", "cpu"]),
        (True, None, ["cpu"]),
        (False, DeviceError("no card"), ["cpu"]),
        (False, ImportError("no torch"), ["cpu"]),
    ],
)
def test_a_card_is_a_device_and_its_interpreter_is_none(interpreted, error, found, monkeypatch):
    def check_card():
        if error is not None:
            raise error

    monkeypatch.setattr("transept.host.backends.gpu.check_card", check_card)
    monkeypatch.setattr("transept.host.kernels.INTERPRETED", interpreted)
    monkeypatch.setattr("transept.sim.build.is_built", lambda config: False)
    assert auto.available(TINY) == found


# --- what a user says
def test_devices_of_pins_are_chosen_from_too(monkeypatch):
    monkeypatch.setattr(auto, "available", lambda config: ["gpu", "cpu"])
    pins = {"a": "rtl", "b": "cpu", "c": "rtl"}
    assert Placement(pins=pins).candidates(TINY) == ["gpu", "cpu", "rtl"]
    assert Placement(("golden",), pins).candidates(TINY) == ["golden", "rtl", "cpu"]
    assert Placement().candidates(TINY) == ["gpu", "cpu"]


def test_limits_of_memory_are_of_devices_and_positive():
    assert Placement(memory={"cpu": 1}).memory == {"cpu": 1}
    with pytest.raises(
        ValueError, match=r"^limit of memory of cpu is 0 bytes, must be 1 at least$"
    ):
        Placement(memory={"gpu": 5, "cpu": 0})
    with pytest.raises(ValueError, match=r"^no device 'npu', there is .*\bgolden\b"):
        Placement(memory={"cpu": 5, "npu": 5})


def test_a_scheduler_is_made_as_it_was_told():
    graph = mlp(1, [16, 16, 16])
    save_costs({name: costs(graph, 0) for name in ("cpu", "emulator", "rtl")}, TINY)
    opened = []

    def session(name, **options):
        opened.append((name, options))
        return name

    told = Placement(
        ("cpu",),
        pins={"linear0": "emulator"},
        memory={"cpu": 5},
        fallback=False,
        options={"emulator": {"seed": 3}},
    )
    made = auto.scheduler(TINY, told, regions(graph), session)
    assert [made.session(name) for name in ("cpu", "emulator")] == ["cpu", "emulator"]
    assert opened == [
        ("cpu", {"fallback": False}),
        ("emulator", {"fallback": False, "seed": 3}),
    ]
    assert list(made._costs) == ["cpu", "emulator"]
    assert (made._pins, made._memory, made._fallback) == (told.pins, told.memory, False)
    assert auto.scheduler(TINY, Placement(("cpu",)), regions(graph), session)._fallback


def test_only_devices_of_which_something_is_missing_are_measured(monkeypatch):
    graph = mlp(1, [16, 16, 16])
    known = {name: costs(graph, 0) for name in ("cpu", "golden", "emulator")}
    asked = []

    def calibrate(works, devices, config, *, clock, around, progress):
        asked.append((len(works), works[0].shape, devices, config, clock, around, progress))
        return {name: costs(graph, 1) for name in devices}

    monkeypatch.setattr(auto, "calibrate", calibrate)
    save_costs({name: found for name, found in known.items() if name != "golden"}, TINY)
    found = costs_of(graph, "cpu", "golden", "emulator", clock=1e3)
    assert asked == [(1, SHAPE, ["golden", "emulator"], TINY, 1e3, list, print)]
    assert list(found) == ["cpu", "golden", "emulator"]
    assert found == known | {name: costs(graph, 1) for name in ("golden", "emulator")}
    assert load_costs(TINY) == known | {"golden": costs(graph, 1)}
