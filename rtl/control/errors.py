"""The first error of a run."""

from __future__ import annotations

from typing import Any

from amaranth import Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.isa import Engine
from transept.golden.registers import UNIT_BITS, ErrorCode, Unit
from transept.rtl.control.legality import illegal_layout
from transept.rtl.memory.windows import violation_layout

__all__ = ["SOURCES", "ErrorLatch"]

#: Every condition that ends a run, in order of precedence, and what it means; an illegal
#: instruction names its engine itself.
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
    instruction : In(illegal_layout), one of SOURCES
    one for each other name in SOURCES : In(violation_layout), window and offset are 0 for most
    clear : In(1)
    code, engine, window, rule, offset : Out, the fields of ERROR, and ERROR_OFFSET; code NONE
        without an error
    """

    code: Any

    def __init__(self) -> None:
        super().__init__(
            {
                **{name: In(violation_layout()) for name in SOURCES},
                "instruction": In(illegal_layout()),
                "clear": In(1),
                "code": Out(4),
                "engine": Out(UNIT_BITS),
                "window": Out(2),
                "rule": Out(8),
                "offset": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        facts = (self.code, self.engine, self.window, self.rule, self.offset)
        with m.If(self.clear):
            m.d.sync += [fact.eq(0) for fact in facts]
        with m.Elif(self.code == ErrorCode.NONE):
            for name, (code, unit) in reversed(SOURCES.items()):  # the last assignment wins
                condition: data.View = getattr(self, name)
                is_instruction = name == "instruction"
                with m.If(condition.valid):
                    m.d.sync += [
                        self.code.eq(code),
                        self.engine.eq(condition.engine if is_instruction else unit),
                        self.window.eq(0 if is_instruction else condition.window),
                        self.rule.eq(condition.rule if is_instruction else 0),
                        self.offset.eq(condition.index if is_instruction else condition.offset),
                    ]
        return m
