"""What nextpnr says of a routed design, by the blocks that its cells are from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transept.host.timing.netlist import Netlist

__all__ = ["summarise"]

#: Modules around the accelerator's blocks, which every scope begins with.
_OUTER = ("linked", "core", "core")
#: Names of nested modules that make a block.
_DEPTH = 2
#: In place of a clock, for what enters or leaves by a pin.
_NO_CLOCK = "<async>"


def summarise(report: Mapping[str, Any], netlist: Netlist) -> dict[str, Any]:
    """Resources, clocks and longest paths.

    resources: used and available, by kind, without what is not used; clocks: MHz reached and asked
    for; paths: the longest of each clock, with the steps that it takes; ends: by block, the longest
    path in ns that ends in it and how many end there, longest first.
    """
    blocks = {cell.name: _block(cell.scope) for cell in netlist.cells}
    used = {name: dict(of) for name, of in report["utilization"].items() if of["used"]}
    return {
        "resources": dict(sorted(used.items())),
        "clocks": dict(sorted(report["fmax"].items())),
        "paths": [_path(found, blocks) for found in report["critical_paths"] if _clocked(found)],
        "ends": _ends(report["detailed_net_timings"], blocks),
    }


def _block(scope: tuple[str, ...]) -> str:
    """The block of a cell, of the board's top if it is in none."""
    if scope[: len(_OUTER)] == _OUTER:
        scope = scope[len(_OUTER) :]
    return ".".join(scope[:_DEPTH]) or "top"


def _at(cell: str, blocks: Mapping[str, str]) -> str:
    """The block of a cell that nextpnr names: what it makes of one has that one's name first."""
    while cell not in blocks and "$" in cell.lstrip("$"):
        cell = cell.rpartition("$")[0]
    return blocks.get(cell, "logic")


def _clocked(path: Mapping[str, Any]) -> bool:
    return _NO_CLOCK not in (path["from"], path["to"])


def _path(found: Mapping[str, Any], blocks: Mapping[str, str]) -> dict[str, Any]:
    steps = found["path"]
    routing = sum(step["delay"] for step in steps if step["type"] == "routing")
    start, end = (
        _at(steps[0]["from"]["cell"], blocks),
        _at(steps[-1]["to"]["cell"], blocks),
    )
    return {
        "clock": found["to"].rpartition(" ")[2],
        "ns": round(sum(step["delay"] for step in steps), 2),
        "routing_ns": round(routing, 2),
        "levels": sum(step["type"] == "logic" for step in steps),
        "block": start if start == end else f"{start} -> {end}",
        "steps": [
            {
                "ns": round(step["delay"], 2),
                "type": step["type"],
                "cell": step["to"]["cell"],
                "port": step["to"]["port"],
                "block": _at(step["to"]["cell"], blocks),
            }
            for step in steps
        ],
    }


def _ends(nets: list[dict[str, Any]], blocks: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    longest: dict[str, float] = {}
    count: dict[str, int] = {}
    for net in nets:
        for end in net["endpoints"]:
            if _NO_CLOCK in (net["event"], end["event"]):
                continue
            block = _at(end["cell"], blocks)
            longest[block] = max(longest.get(block, 0.0), end["delay"][1])
            count[block] = count.get(block, 0) + 1
    order = sorted(longest, key=lambda block: (-longest[block], block))
    return {block: {"ns": round(longest[block], 2), "count": count[block]} for block in order}
