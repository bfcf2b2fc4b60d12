"""Static timing: when the value of each net is there at the latest, and along which way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from transept.host.timing.delays import NetDelay
from transept.host.timing.graph import Bools, Floats, Graph

__all__ = ["Timing", "Way", "analyse"]


@dataclass(frozen=True)
class Way:
    """From one register to another: the nets on the way, first to last, and the time at each.

    start, end: cells; pin: of the end; ns: from clock to clock.
    """

    ns: float
    start: int
    end: int
    pin: str
    nets: tuple[int, ...]
    times: tuple[float, ...]


@dataclass(frozen=True)
class Timing:
    """Times of arrival, nanoseconds after the clock; -inf where nothing arrives.

    wires: what each net adds on its way to an end; arrival: of each net, where it is driven;
    required: clock to clock, of each end.
    """

    graph: Graph
    wires: Floats
    arrival: Floats
    required: Floats

    @property
    def longest(self) -> float:
        """Nanoseconds from clock to clock; 0 if there is no way."""
        return float(self.required.max(initial=0.0))

    def way(self, end: int) -> Way:
        """The slowest way to one end.

        Raises
        ------
        ValueError
            If nothing arrives there.
        """
        graph = self.graph
        if self.required[end] == -np.inf:
            raise ValueError(f"nothing arrives at {graph.cells[graph.end_cell[end]].name}")
        net: int | None = int(graph.end_net[end])
        nets: list[int] = []
        while net is not None:
            nets.insert(0, net)
            net = self._before(net)
        return Way(
            ns=float(self.required[end]),
            start=int(graph.driver[nets[0]]),
            end=int(graph.end_cell[end]),
            pin=graph.end_pin[end],
            nets=tuple(nets),
            times=tuple(float(self.arrival[net]) for net in nets),
        )

    def _before(self, net: int) -> int | None:
        """The net that the value of this one waited for; None if it waited for the clock."""
        graph = self.graph
        first, last = graph.edge_first[net], graph.edge_first[net] + graph.edge_count[net]
        if first == last:
            return None
        times = _times(graph, self.wires, self.arrival, first, last)
        best = int(times.argmax())
        if times[best] < self.arrival[net]:
            return None
        return int(graph.edge_source[first + best])


def _times(graph: Graph, wires: Floats, arrival: Floats, first: int, last: int) -> Floats:
    """When the values of some edges arrive at their sinks."""
    sources = graph.edge_source[first:last]
    return (
        arrival[sources] + graph.edge_wired[first:last] * wires[sources] + graph.edge_ns[first:last]
    )


def analyse(graph: Graph, delay: NetDelay, starts: Bools | None = None) -> Timing:
    """Arrival times with one model of the nets, of all launches or those that ``starts`` marks."""
    wires = delay.base + delay.slope * np.log2(np.maximum(graph.fanout, 1))
    arrival = np.full(len(graph.driver), -np.inf)
    chosen = np.ones(len(graph.launch_net), bool) if starts is None else starts
    np.maximum.at(arrival, graph.launch_net[chosen], graph.launch_ns[chosen])
    for first, last in graph.levels:
        times = _times(graph, wires, arrival, first, last)
        sinks, begin = np.unique(graph.edge_sink[first:last], return_index=True)
        arrival[sinks] = np.maximum(arrival[sinks], np.maximum.reduceat(times, begin))
    required = arrival[graph.end_net] + graph.end_wired * wires[graph.end_net] + graph.end_ns
    return Timing(graph, wires, arrival, required)
