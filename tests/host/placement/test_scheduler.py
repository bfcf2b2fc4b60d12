"""Runs by plan: the golden bits wherever parts run, and whatever fails."""

import itertools
import threading
import time

import numpy as np
import pytest
from graphs import cross, mlp, post_norm, pre_norm, random_inputs
from placements import SHAPE, chain, costs, two_chains

from transept.golden.config import TINY
from transept.host.devices.base import DeviceError, DeviceLostError
from transept.host.placement.costs import DeviceCosts
from transept.host.placement.parts import weight_bytes
from transept.host.placement.scheduler import Scheduler
from transept.host.runtime.region import Region
from transept.host.runtime.session import Session

GRAPHS = {
    "post-norm": lambda: post_norm(1, 16, 2, [32]),
    "pre-norm": lambda: pre_norm(4, 16, 4, 2, [32, 24]),
    "mlp": lambda: mlp(8, [10, 24, 7, 30, 12]),
    "two chains": two_chains,
}
DEVICES = ("golden", "cpu", "emulator")


class Sessions(dict):
    """Open devices by name, which fail when ``fails`` says so."""

    def __init__(self, fails=lambda device: None):
        self.fails = fails

    def __missing__(self, device):
        session = Session(TINY, device, fallback=False)
        run = session.run

        def failing(*args):
            error = self.fails(device)
            if error is not None:
                raise error
            return run(*args)

        session.run = failing
        self[device] = session
        return session


def check(graph, scheduler, seed=0, real=(8, 5)):
    inputs = random_inputs(graph, 2, 8, seed)
    lengths = {"rows": list(real)}
    placed = scheduler.run(Region("region", graph, TINY), inputs, lengths)
    for name, y in graph.evaluate(inputs, lengths).items():
        assert np.array_equal(placed.outputs[name], y), name
    return placed


def known(graph, seed, devices=DEVICES):
    return {name: costs(graph, seed + i) for i, name in enumerate(devices)}


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("seed", range(4))
def test_the_bits_do_not_depend_on_the_placement(graph, seed):
    graph = GRAPHS[graph]()
    sessions = Sessions()
    scheduler = Scheduler(sessions.__getitem__, known(graph, 7 * seed))
    placed = check(graph, scheduler, seed)
    ran = [name for part in placed.parts for name in part.planned.operators]
    assert sorted(ran) == sorted(op.name for op in graph.ops)
    assert all(part.result.device == part.planned.device for part in placed.parts)
    assert not scheduler.notes


def test_many_devices_take_part():
    graph = GRAPHS["mlp"]()
    used = set()
    for seed in range(6):
        scheduler = Scheduler(Sessions().__getitem__, known(graph, 10 * seed))
        used.add(frozenset(p.planned.device for p in check(graph, scheduler).parts))
    assert max(map(len, used)) == len(DEVICES)


def test_pins_are_kept_and_named():
    graph = GRAPHS["mlp"]()
    name = graph.ops[1].name
    scheduler = Scheduler(Sessions().__getitem__, known(graph, 0), pins={name: "emulator"})
    placed = check(graph, scheduler)
    assert [p.planned.device for p in placed.parts if name in p.planned.operators] == ["emulator"]
    with pytest.raises(ValueError, match=f"{name} is pinned to npu; what is known is golden, cpu"):
        Scheduler(Sessions().__getitem__, known(graph, 0), pins={name: "npu"})


# --- faults
def test_a_device_that_fails_is_left_out():
    graph = GRAPHS["mlp"]()
    plan = Scheduler(Sessions().__getitem__, known(graph, 0)).plan(Region("r", graph, TINY), SHAPE)
    lost = plan.parts[0].device
    sessions = Sessions(lambda device: DeviceError("it broke") if device == lost else None)
    scheduler = Scheduler(sessions.__getitem__, known(graph, 0))
    placed = check(graph, scheduler)
    assert lost not in {part.result.device for part in placed.parts}
    (note,) = scheduler.notes
    assert note.endswith("it broke")
    assert f"on {lost} moved to" in note


def test_without_fallback_the_error_is_raised():
    graph = GRAPHS["mlp"]()
    sessions = Sessions(lambda device: DeviceError("it broke"))
    scheduler = Scheduler(sessions.__getitem__, known(graph, 0), fallback=False)
    with pytest.raises(DeviceError, match="it broke"):
        check(graph, scheduler)


def test_when_no_device_is_left_the_last_error_is_raised():
    graph = GRAPHS["mlp"]()
    sessions = Sessions(lambda device: DeviceError(f"{device} broke"))
    scheduler = Scheduler(sessions.__getitem__, known(graph, 0))
    with pytest.raises(DeviceError, match="broke"):
        check(graph, scheduler)
    assert len(scheduler.notes) == len(DEVICES) - 1


def test_what_is_pinned_to_a_lost_device_moves():
    graph = GRAPHS["mlp"]()
    sessions = Sessions(lambda d: DeviceLostError("gone") if d == "emulator" else None)
    scheduler = Scheduler(sessions.__getitem__, known(graph, 0), pins={"*": "emulator"})
    assert "emulator" not in {p.result.device for p in check(graph, scheduler).parts}


def test_what_fails_is_tried_again_by_the_next_run():
    graph = GRAPHS["mlp"]()
    errors = iter([DeviceError("once")])
    sessions = Sessions(lambda device: next(errors, None))
    scheduler = Scheduler(sessions.__getitem__, known(graph, 0))
    first, second = check(graph, scheduler), check(graph, scheduler)
    assert len(scheduler.notes) == 1
    ran = sorted((part.planned for part in second.parts), key=lambda part: part.first)
    assert ran == list(second.plan.parts)
    assert first.plan == second.plan


def test_what_moves_fits_the_memory_of_where_it_goes():
    """Beside what ran there before something failed."""
    graph = GRAPHS["mlp"]()
    known = {"emulator": costs(graph, 0), "golden": costs(graph, 0), "cpu": costs(graph, 0, 1e6)}
    weights = [weight_bytes(op) for op in graph.ops]
    lost = graph.ops[1].name
    pins = {op.name: "golden" for op in graph.ops[:1]} | {lost: "emulator"}
    limit = weights[0] + weights[1] - 1
    sessions = Sessions(lambda device: DeviceError("it broke") if device == "emulator" else None)
    scheduler = Scheduler(sessions.__getitem__, known, pins=pins, memory={"golden": limit})
    placed = check(graph, scheduler)
    (moved,) = [part for part in placed.parts if lost in part.planned.operators]
    assert moved.result.device == "cpu"
    ran = [p.planned for p in placed.parts if p.result.device == "golden"]
    assert ran
    assert sum(sum(weights[part.first : part.end]) for part in ran) <= limit


def test_when_no_memory_is_left_the_error_is_raised():
    graph = GRAPHS["mlp"]()
    known = {"emulator": costs(graph, 0), "golden": costs(graph, 0, 1e6)}
    sessions = Sessions(lambda device: DeviceError("it broke") if device == "emulator" else None)
    scheduler = Scheduler(sessions.__getitem__, known, memory={"golden": 5})
    with pytest.raises(DeviceError, match="it broke"):
        check(graph, scheduler)


# --- at the same time
class Meeting(Sessions):
    """Devices that wait for each other, and say in which thread they ran."""

    def __init__(self, devices):
        self.barrier, self.threads = threading.Barrier(devices), []
        super().__init__(self.meet)

    def meet(self, device):
        self.threads.append(threading.current_thread())
        self.barrier.wait(timeout=20)


def test_independent_parts_run_at_the_same_time():
    """Each device waits until the other one runs, too."""
    graph = two_chains()
    sessions = Meeting(2)
    known = {name: costs(graph, 0) for name in ("golden", "cpu")}
    placed = check(graph, Scheduler(sessions.__getitem__, known))
    assert {part.result.device for part in placed.parts} == {"golden", "cpu"}
    first, second = placed.parts
    assert min(first.start, second.start) >= 0
    assert abs(first.start - second.start) < 20


def test_parts_that_nothing_runs_beside_run_in_the_callers_thread():
    graph = chain([10, 24, 16, 12])
    sessions = Meeting(1)
    pins = {op.name: ("cpu" if index == 1 else "golden") for index, op in enumerate(graph.ops)}
    placed = check(graph, Scheduler(sessions.__getitem__, known(graph, 0), pins=pins))
    assert [part.result.device for part in placed.parts] == ["golden", "cpu", "golden"]
    assert set(sessions.threads) == {threading.current_thread()}
    begun = [part.start for part in placed.parts]
    assert 0 <= begun[0] < begun[1] < begun[2]
    assert placed.begun + begun[2] <= time.perf_counter()


def test_no_device_is_left_at_work_when_something_is_raised():
    """An error that no other device can mend ends the run when all that runs has ended."""
    graph, ended = two_chains(), []

    class Failing(Sessions):
        def __missing__(self, device):
            session = super().__missing__(device)
            run = session.run

            def slow(*args):
                if device == "cpu":
                    raise MemoryError("no more")
                time.sleep(0.1)
                ended.append(device)
                return run(*args)

            session.run = slow
            return session

    known = {name: costs(graph, 0) for name in ("golden", "cpu")}
    with pytest.raises(MemoryError, match="no more"):
        check(graph, Scheduler(Failing().__getitem__, known))
    assert ended == ["golden"]


@pytest.mark.parametrize("graph", ["mlp", "two chains"])
def test_devices_killed_at_random_points(graph):
    """A hundred runs, in each of which devices die at random steps of their own."""
    graph = GRAPHS[graph]()
    rng = np.random.default_rng(0)
    deaths = 0
    for seed in range(50):
        counter = itertools.count()
        dies = {int(step): True for step in rng.integers(0, 5, rng.integers(1, 3))}

        def fails(device, dies=dies, counter=counter):
            if device != "cpu" and dies.pop(next(counter), False):
                return DeviceLostError(f"{device} was killed")
            return None

        scheduler = Scheduler(Sessions(fails).__getitem__, known(graph, 3 * seed))
        check(graph, scheduler, seed)
        deaths += len(scheduler.notes)
    assert deaths > 10


def test_a_graph_of_one_part_runs_as_the_whole_region():
    graph = GRAPHS["mlp"]()
    slow = DeviceCosts.read(costs(graph, 0, launch=1e6).told())
    scheduler = Scheduler(Sessions().__getitem__, {"cpu": costs(graph, 0), "golden": slow})
    region = Region("region", graph, TINY)
    inputs = random_inputs(graph, 2, 8)
    (part,) = scheduler.run(region, inputs).parts
    assert part.region is region


def test_a_part_is_a_region_of_its_own():
    """With the lengths of its dimensions; the same one in every run."""
    graph = cross(1, 8, 2, 8)
    region = Region("region", graph, TINY)
    lengths = {"rows": [5, 2], "memory": [3, 7]}
    inputs = random_inputs(graph, 2, {"rows": 5, "memory": 7})
    shape = region.check(inputs, lengths)
    known = {name: costs(graph, i, shape=shape) for i, name in enumerate(("golden", "cpu"))}
    pins = {op.name: "cpu" if i < 2 else "golden" for i, op in enumerate(graph.ops)}
    scheduler = Scheduler(Sessions().__getitem__, known, pins=pins)
    first, second = (scheduler.run(region, inputs, lengths) for _ in range(2))
    for name, y in graph.evaluate(inputs, lengths).items():
        assert np.array_equal(first.outputs[name], y)
    assert scheduler.plan(region, shape) is first.plan is second.plan
    parts = sorted(first.parts, key=lambda part: part.planned.first)
    for part in parts:
        dims = {dim.name for dim in part.region.graph.dims}
        assert part.region.name == f"region[{part.planned.first}:{part.planned.end}]"
        assert part.lengths == {dim: lengths[dim] for dim in dims}
        assert part.inputs.keys() == set(part.region.graph.inputs)
        assert part.region is scheduler.part_region(region, part.planned)
        assert part.region.config is TINY
    assert any(part.lengths.keys() == {"memory"} for part in parts)
    assert {part.region for part in second.parts} == {part.region for part in parts}


def test_what_moved_is_noted():
    graph = chain([10, 24, 16, 12])
    sessions = Sessions(lambda device: DeviceError("it broke") if device == "emulator" else None)
    pins = {"linear0": "golden", "linear1": "emulator", "linear2": "emulator"}
    known = {name: costs(graph, 0) for name in ("emulator", "golden")}
    check(graph, scheduler := Scheduler(sessions.__getitem__, known, pins=pins))
    message = "linear1 and what follows it on emulator moved to golden: it broke"
    assert scheduler.notes == [message]
