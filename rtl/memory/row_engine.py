"""What the engines that work row by row have in common: one instruction at a time."""

from __future__ import annotations

from amaranth import Cat, Module, Signal, Value
from amaranth.lib import stream

from transept.golden.registers import Stall
from transept.rtl.memory.row_writer import RowWriter

__all__ = ["run_rows"]


def run_rows(
    m: Module, engine: object, rows: Value, walk: stream.Interface, writer: RowWriter
) -> Signal:
    """Drive the ports that every engine has: hand the instruction to ``walk``, retire it when
    ``writer`` has written its last row.

    engine: a component with ``engine_members``, ``act_read``, ``act_write`` and ``rowstat_write``;
    rows: the instruction's rows minus one; walk: stream of instructions, ready while no instruction
    runs. Returns a signal that is high in the cycle in which an instruction is accepted.
    """
    rows_left, active, accepted = Signal.like(rows), Signal(), Signal()
    m.d.comb += [
        walk.payload.eq(engine.instr.payload),
        walk.valid.eq(engine.instr.valid & ~active),
        engine.instr.ready.eq(~active),
        engine.busy.eq(active | engine.retire),
        accepted.eq(walk.valid),
    ]
    ports = (engine.act_read, engine.act_write, engine.rowstat_write)
    with m.If(Cat(port.en & ~port.ready for port in ports).any()):
        m.d.comb += engine.stall.eq(Stall.SCRATCHPAD)
    m.d.sync += engine.retire.eq(0)
    with m.If(~active):
        m.d.sync += [rows_left.eq(rows), active.eq(engine.instr.valid)]
    with m.Elif(writer.written):
        m.d.sync += rows_left.eq(rows_left - 1)
        with m.If(rows_left == 0):
            m.d.sync += [active.eq(0), engine.retire.eq(1)]
    return accepted
