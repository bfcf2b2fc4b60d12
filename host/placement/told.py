"""What was planned and what happened, as rows of numbers."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from transept.host.placement.scheduler import Placed, PlacedPart
from transept.host.placement.solve import Piece, makespan

__all__ = ["median_run", "part_rows", "summary"]


def median_run(runs: Sequence[Placed]) -> Placed:
    """The last of some runs of a region, each part with the median of its seconds in all."""
    last = runs[-1]
    parts = []
    for part in last.parts:
        alike = [p.result.seconds for run in runs for p in run.parts if p.planned == part.planned]
        result = replace(part.result, seconds=statistics.median(alike))
        parts.append(replace(part, result=result))
    return replace(last, parts=parts)


def part_rows(placed: Placed, clock: float | None = None) -> list[dict[str, Any]]:
    """A row for each part, in the order of the graph: what runs where, its predicted and measured
    milliseconds, and what it would take elsewhere; cycles, counted and predicted, if some device
    counts them. clock: cycles a second that an accelerator's time is counted by."""
    parts = _in_order(placed)
    counts = any(_cycles(part) for part in parts)
    return [_row(part, clock, counts) for part in parts]


def _in_order(placed: Placed) -> list[PlacedPart]:
    return sorted(placed.parts, key=lambda part: part.planned.first)


def _cycles(part: PlacedPart) -> int | None:
    """Counted cycles; None on a device that knows no time."""
    report = part.result.report
    return None if report is None else report.cycles or None


def _row(part: PlacedPart, clock: float | None, counts: bool) -> dict[str, Any]:
    planned, executable = part.planned, part.result.executable
    first, last = planned.operators[0], planned.operators[-1]
    row: dict[str, Any] = {
        "part": first if first == last else f"{first} .. {last}",
        "operators": len(planned.operators),
        "device": part.result.device,
        "predicted_ms": planned.seconds * 1e3,
        "of_it_transfer_ms": planned.transfer * 1e3,
        "measured_ms": _seconds(part, clock) * 1e3,
        "elsewhere_ms": {device: time * 1e3 for device, time in planned.elsewhere.items()},
    }
    if counts:
        cycles = _cycles(part)
        row["cycles"] = cycles
        row["predicted_cycles"] = executable.predicted_cycles if cycles and executable else None
    return row


def _seconds(part: PlacedPart, clock: float | None) -> float:
    cycles = _cycles(part)
    return part.result.seconds if clock is None or cycles is None else cycles / clock


def summary(placed: Placed, clock: float | None = None) -> dict[str, Any]:
    """The whole region: predicted and measured, parts that can run at the same time at the same
    time; every device alone, and what no plan can beat."""
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
    }
