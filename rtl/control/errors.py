"""The first error of a run."""

from __future__ import annotations

from typing import Any

from amaranth import Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.isa import Engine
from transept.golden.registers import UNIT_BITS, ErrorCode, Unit
from transept.rtl.memory.windows import violation_layout

__all__ = ["SOURCES", "ErrorLatch"]

#: Every condition that ends a run, in order of precedence, and what it means.
SOURCES = {
    "fetch_window": (ErrorCode.WINDOW, Unit.CONTROL),
    "load_window": (ErrorCode.WINDOW, Unit.LOAD),
    "store_window": (ErrorCode.WINDOW, Unit.STORE),
    "operand": (ErrorCode.ILLEGAL_OPERAND, Unit.LOAD),
    "instruction": (ErrorCode.ILLEGAL_INSTRUCTION, Unit.CONTROL),
    "read_response": (ErrorCode.BUS, Unit.LOAD),
    "write_response": (ErrorCode.BUS, Unit.STORE),
    **{
        f"{engine.name}_tokens".lower(): (ErrorCode.TOKEN_OVERFLOW, Unit[engine.name])
        for engine in Engine
    },
}


class ErrorLatch(wiring.Component):
    """Keeps the first error until ``clear``; of simultaneous ones the first in ``SOURCES``.

    Members
    -------
    one for each name in SOURCES : In(violation_layout), window and offset are 0 for most
    clear : In(1)
    code, engine, window, offset : Out(4, 4, 2 and 32 bits), code NONE without an error
    """

    code: Any

    def __init__(self) -> None:
        super().__init__(
            {
                **{name: In(violation_layout()) for name in SOURCES},
                "clear": In(1),
                "code": Out(4),
                "engine": Out(UNIT_BITS),
                "window": Out(2),
                "offset": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        with m.If(self.clear):
            m.d.sync += self.code.eq(ErrorCode.NONE)
        with m.Elif(self.code == ErrorCode.NONE):
            for name, (code, unit) in reversed(SOURCES.items()):  # the last assignment wins
                condition: data.View = getattr(self, name)
                with m.If(condition.valid):
                    m.d.sync += [
                        self.code.eq(code),
                        self.engine.eq(unit),
                        self.window.eq(condition.window),
                        self.offset.eq(condition.offset),
                    ]
        return m
