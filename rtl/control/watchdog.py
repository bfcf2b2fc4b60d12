"""The watchdog: says who holds up a run that makes no progress."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from transept.golden import registers
from transept.golden.isa import Engine
from transept.golden.registers import Stall, Unit
from transept.rtl.control.counters import engine_states
from transept.rtl.control.registers import register_layout

__all__ = ["Watchdog"]


class Watchdog(wiring.Component):
    """Fires after ``limit`` cycles of ``running`` without ``progress`` (0: never).

    ``report`` then names the first busy engine, for it does not wait for another one; if none
    is busy, the first that waits for tokens; else CONTROL, the fetch of instructions.

    Members
    -------
    running, progress, clear : In(1)
    limit : In(32)
    states : In(engine_states)
    report : Out(register WATCHDOG), until ``clear``
    """

    report: Any

    def __init__(self) -> None:
        super().__init__(
            {
                "running": In(1),
                "progress": In(1),
                "clear": In(1),
                "limit": In(32),
                "states": In(engine_states()),
                "report": Out(register_layout(registers.find("WATCHDOG"))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        report, quiet_cycles, expired = self.report, Signal(32), Signal()
        m.d.comb += expired.eq((quiet_cycles == self.limit) & (self.limit != 0))
        with m.If(~self.running | self.progress):
            m.d.sync += quiet_cycles.eq(0)
        with m.Elif(~expired):
            m.d.sync += quiet_cycles.eq(quiet_cycles + 1)
        with m.If(self.clear):
            m.d.sync += Value.cast(report).eq(0)
        with m.Elif(self.running & expired & ~report.fired):
            m.d.sync += report.fired.eq(1)
            self._blame(m)
        return m

    def _blame(self, m: Module) -> None:
        report, states = self.report, [self.states[engine] for engine in Engine]
        busy = [state.busy for state in states]
        waiting = [(state.stall == Stall.TOKEN) & ~state.busy for state in states]
        m.d.sync += [
            report.engine.eq(Unit.CONTROL),
            report.stall.eq(Stall.NONE),
            report.busy.eq(Cat(busy)),
            report.waiting.eq(Cat(waiting)),
        ]
        for suspects in (waiting, busy):  # the last assignment wins
            for engine in reversed(Engine):
                with m.If(suspects[engine]):
                    m.d.sync += [
                        report.engine.eq(engine),
                        report.stall.eq(states[engine].stall),
                    ]
