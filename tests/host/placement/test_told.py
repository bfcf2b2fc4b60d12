"""What is told of a run: parts, times, cycles, and the median of several runs."""

import dataclasses

import pytest
from graphs import mlp, random_inputs
from placements import costs, two_chains

from transept.golden.config import TINY
from transept.host.placement.scheduler import Scheduler
from transept.host.placement.told import median_run, part_rows, plan_rows, summary, with_columns
from transept.host.runtime.region import Region
from transept.host.runtime.session import Session


def run(graph, devices, **options):
    known = {device: costs(graph, i) for i, device in enumerate(devices)}
    sessions = {name: Session(TINY, name, fallback=False) for name in known}
    scheduler = Scheduler(sessions.__getitem__, known, **options)
    return scheduler.run(Region("region", graph, TINY), random_inputs(graph, 2, 8))


def timed(placed, seconds, cycles=None):
    """The run with other seconds, and cycles of those parts that have a report."""
    parts = []
    for part, taken in zip(placed.parts, seconds, strict=True):
        report = part.result.report
        if report is not None and cycles is not None:
            report = dataclasses.replace(report, cycles=cycles)
        result = part.result._replace(seconds=taken, report=report)
        parts.append(dataclasses.replace(part, result=result))
    return dataclasses.replace(placed, parts=parts)


def test_what_happened_is_told():
    graph = mlp(1, [10, 24, 7])
    placed = run(graph, ("cpu", "golden"))
    rows, whole = part_rows(placed), summary(placed)
    assert sum(row["operators"] for row in rows) == len(graph.ops)
    assert rows[0]["part"].startswith(graph.ops[0].name)
    for row, planned in zip(rows, placed.plan.parts, strict=True):
        assert {*row["elsewhere_ms"], row["device"]} == {"cpu", "golden"}
        assert row["predicted_ms"] == planned.seconds * 1e3
        assert row["of_it_transfer_ms"] == planned.transfer * 1e3
        assert row["elsewhere_ms"] == {n: t * 1e3 for n, t in planned.elsewhere.items()}
        assert "cycles" not in row
    assert whole["region"] == "region"
    assert whole["predicted_ms"] == placed.plan.seconds * 1e3
    assert whole["alone_ms"] == {n: t * 1e3 for n, t in placed.plan.alone.items()}
    assert whole["bound_ms"] == placed.plan.bound * 1e3
    assert whole["least"] is placed.plan.least is True


def test_a_plan_is_told_before_it_runs():
    placed = run(mlp(1, [10, 24, 7]), ("cpu", "golden"))
    names = ("part", "operators", "device", "predicted_ms", "of_it_transfer_ms", "elsewhere_ms")
    wanted = [{name: row[name] for name in names} for row in part_rows(placed)]
    assert plan_rows(placed.plan) == wanted


def test_a_part_is_named_by_its_first_and_last_operator():
    graph = mlp(1, [10, 24, 7])
    first, last = graph.ops[0].name, graph.ops[-1].name
    assert [row["part"] for row in part_rows(run(graph, ("cpu",)))] == [f"{first} .. {last}"]
    apart = run(graph, ("cpu", "golden"), pins={"*": "cpu", first: "golden"})
    assert part_rows(apart)[0]["part"] == first


def test_elsewhere_is_a_column_for_each_device():
    rows = [{"part": "a", "elsewhere_ms": {"x": 1.0}}, {"part": "b", "elsewhere_ms": {"y": 2.0}}]
    assert with_columns(rows) == [
        {"part": "a", "on_x_ms": 1.0, "on_y_ms": None},
        {"part": "b", "on_x_ms": None, "on_y_ms": 2.0},
    ]
    assert "elsewhere_ms" in rows[0]


def test_parts_at_the_same_time_are_not_added_up():
    placed = run(
        two_chains(), ("cpu", "golden"), pins={"linear[01]": "cpu", "linear[23]": "golden"}
    )
    assert len(placed.parts) == 2
    placed = timed(placed, [0.003, 0.005])
    assert summary(placed)["measured_ms"] == pytest.approx(5.0)


def test_cycles_are_told_where_a_device_counts_them():
    graph = mlp(1, [10, 24, 7])
    pins = {"*": "golden", "linear0": "emulator"}
    placed = run(graph, ("golden", "emulator"), pins=pins)
    assert all("cycles" not in row for row in part_rows(placed))  # the emulator knows no time
    placed = timed(placed, [0.5] * len(placed.parts), cycles=2000)
    first, *others = part_rows(placed, clock=1e6)
    executable = placed.parts[0].result.executable
    assert (first["cycles"], first["predicted_cycles"]) == (2000, executable.predicted_cycles)
    assert first["measured_ms"] == pytest.approx(2.0)
    assert others
    for row in others:
        assert (row["cycles"], row["predicted_cycles"]) == (None, None)
        assert row["measured_ms"] == pytest.approx(500.0)
    assert part_rows(placed)[0]["measured_ms"] == pytest.approx(500.0)
    uncounted = timed(placed, [0.5] * len(placed.parts), cycles=0)  # the emulator's clock stands
    assert part_rows(uncounted, clock=1e6)[0]["measured_ms"] == pytest.approx(500.0)
    assert summary(placed, clock=1e6)["measured_ms"] == pytest.approx(2.0 + 500.0 * len(others))


def test_rows_are_in_the_order_of_the_graph():
    placed = run(
        two_chains(), ("cpu", "golden"), pins={"linear[01]": "cpu", "linear[23]": "golden"}
    )
    turned = dataclasses.replace(placed, parts=placed.parts[::-1])
    assert [row["part"] for row in part_rows(turned)] == [row["part"] for row in part_rows(placed)]


def test_the_median_of_runs():
    placed = run(mlp(1, [10, 24, 7]), ("cpu", "golden"))
    count = len(placed.parts)
    runs = [
        dataclasses.replace(timed(placed, [seconds] * count), begun=begun)
        for begun, seconds in enumerate((5.0, 1.0, 2.0))
    ]
    assert median_run(runs).begun == 2
    assert [part.result.seconds for part in median_run(runs).parts] == [2.0] * count
    assert median_run(runs).plan == placed.plan
