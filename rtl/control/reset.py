"""Soft reset: the bus first, then the engines."""

from __future__ import annotations

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["SoftReset"]

#: Cycles that engines are held in reset.
HOLD_CYCLES = 4


class SoftReset(wiring.Component):
    """Aborts the bus masters, waits until every outstanding burst has ended, resets the rest.

    AXI knows no abort: a burst that was begun must end. While memory does not answer, this stays in
    ``resetting``, and the registers stay readable.

    Members
    -------
    request : In(1)
    idle : In(1), no burst under way
    abort : Out(1), a register, to the bus masters
    reset : Out(1), a register, to everything else but the registers
    resetting : Out(1), from the cycle after the request
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "request": In(1),
                "idle": In(1),
                "abort": Out(1),
                "reset": Out(1),
                "resetting": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        held = Signal(range(HOLD_CYCLES))
        with m.FSM() as fsm:
            m.d.comb += self.resetting.eq(~fsm.ongoing("Run"))
            with m.State("Run"), m.If(self.request):
                m.d.sync += self.abort.eq(1)
                m.next = "Abort"
            with m.State("Abort"):
                # what a master registered in its last cycle shows in ``idle`` one cycle later
                m.next = "Drain"
            with m.State("Drain"), m.If(self.idle):
                m.d.sync += self.reset.eq(1)
                m.next = "Reset"
            with m.State("Reset"):
                m.d.sync += held.eq(held + 1)
                with m.If(held == HOLD_CYCLES - 1):
                    m.d.sync += [self.abort.eq(0), self.reset.eq(0)]
                    m.next = "Run"
        return m
