"""Performance counters of a run."""

from __future__ import annotations

from amaranth import Module, Signal, Value
from amaranth.hdl import ShapeLike
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.isa import Engine
from transept.golden.registers import STALLS, Stall

__all__ = ["Counters", "engine_states"]


def engine_states() -> ShapeLike:
    """For each of ``isa.Engine``: whether it is busy, and what it waits for."""
    return data.ArrayLayout(data.StructLayout({"busy": 1, "stall": Stall}), len(Engine))


class Counters(wiring.Component):
    """Counts cycles: ``cycles`` always, the others while ``running``, from ``clear`` on.

    An engine that is busy counts in ``<engine>_busy``, also while it stalls; what it counts in
    ``<engine>_stall_token`` are cycles in which only tokens keep it from working.

    Members
    -------
    running, clear : In(1)
    states : In(engine_states)
    array_active : In(1)
    retired : In(3), instructions retired in this cycle
    cycles, run_cycles, array_cycles : Out(64)
    instructions, and one for each name in ``NAMES`` : Out(32)
    """

    #: Counter of each engine and each of its stall reasons (None: busy).
    NAMES = {
        f"{engine.name}_{'busy' if stall is None else f'stall_{stall.name}'}".lower(): (
            engine,
            stall,
        )
        for engine in Engine
        for stall in (None, *STALLS[engine])
    }

    def __init__(self) -> None:
        super().__init__(
            {
                "running": In(1),
                "clear": In(1),
                "states": In(engine_states()),
                "array_active": In(1),
                "retired": In(3),
                "cycles": Out(64),
                "run_cycles": Out(64),
                "array_cycles": Out(64),
                "instructions": Out(32),
                **{name: Out(32) for name in self.NAMES},
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += self.cycles.eq(self.cycles + 1)
        self._count(m, self.run_cycles, self.running)
        self._count(m, self.array_cycles, self.running & self.array_active)
        self._count(m, self.instructions, self.retired)
        for name, (engine, stall) in self.NAMES.items():
            state, event = self.states[engine], Signal(name=f"{name}_event")
            hit = state.busy if stall is None else state.stall == stall
            m.d.sync += event.eq(hit & self.running)
            self._count(m, getattr(self, name), event)
        return m

    def _count(self, m: Module, counter: Value, amount: Value) -> None:
        with m.If(self.clear):
            m.d.sync += counter.eq(0)
        with m.Elif(amount != 0):
            m.d.sync += counter.eq(counter + amount)
