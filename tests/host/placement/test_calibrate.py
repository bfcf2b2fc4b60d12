"""Costs from measurements: what is put into times comes out of them, and predictions hold."""

import itertools
import math

import numpy as np
import pytest
from graphs import GraphBuilder, mlp, post_norm
from placements import SHAPE, chain, costs

from transept.golden.config import TINY
from transept.golden.ops import Add
from transept.host.backends.base import Outcome
from transept.host.compiler.cut import Shape
from transept.host.placement import calibrate as module
from transept.host.placement.calibrate import calibrate, random_inputs
from transept.host.placement.costs import DeviceCosts, Sample, signature
from transept.host.placement.decompose import LEAST_SHARE, decompose
from transept.host.placement.parts import Work, boundaries
from transept.host.placement.plan import Planner
from transept.host.runtime.region import Region
from transept.host.runtime.session import Session

LAUNCH, RATE = 3.0, 100.0
WORK = Work(post_norm(1, 16, 2, [32, 24]), SHAPE)


class Device:
    """Known costs; several operators in one part gain a share of their work."""

    def __init__(self, gain=0.0, limit=math.inf):
        self.known = costs(WORK.graph, 0, LAUNCH, RATE)
        self.gain, self.limit, self.asked = gain, limit, 0

    def inside(self, work):
        own = sum(self.known.operator(work.graph, work.shape, op) for op in work.graph.ops)
        return own * (1 - self.gain * (len(work.graph.ops) > 1))

    def __call__(self, works):
        self.asked += len(works)
        return [
            LAUNCH + work.moved / RATE + self.inside(work)
            if len(work.graph.ops) < self.limit
            else math.inf
            for work in works
        ]


def test_what_was_put_in_comes_out():
    found = decompose([WORK], Device(), RATE, 0.0)
    assert found.launch == pytest.approx(LAUNCH)
    assert found.bytes_per_second == RATE
    for op in WORK.graph.ops:
        wanted = Device().known.operator(WORK.graph, SHAPE, op)
        assert found.operator(WORK.graph, SHAPE, op) == pytest.approx(wanted)


def test_predictions_hold_in_one_part_and_cut_everywhere():
    """Also if operators gain by running together."""
    device = Device(gain=0.05)
    planner = Planner(WORK.graph, SHAPE, {"a": decompose([WORK], device, RATE, 0.0)})
    spans = list(itertools.pairwise(boundaries(WORK.graph, {})))
    apart = sum(device([WORK.part(*span) for span in spans]))
    assert planner.part(0, len(WORK.graph.ops), "a") == pytest.approx(device([WORK])[0])
    assert sum(planner.part(*span, "a") for span in spans) == pytest.approx(apart)


def test_what_is_alike_is_measured_once():
    device = Device()
    decompose([WORK, WORK], device, RATE, 0.0)
    different = {signature(WORK.graph, SHAPE, op) for op in WORK.graph.ops}
    assert device.asked < 2 * len(different)


def test_a_graph_without_cuts_takes_the_launch_that_is_told():
    work = WORK.part(1, 5)  # an attention with its layers
    assert len(boundaries(work.graph, {})) == 2
    found = decompose([work], Device(), RATE, 2.0)
    assert found.launch == 2.0
    total = (
        2.0 + work.moved / RATE + sum(found.operator(work.graph, SHAPE, o) for o in work.graph.ops)
    )
    assert total == pytest.approx(Device()([work])[0])


def test_a_launch_that_noise_hides_is_the_one_that_is_told():
    """A whole that takes longer than its parts."""

    def noisy(works):
        return [10 * time if work is WORK else time for work in works for time in Device()([work])]

    assert decompose([WORK], noisy, RATE, 2.0).launch == 2.0
    least = min(sample.seconds for sample in Device().known.samples.values()) + LAUNCH
    found = decompose([WORK], noisy, RATE, 1e9)
    assert 0 < found.launch <= least + 1e-9
    assert min(sample.seconds for sample in found.samples.values()) > 0


def test_work_is_never_nothing():
    """However much of what was measured seems to be launch."""
    found = decompose([WORK], lambda works: [1.0] * len(works), math.inf, 0.0)
    assert found.launch == pytest.approx(1 - LEAST_SHARE)
    work = [found.operator(WORK.graph, SHAPE, op) for op in WORK.graph.ops]
    assert min(work) > 0
    assert sum(work) == pytest.approx(LEAST_SHARE)


def test_predictions_hold_where_parts_take_less_than_a_mean_cut_costs():
    """On a GPU the smallest part is shorter than what cuts cost on average: it may not limit the
    launch, or the whole takes twice what was measured."""
    spans = list(itertools.pairwise(boundaries(WORK.graph, {})))
    keys = {WORK.part(*span).moved for span in spans}
    assert len(keys) > 1

    def times(works):
        return [13.0 if work is WORK else 5.0 + 3.0 * (work.moved == max(keys)) for work in works]

    found = decompose([WORK], times, math.inf, 0.0)
    assert found.launch > 5.0
    planner = Planner(WORK.graph, SHAPE, {"a": found})
    assert planner.part(0, len(WORK.graph.ops), "a") == pytest.approx(13.0)
    apart = sum(times([WORK.part(*span) for span in spans]))
    assert sum(planner.part(*span, "a") for span in spans) == pytest.approx(apart)


def test_what_does_not_fit_is_not_known():
    """The attention's part and the whole do not fit, single operators do: they take what was
    measured."""
    device = Device(limit=2)
    found = decompose([WORK], device, RATE, LAUNCH)
    kinds = {sample.kind for sample in found.samples.values()}
    assert kinds == {"linear", "norm"}
    assert found.launch == LAUNCH
    for key, sample in found.samples.items():
        assert sample.seconds == pytest.approx(device.known.samples[key].seconds)


def test_a_part_that_does_not_fit_leaves_the_others_as_they_were_measured():
    class Gap(Device):
        def __call__(self, works):
            whole = len(WORK.graph.ops)
            measured = super().__call__(works)
            return [
                math.inf if 1 < len(work.graph.ops) < whole else seconds
                for work, seconds in zip(works, measured, strict=True)
            ]

    device = Gap()
    found = decompose([WORK], device, RATE, LAUNCH)
    assert found.samples
    for key, sample in found.samples.items():
        assert sample.seconds == pytest.approx(device.known.samples[key].seconds)


# --- measured
class Clock:
    """Seconds that only runs take."""

    now = 0.0

    def __call__(self):
        return Clock.now


def test_runs_are_measured_in_turns(monkeypatch):
    """The median of rounds in which everything runs once, after what a program does in between;
    the first does not count."""
    graph = chain([8, 8, 12])
    works = [Work(graph, SHAPE), Work(graph, SHAPE).part(0, 1)]
    order = []
    rounds = itertools.cycle([1.0, 3.0, 2.0, 4.0, 9.0, 1.0])
    times = itertools.chain([9.0] * 2, rounds)

    class Backend:
        def prepare(self, region, shape, lengths):
            Clock.now += 100.0

        def run(self, region, shape, inputs, lengths):
            order.append(len(region.graph.ops))
            Clock.now += next(times)
            return Outcome(region.graph.evaluate(inputs))

    monkeypatch.setattr("transept.host.runtime.session.open_backend", lambda *a, **o: Backend())
    monkeypatch.setattr("time.perf_counter", Clock())
    monkeypatch.setattr(module, "ENOUGH", 1e9)

    def measured():
        return module._measured(Session(TINY, "cpu"), works, lambda: order.append("around"))

    found = measured()
    assert order == [2, 1] + ["around", 2, 1] * module.ROUNDS
    assert found == [2.0, 3.0]
    order.clear()
    monkeypatch.setattr(module, "ENOUGH", 80.0)
    measured()
    assert 2 + 3 * module.FEWEST < len(order) < 2 + 3 * module.ROUNDS
    order.clear()
    monkeypatch.setattr(module, "ENOUGH", 5.0)
    measured()
    assert len(order) == 2 + 3 * module.FEWEST


def test_inputs_fit_and_differ():
    graph = mlp(9, [10, 3, 7], bits=8)
    inputs = random_inputs(graph, SHAPE)
    Region("region", graph, TINY).check(inputs, None)
    for name, x in inputs.items():
        limit = graph.values[name].limit
        assert limit / 8 < abs(x).max() <= limit / 4


@pytest.mark.parametrize("device", ["cpu", "golden", "emulator"])
def test_a_device_has_costs_of_every_operator(device):
    graph = post_norm(1, 16, 2, [24])
    found = calibrate([Work(graph, SHAPE)], [device], TINY)[device]
    assert {signature(graph, SHAPE, op) for op in graph.ops} == found.samples.keys()
    assert 0 < found.launch < 0.1


def test_a_slow_link_is_seen(monkeypatch):
    """Only of a device with a memory of its own."""

    def measured(session, works, around):
        return [5.0 + work.moved / 50 for work in works]

    monkeypatch.setattr(module, "_measured", measured)
    works = [Work(chain([8, 8, 12]), SHAPE)]
    assert module._processor(works, Session(TINY, "gpu"), list).bytes_per_second == pytest.approx(
        50
    )
    assert module._processor(works, Session(TINY, "cpu"), list).bytes_per_second == module.SHARED


def test_what_is_measured_to_know_a_device(monkeypatch):
    """Sums of one row that takes nothing, and of rows that are mostly transfer, where there is a
    link; every device without a fallback."""
    asked = []

    def measured(session, works, around):
        assert around is list
        asked.append((session.device, session._fallback, [work.shape.lengths for work in works]))
        return [0.5 + 2 * work.moved / 1e6 for work in works]

    monkeypatch.setattr(module, "_measured", measured)
    monkeypatch.setattr(module, "_cycles", lambda work, config: float(work.moved))
    told, work = [], Work(chain([8, 8]), SHAPE)
    found = calibrate([work], ["cpu", "gpu", "rtl"], TINY, around=list, progress=told.append)
    again = ["calibrating cpu", "calibrating gpu"]
    assert told == [*again, "calibrating rtl", *again, *again]
    small, large, short, long = ({"rows": rows} for rows in (1, 4096, 16, 512))
    own = [SHAPE.lengths] * 2
    processors = [
        ("cpu", False, [small]),
        ("cpu", False, own),
        ("gpu", False, [small]),
        ("gpu", False, [large]),
        ("gpu", False, own),
    ]
    assert asked == [*processors, ("rtl", False, [short, long]), *processors, *processors]
    small = 2 * 3 * 16 * 2 / 1e6
    assert found["cpu"].launch == pytest.approx(0.5 + small)
    assert found["gpu"].bytes_per_second == pytest.approx(1e6 / 2)
    assert found["rtl"].launch == pytest.approx(0.5)
    assert [costs.bytes_per_second for costs in found.values()][::2] == [1e12, 1e12]


def test_the_fastest_of_three_passes_counts(monkeypatch):
    """As a whole, not sample by sample."""
    speeds = iter([2.0, 1.0, 3.0])
    works = [Work(chain([8, 8, 12]), SHAPE)]

    def processor(works, session, around):
        opened.append(session)
        factor = next(speeds)
        found = DeviceCosts(factor, 1e9)
        found.add("a", Sample("linear", [1.0], factor))
        found.add("b", Sample("linear", [1.0], 1.5 - factor / 10))
        return found

    opened = []
    monkeypatch.setattr(module, "_processor", processor)
    found = calibrate(works, ["cpu"], TINY)["cpu"]
    assert found.launch == 1.0
    assert found.total == pytest.approx(1.0 + 1.0 + 1.4)
    assert len(opened) == module.PASSES == 3
    assert len(set(map(id, opened))) == 1


def test_a_link_that_takes_no_time_still_has_a_rate(monkeypatch):
    monkeypatch.setattr(module, "_measured", lambda session, works, around: [5.0] * len(works))
    found = module._processor([Work(chain([8, 8]), SHAPE)], Session(TINY, "gpu"), list)
    assert found.bytes_per_second == pytest.approx((4096 * 1024 - 16) * 3 * 2 * 1e9)


def test_a_sum_is_one_addition():
    work = module._sum(3, 20)
    assert work.shape == Shape(1, {"rows": 3})
    assert work.moved == 3 * 3 * 20 * 2
    (add,) = work.graph.ops
    y, x = (np.arange(60).reshape(1, 3, 20).astype(np.int16) for _ in range(2))
    assert isinstance(add, Add)
    assert work.graph.evaluate({"y": y, "x": x}).keys() == {"sum"}


def test_how_long_measurements_go_on():
    assert (module.ROUNDS, module.ENOUGH, module.FEWEST) == (15, 5.0, 3)
    assert (module.SMALL, module.LARGE) == ((1, 16), (4096, 1024))
    assert (module.SHORT, module.LONG) == ((16, 64), (512, 64))
    assert LEAST_SHARE == 0.02


@pytest.mark.parametrize(
    ("device", "clock", "yes"), [("rtl", 1e6, 1), ("rtl", None, 0), ("cpu", 1e6, 0)]
)
def test_cycles_at_a_clock_are_for_accelerators(device, clock, yes):
    assert module.clocked(device, clock) is bool(yes)


# --- accelerators
def predicted(graph, found):
    planner = Planner(graph, SHAPE, {"rtl": found})
    return planner.part(0, len(graph.ops), "rtl")


def cycles(graph):
    return Region("region", graph, TINY).executable(SHAPE).predicted_cycles


@pytest.mark.parametrize("device", ["rtl", "emulator"])
def test_the_accelerator_at_a_clock_takes_its_cycles(device):
    graph = chain([16, 16, 24, 16])
    (found,) = calibrate([Work(graph, SHAPE)], [device], TINY, clock=1e6).values()
    assert predicted(graph, found) == pytest.approx(cycles(graph) / 1e6, rel=1e-4)
    assert found.launch > 0
    (slower,) = calibrate([Work(graph, SHAPE)], [device], TINY, clock=1e5).values()
    assert slower.launch == pytest.approx(10 * found.launch, rel=1e-3)


def test_a_simulation_takes_time_to_start_and_for_every_cycle(monkeypatch):
    def measured(session, works, around):
        return [7.0 + 0.5 * module._cycles(work, TINY) for work in works]

    monkeypatch.setattr(module, "_measured", measured)
    graph = chain([16, 16, 24, 16])
    found = calibrate([Work(graph, SHAPE)], ["rtl"], TINY)["rtl"]
    assert predicted(graph, found) == pytest.approx(7.0 + 0.5 * cycles(graph))
    assert found.launch > 7.0


def test_what_the_accelerator_cannot_hold_takes_for_ever():
    assert module._cycles(Work(chain([16, 16]), SHAPE), TINY) < math.inf
    build = GraphBuilder(1)
    first = build.value(4096)
    wide = Work(build.graph([first], [build.norm(first)]), SHAPE)
    assert module._cycles(wide, TINY) == math.inf
