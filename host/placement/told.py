"""What was planned and what happened, as rows of numbers."""

from __future__ import annotations

from typing import Any

from transept.host.placement.scheduler import Placed, PlacedPart

__all__ = ["part_rows", "summary"]


def part_rows(placed: Placed, clock: float | None = None) -> list[dict[str, Any]]:
    """A row for each part, in the order of the graph: what runs where, its predicted and measured
    milliseconds, and what it would take elsewhere; clock: cycles a second that an accelerator's
    time is counted by."""
    parts = sorted(placed.parts, key=lambda part: part.planned.first)
    return [_row(part, clock) for part in parts]


def _row(part: PlacedPart, clock: float | None) -> dict[str, Any]:
    planned = part.planned
    first, last = planned.operators[0], planned.operators[-1]
    return {
        "part": first if first == last else f"{first} .. {last}",
        "operators": len(planned.operators),
        "device": part.result.device,
        "predicted_ms": planned.seconds * 1e3,
        "of_it_transfer_ms": planned.transfer * 1e3,
        "measured_ms": _seconds(part, clock) * 1e3,
        "elsewhere_ms": {device: time * 1e3 for device, time in planned.elsewhere.items()},
    }


def _seconds(part: PlacedPart, clock: float | None) -> float:
    report = part.result.report
    if clock is not None and report is not None and report.cycles:
        return report.cycles / clock
    return part.result.seconds


def summary(placed: Placed, clock: float | None = None) -> dict[str, Any]:
    """The whole region: predicted and measured, every device alone, and what no plan can beat."""
    plan = placed.plan
    return {
        "region": placed.region.name,
        "predicted_ms": plan.seconds * 1e3,
        "measured_ms": sum(_seconds(part, clock) for part in placed.parts) * 1e3,
        "alone_ms": {device: time * 1e3 for device, time in plan.alone.items()},
        "bound_ms": plan.bound * 1e3,
    }
