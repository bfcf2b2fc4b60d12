"""Engines hold still while they have no work: idle logic takes no power."""

from __future__ import annotations

from amaranth import EnableInserter, Module, Signal
from amaranth.hdl import Elaboratable, ValueLike
from amaranth.lib import wiring

__all__ = ["rest_when_idle"]


def rest_when_idle(m: Module, engine: wiring.Component, *, unless: ValueLike = 0) -> Elaboratable:
    """``engine``, which has ``engine_members``, with its registers held while it has no work.

    It moves while an instruction is offered to it, while it is busy, for one cycle more, in which
    the last pulses of its outputs end, and in the cycles of ``unless``. It is busy from the cycle
    after it has taken an instruction, so what was offered or busy a cycle ago says it all.
    """
    lately = Signal()
    m.d.sync += lately.eq(engine.instr.valid | engine.busy)
    return EnableInserter(engine.instr.valid | lately | unless)(engine)
