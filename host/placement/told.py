"""What was planned and what happened, as rows of numbers."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from transept.host.placement.plan import Plan, PlannedPart
from transept.host.placement.scheduler import Placed, PlacedPart
from transept.host.placement.solve import Piece, makespan

__all__ = ["median_run", "part_rows", "plan_rows", "summary", "with_columns"]


def median_run(runs: Sequence[Placed]) -> Placed:
    """The last of some runs of a region, each part with the median of its seconds in all."""
    last = runs[-1]
    parts = []
    for part in last.parts:
        alike = [p.result.seconds for run in runs for p in run.parts if p.planned == part.planned]
        result = part.result._replace(seconds=statistics.median(alike))
        parts.append(replace(part, result=result))
    return replace(last, parts=parts)


def plan_rows(plan: Plan) -> list[dict[str, Any]]:
    """A row for each part, in the order of the graph: what runs where, its predicted milliseconds,
    and those that it would take elsewhere."""
    return [_planned(part) for part in plan.parts]


def part_rows(placed: Placed, clock: float | None = None) -> list[dict[str, Any]]:
    """The same of parts that ran, with measured milliseconds; cycles, counted and predicted, if
    some device counts them. clock: cycles a second that an accelerator's time is counted by."""
    parts = _in_order(placed)
    counts = any(_cycles(part) for part in parts)
    return [_row(part, clock, counts) for part in parts]


def with_columns(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with a column for each device where something is elsewhere, None where it cannot run."""
    devices = sorted({name for row in rows for name in row["elsewhere_ms"]})
    return [
        {name: value for name, value in row.items() if name != "elsewhere_ms"}
        | {f"on_{name}_ms": row["elsewhere_ms"].get(name) for name in devices}
        for row in rows
    ]


def _in_order(placed: Placed) -> list[PlacedPart]:
    return sorted(placed.parts, key=lambda part: part.planned.first)


def _cycles(part: PlacedPart) -> int | None:
    """Counted cycles; None on a device that knows no time."""
    report = part.result.report
    return None if report is None else report.cycles or None


def _planned(part: PlannedPart) -> dict[str, Any]:
    first, last = part.operators[0], part.operators[-1]
    return {
        "part": first if first == last else f"{first} .. {last}",
        "operators": len(part.operators),
        "device": part.device,
        "predicted_ms": part.seconds * 1e3,
        "of_it_transfer_ms": part.transfer * 1e3,
        "elsewhere_ms": {device: time * 1e3 for device, time in part.elsewhere.items()},
    }


def _row(part: PlacedPart, clock: float | None, counts: bool) -> dict[str, Any]:
    executable, cycles = part.result.executable, _cycles(part)
    row = _planned(part.planned) | {"measured_ms": _seconds(part, clock) * 1e3}
    if counts:
        predicted = executable.predicted_cycles if cycles and executable else None
        row |= {"cycles": cycles, "predicted_cycles": predicted}
    return row


def _seconds(part: PlacedPart, clock: float | None) -> float:
    cycles = _cycles(part)
    return part.result.seconds if clock is None or cycles is None else cycles / clock


def summary(placed: Placed, clock: float | None = None) -> dict[str, Any]:
    """The whole region: predicted and measured, parts that can run at the same time at the same
    time; whether no other parts take less by prediction; every device alone, and what no plan can
    beat."""
    plan = placed.plan
    measured = [
        Piece(part.planned.first, part.planned.end, part.result.device, _seconds(part, clock))
        for part in _in_order(placed)
    ]
    return {
        "region": placed.region.name,
        "predicted_ms": plan.seconds * 1e3,
        "measured_ms": makespan(placed.region.graph, measured) * 1e3,
        "alone_ms": {device: time * 1e3 for device, time in plan.alone.items()},
        "bound_ms": plan.bound * 1e3,
        "least": plan.least,
    }
