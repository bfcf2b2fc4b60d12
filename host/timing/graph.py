"""The timing graph of a netlist: who drives which net, and what it takes from net to net."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transept.host.timing.delays import Arcs, cell_arcs, is_dedicated
from transept.host.timing.netlist import Cell, Netlist

__all__ = ["PORT", "Graph", "build_graph"]

#: The kind of what stands at a port of the module.
PORT = "port"

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Graph:
    """Nets are numbered; all delays are in nanoseconds and without those of the nets.

    cells: of the netlist, then one for each port; driver: cell of each net; fanout: ends of each
    net. Launches, edges and ends are parallel arrays; ``wired`` is 1 where the net on the way costs
    time. Edges are sorted by level of their sink, then by sink: ``levels`` has the first edge of
    each level and the one after its last, ``edge_first`` and ``edge_count`` those to each net.
    """

    cells: tuple[Cell, ...]
    driver: Ints
    fanout: Ints
    launch_net: Ints
    launch_ns: Floats
    launch_cell: Ints
    edge_source: Ints
    edge_sink: Ints
    edge_ns: Floats
    edge_wired: Floats
    edge_first: Ints
    edge_count: Ints
    levels: tuple[tuple[int, int], ...]
    end_net: Ints
    end_ns: Floats
    end_wired: Floats
    end_cell: Ints
    end_pin: tuple[str, ...]


@dataclass(frozen=True)
class _Edge:
    source: int
    sink: int
    ns: float
    wired: bool


class _Delays:
    """Delays of cells, by pin, found once for each kind and its parameters."""

    def __init__(self) -> None:
        self._known: dict[tuple, Arcs] = {}

    def of(self, cell: Cell) -> Arcs:
        key = (cell.kind, *(cell.parameters.get(name, "") for name in _MATTERS))
        if key not in self._known:
            self._known[key] = cell_arcs(cell.kind, cell.parameters)
        return self._known[key]


#: Parameters that decide on delays.
_MATTERS = (
    *("AREG", "BREG", "CREG", "DREG", "ADREG", "MREG", "PREG", "USE_DPORT", "USE_MULT"),
    *("DOA_REG", "DOB_REG"),
)


def build_graph(netlist: Netlist) -> Graph:
    """The timing graph of a netlist.

    Raises
    ------
    ValueError
        If a cell is of an unknown kind, an input of one has no delay, two cells drive one net, or
        logic is circular.
    """
    cells = (*netlist.cells, *_port_cells(netlist))
    drivers = _drivers(cells)
    number = {net: i for i, net in enumerate(drivers)}
    fanout = _fanouts(cells, drivers)
    delays = _Delays()
    launches: list[tuple[int, float, int]] = []
    edges: list[_Edge] = []
    ends: list[tuple[int, float, bool, int, str]] = []
    for index, cell in enumerate(cells):
        if cell.kind == PORT:
            launches += [(number[net], 0.0, index) for net in _driven(cell)]
            ends += [
                (number[net], 0.0, True, index, pin) for pin, net in _inputs(cell) if net in drivers
            ]
            continue
        arcs = delays.of(cell)
        inner = _Inner(cell, arcs)
        launches += [(number[net], ns, index) for net, ns in inner.launches()]
        for pin, net in _inputs(cell):
            if net not in drivers or inner.is_ignored(pin):
                continue
            at = drivers[net]
            wired = not is_dedicated((cells[at[0]].kind, at[1]), (cell.kind, pin), fanout[net])
            for out, ns in inner.through(pin):
                edges.append(_Edge(number[net], number[out], ns, wired))
            if (setup := inner.capture(pin)) is not None:
                ends.append((number[net], setup, wired, index, pin))
            elif not inner.leads_on(pin):
                raise ValueError(f"input {pin} of {cell.kind} {cell.name} has no delay")
    return _arrange(cells, drivers, fanout, launches, edges, ends)


def _port_cells(netlist: Netlist) -> Iterator[Cell]:
    """What stands outside at each port: it drives the inputs and takes the outputs."""
    for name, nets in netlist.inputs.items():
        yield Cell(name, PORT, {}, {name: nets}, frozenset({name}))
    for name, nets in netlist.outputs.items():
        yield Cell(name, PORT, {}, {name: nets}, frozenset())


def _bits(cell: Cell, outputs: bool) -> Iterator[tuple[str, int]]:
    """(pin, net) of all pins that are not constant; a port of one bit has no index."""
    for port, nets in cell.pins.items():
        if (port in cell.outputs) == outputs:
            for i, net in enumerate(nets):
                if net is not None:
                    yield (port if len(nets) == 1 else f"{port}[{i}]"), net


def _inputs(cell: Cell) -> Iterator[tuple[str, int]]:
    return _bits(cell, outputs=False)


def _driven(cell: Cell) -> Iterator[int]:
    return (net for _, net in _bits(cell, outputs=True))


def _drivers(cells: tuple[Cell, ...]) -> dict[int, tuple[int, str]]:
    """Index of the cell and pin that drive each net."""
    found: dict[int, tuple[int, str]] = {}
    for index, cell in enumerate(cells):
        for pin, net in _bits(cell, outputs=True):
            if net in found:
                names = f"{cells[found[net][0]].name} and {cell.name}"
                raise ValueError(f"net {net} is driven by {names}")
            found[net] = (index, pin)
    return found


def _fanouts(cells: tuple[Cell, ...], drivers: dict[int, tuple[int, str]]) -> dict[int, int]:
    counts = dict.fromkeys(drivers, 0)
    for cell in cells:
        for _, net in _inputs(cell):
            if net in counts:
                counts[net] += 1
    return counts


class _Inner:
    """Delays of one cell by pin and net."""

    def __init__(self, cell: Cell, arcs: Arcs) -> None:
        self._arcs = arcs
        self._outputs = dict(_bits(cell, outputs=True))
        self._through: dict[str, list[tuple[str, float]]] = defaultdict(list)
        for (pin, out), ns in arcs.through.items():
            self._through[pin].append((out, ns))

    def launches(self) -> Iterator[tuple[int, float]]:
        for pin, net in self._outputs.items():
            ns = _either(self._arcs.launch, pin)
            if ns is not None:
                yield net, ns

    def capture(self, pin: str) -> float | None:
        return _either(self._arcs.capture, pin)

    def through(self, pin: str) -> Iterator[tuple[int, float]]:
        for out, ns in self._through.get(pin) or self._through.get(_port(pin), []):
            if out in self._outputs:
                yield self._outputs[out], ns
            else:
                for found, net in self._outputs.items():
                    if _port(found) == out:
                        yield net, ns

    def is_ignored(self, pin: str) -> bool:
        return _port(pin) in self._arcs.ignored

    def leads_on(self, pin: str) -> bool:
        """Whether it leads to outputs, even if they drive nothing."""
        return pin in self._through or _port(pin) in self._through


def _port(pin: str) -> str:
    return pin.partition("[")[0]


def _either(delays: object, pin: str) -> float | None:
    assert isinstance(delays, dict)
    return delays.get(pin, delays.get(_port(pin)))


def _arrange(
    cells: tuple[Cell, ...],
    drivers: dict[int, tuple[int, str]],
    fanout: dict[int, int],
    launches: list[tuple[int, float, int]],
    edges: list[_Edge],
    ends: list[tuple[int, float, bool, int, str]],
) -> Graph:
    level = _levels(len(drivers), edges, [cells[at].name for at, _ in drivers.values()])
    edges = sorted(edges, key=lambda edge: (level[edge.sink], edge.sink))
    sinks = np.array([edge.sink for edge in edges], np.int64)
    depth = np.array(level, np.int64)[sinks]
    bounds = np.searchsorted(depth, np.arange(1, max(level, default=0) + 2))
    first, count = np.zeros(len(drivers), np.int64), np.zeros(len(drivers), np.int64)
    found, begin, number = np.unique(sinks, return_index=True, return_counts=True)
    first[found], count[found] = begin, number
    return Graph(
        cells=cells,
        driver=np.array([at for at, _ in drivers.values()], np.int64),
        fanout=np.array(list(fanout.values()), np.int64),
        launch_net=np.array([net for net, _, _ in launches], np.int64),
        launch_ns=np.array([ns for _, ns, _ in launches]),
        launch_cell=np.array([cell for _, _, cell in launches], np.int64),
        edge_source=np.array([edge.source for edge in edges], np.int64),
        edge_sink=sinks,
        edge_ns=np.array([edge.ns for edge in edges]),
        edge_wired=np.array([edge.wired for edge in edges], np.float64),
        edge_first=first,
        edge_count=count,
        levels=tuple(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)),
        end_net=np.array([end[0] for end in ends], np.int64),
        end_ns=np.array([end[1] for end in ends]),
        end_wired=np.array([end[2] for end in ends], np.float64),
        end_cell=np.array([end[3] for end in ends], np.int64),
        end_pin=tuple(end[4] for end in ends),
    )


def _levels(nets: int, edges: list[_Edge], names: list[str]) -> list[int]:
    """Of each net, the most cells between it and a launch.

    Raises
    ------
    ValueError
        If the logic is circular; the message names a cell of the circle.
    """
    sinks: list[list[int]] = [[] for _ in range(nets)]
    waiting = [0] * nets
    for edge in edges:
        sinks[edge.source].append(edge.sink)
        waiting[edge.sink] += 1
    level = [0] * nets
    ready = deque(net for net in range(nets) if not waiting[net])
    while ready:
        net = ready.popleft()
        for sink in sinks[net]:
            level[sink] = max(level[sink], level[net] + 1)
            waiting[sink] -= 1
            if not waiting[sink]:
                ready.append(sink)
    if any(waiting):
        circle = next(net for net in range(nets) if waiting[net])
        raise ValueError(f"circular logic through {names[circle]}")
    return level
