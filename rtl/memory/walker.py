"""The rows of a LOAD or STORE as accesses to DRAM."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.rtl.memory.windows import access_layout

__all__ = ["RowWalker", "rows_layout", "same_fields"]


def rows_layout() -> data.StructLayout:
    """Where the rows lie in DRAM: operands of LOAD and STORE; ``wide`` rows are twice as long."""
    return data.StructLayout(
        {"window": 2, "offset": 32, "pitch": 16, "rows": 16, "words": 16, "wide": 1}
    )


def same_fields(target: data.View, source: data.View) -> list:
    """Assign every field of ``target`` whose name ``source`` has too."""
    names = [name for name, _ in source.shape()]
    return [target[name].eq(source[name]) for name, _ in target.shape() if name in names]


class RowWalker(wiring.Component):
    """``rows`` accesses of ``words * tile * (1 + wide)`` bytes, ``pitch * tile`` bytes apart.

    Rows that follow each other without a gap become a single access, whose length is multiplied
    out at one bit of ``rows`` a cycle. Otherwise one access a cycle.

    Members
    -------
    i : In(stream of rows_layout), rows and words are not 0
    o : Out(stream of access_layout)
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            {
                "i": In(stream.Signature(rows_layout())),
                "o": Out(stream.Signature(access_layout(cfg))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        tile = self._cfg.tile
        window, offset, pitch = Signal(2), Signal(33), Signal(16)
        rows, row_units, earlier_units = Signal(16), Signal(33), Signal(33)

        new = self.i.payload
        new_units = Mux(new.wide, new.words << 1, new.words)
        m.d.comb += [
            self.o.payload.window.eq(window),
            self.o.payload.offset.eq(offset),
            self.o.payload.bytes.eq(row_units * tile),
            self.o.payload.last.eq(rows == 1),
        ]
        with m.FSM():
            with m.State("Idle"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [
                    window.eq(new.window),
                    offset.eq(new.offset),
                    pitch.eq(new.pitch),
                    rows.eq(new.rows),
                    row_units.eq(new_units),
                    earlier_units.eq(0),
                ]
                with m.If(self.i.valid):
                    m.next = "Walk"
                    with m.If(new.pitch == new_units):
                        m.next = "Multiply"
            with m.State("Multiply"):
                with m.If(rows == 1):
                    m.d.sync += row_units.eq(row_units + earlier_units)
                    m.next = "Walk"
                with m.Else():
                    m.d.sync += [rows.eq(rows >> 1), row_units.eq(row_units << 1)]
                    with m.If(rows[0]):
                        m.d.sync += earlier_units.eq(row_units + earlier_units)
            with m.State("Walk"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.d.sync += [offset.eq(offset + pitch * tile), rows.eq(rows - 1)]
                    with m.If(rows == 1):
                        m.next = "Idle"
        return m
