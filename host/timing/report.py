"""An estimate of the clock that a 7-series part supports, and the longest paths by block."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np

from transept.golden.config import Config
from transept.host.synth import count
from transept.host.timing.delays import ASSUMPTIONS, CORNERS, DELAYS, NetDelay
from transept.host.timing.graph import PORT, Graph, build_graph
from transept.host.timing.mapped import map_accelerator
from transept.host.timing.netlist import Cell, Netlist
from transept.host.timing.sta import Way, analyse
from transept.host.yosys import SYNTHESISE_XC7, synthesiser
from transept.sim import tools

__all__ = ["REPORTED", "estimate", "timing_report"]

#: The model of the nets by which paths are ranked and the clock is named.
REPORTED = "nominal"
#: Modules around the accelerator, which every scope begins with.
_OUTER = ("core",)
#: Names of nested modules that make a block.
_DEPTH = 2
#: Registers that are told beside a path, for each of its cells.
_SHOWN = 2


def estimate(config: Config, paths: int = 20) -> dict[str, Any]:
    """The timing of the whole accelerator: synthesised, or found as it was synthesised before.

    See ``timing_report`` for the keys.

    Raises
    ------
    ToolMissing, BuildError
        If Amaranth or Yosys is not installed, or fails.
    """
    report = timing_report(map_accelerator(config), 1000 / config.clock_mhz, paths)
    needed = synthesiser()
    commands = SYNTHESISE_XC7.replace("\n", "; ")
    report["method"]["synthesis"] = f"{commands}, {tools.package_versions(needed)}"
    return {"config": config.name} | report


def timing_report(netlist: Netlist, period_ns: float, paths: int) -> dict[str, Any]:
    """What static timing finds in a mapped netlist.

    longest_ns: by model of the nets; fmax_mhz: by the nominal one; late: of all ``ends`` of paths,
    those whose path is longer than ``period_ns``; resources: as ``synth.count``; paths: the longest
    of each pair of blocks, by the nominal model, so many of them, each with its cells; method:
    where every delay is from.
    """
    graph = build_graph(netlist)
    found = {name: analyse(graph, delay) for name, delay in CORNERS.items()}
    longest = {name: round(timing.longest, 2) for name, timing in found.items()}
    return {
        "longest_ns": longest,
        "fmax_mhz": round(1000 / longest[REPORTED], 1) if longest[REPORTED] else None,
        "period_ns": period_ns,
        "late": {name: int((found[name].required > period_ns).sum()) for name in CORNERS},
        "ends": len(graph.end_pin),
        "resources": count(Counter(cell.kind for cell in netlist.cells)),
        "paths": _longest_paths(graph, CORNERS[REPORTED], paths),
        "method": _method(),
    }


def _method() -> dict[str, Any]:
    nets = {name: f"{at.base} + {at.slope} * log2(fan-out)" for name, at in CORNERS.items()}
    cells = {name: {"ns": ns, "source": source} for name, (ns, source) in DELAYS.items()}
    return {
        "kind": "estimate before place and route: static timing of the flat mapped netlist",
        "nets_ns": nets,
        "cells": cells,
        "assumptions": list(ASSUMPTIONS),
    }


# --- paths ---------------------------------------------------------------------------------------


def _longest_paths(graph: Graph, delay: NetDelay, count: int) -> list[dict[str, Any]]:
    """The longest path of each pair of blocks, longest first."""
    clocked = np.unique(np.concatenate([graph.launch_cell, graph.end_cell]))
    blocks = {cell: _block(_placed(graph, cell)) for cell in clocked.tolist()}
    starts = np.array([blocks[cell] for cell in graph.launch_cell.tolist()])
    ends: dict[str, list[int]] = defaultdict(list)
    for end, cell in enumerate(graph.end_cell.tolist()):
        ends[blocks[cell]].append(end)
    ways: list[tuple[str, str, Way]] = []
    for start in sorted(set(starts)):
        timing = analyse(graph, delay, starts == start)
        for block, its in ends.items():
            at = its[int(timing.required[its].argmax())]
            if timing.required[at] > 0:
                ways.append((start, block, timing.way(at)))
        ways = sorted(ways, key=lambda found: -found[2].ns)[:count]
    return [_shown(graph, *way) for way in ways]


def _shown(graph: Graph, start: str, end: str, way: Way) -> dict[str, Any]:
    cells = [graph.cells[graph.driver[net]] for net in way.nets]
    return {
        "ns": round(way.ns, 2),
        "from": _place(_placed(graph, way.start)),
        "to": f"{_place(_placed(graph, way.end))} {way.pin}",
        "block": start if start == end else f"{start} -> {end}",
        "levels": len(cells) - 1,
        "fanout": max(int(graph.fanout[net]) for net in way.nets),
        "steps": [
            {
                "ns": round(time, 2),
                "cell": cell.kind,
                "fanout": int(graph.fanout[net]),
                "at": _place(cell) if cell.source or cell.scope else "",
                "beside": _beside(graph, way, index),
            }
            for index, (cell, net, time) in enumerate(zip(cells, way.nets, way.times, strict=True))
        ],
    }


def _beside(graph: Graph, way: Way, index: int) -> list[str]:
    """Registers and memories that enter a cell beside the path: they tell what a LUT decides."""
    net = way.nets[index]
    first, count = graph.edge_first[net], graph.edge_count[net]
    sources = graph.edge_source[first : first + count]
    found = {graph.driver[source] for source in sources if source not in way.nets}
    cells = (graph.cells[at] for at in sorted(found))
    places = dict.fromkeys(_place(cell) for cell in cells if cell.scope or cell.source)
    return list(places)[:_SHOWN]


def _placed(graph: Graph, index: int) -> Cell:
    """The cell, or if the mapping lost where it is from, the first one after it that has a place.

    Shift registers are such cells.
    """
    cell = graph.cells[index]
    if cell.scope or cell.source or cell.kind == PORT:
        return cell
    for net in np.flatnonzero(graph.driver == index):
        ends = graph.end_cell[graph.end_net == net]
        sinks = graph.driver[graph.edge_sink[graph.edge_source == net]]
        for found in (*ends, *sinks):
            if graph.cells[found].scope or graph.cells[found].source:
                return graph.cells[found]
    return cell


def _names(cell: Cell) -> tuple[str, ...]:
    """Names of the modules that a cell is in; by the file that it is from, if they were lost."""
    if cell.scope:
        names = cell.scope
        return names[1:] if names[0] in _OUTER else names
    if cell.source:
        path = cell.source.rpartition(":")[0].removesuffix(".py").split("/")
        return tuple(path[path.index("rtl") + 1 :] if "rtl" in path else path[-1:])
    return ("ports",) if cell.kind == PORT else ("logic",)


def _block(cell: Cell) -> str:
    return ".".join(_names(cell)[:_DEPTH]) or "top"


def _place(cell: Cell) -> str:
    """Modules, and the line of the source."""
    names = cell.name if cell.kind == PORT else ".".join(_names(cell)) or "top"
    return f"{names} {cell.source}".strip()
