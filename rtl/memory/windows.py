"""DRAM windows: from (window, offset, bytes) to a physical address, or a violation."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.golden.isa import Window
from transept.rtl.arith.fixed import select

__all__ = [
    "WindowCheck",
    "access_layout",
    "misplaced",
    "request_layout",
    "violation_layout",
    "windows_layout",
]


def windows_layout() -> data.ArrayLayout:
    """Physical base and size in bytes of every window, indexed by ``isa.Window``."""
    return data.ArrayLayout(data.StructLayout({"base": 32, "limit": 32}), len(Window))


def access_layout(cfg: Config) -> data.StructLayout:
    """What a program asks for; wide enough that nothing it can say wraps around.

    ``last`` marks the last access of an instruction.
    """
    row_bytes_log2 = cfg.tile.bit_length()  # an int16 word
    return data.StructLayout({"window": 2, "offset": 33, "bytes": 32 + row_bytes_log2, "last": 1})


def request_layout() -> data.StructLayout:
    """A checked access: a physical range, at least one AXI beat."""
    return data.StructLayout({"address": 32, "bytes": 32, "last": 1})


def violation_layout() -> data.StructLayout:
    """``valid`` is sticky; window and offset are those of the access that was refused."""
    return data.StructLayout({"valid": 1, "window": 2, "offset": 32})


def misplaced(cfg: Config, base: Value, limit: Value, offset: Value) -> Value:
    """Whether ``base`` or ``offset`` is no multiple of ``tile`` bytes, or a window of ``limit``
    bytes at ``base`` does not end below 2**32. Nothing is accessed then."""
    unaligned = (base | offset)[: cfg.tile.bit_length() - 1].any()
    return unaligned | (base > ~limit)


class WindowCheck(wiring.Component):
    """``address = base + offset`` if ``offset + bytes <= limit``. Latency 2, one access a cycle.

    The first access outside its window, or to one that is ``misplaced``, is kept in ``violation``;
    it and everything after it never leaves, until reset.

    Members
    -------
    windows : In(windows_layout)
    i : In(stream of access_layout)
    o : Out(stream of request_layout)
    violation : Out(violation_layout)
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, cfg: Config) -> None:
        self._cfg, self._access = cfg, access_layout(cfg)
        super().__init__(
            {
                "windows": In(windows_layout()),
                "i": In(stream.Signature(self._access)),
                "o": Out(stream.Signature(request_layout())),
                "violation": Out(violation_layout()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        asked, valid = Signal(self._access), Signal()
        base, limit = Signal(32), Signal(32)
        end = Signal(self._access["bytes"].width + 1)
        advance = Signal()
        m.d.comb += [
            advance.eq((~self.o.valid | self.o.ready) & ~self.violation.valid),
            self.i.ready.eq(advance),
        ]
        with m.If(advance):
            m.d.sync += valid.eq(self.i.valid)
            with m.If(self.i.valid):
                index = self.i.payload.window
                m.d.sync += [
                    asked.eq(self.i.payload),
                    end.eq(self.i.payload.offset + self.i.payload.bytes),
                    base.eq(select([window.base for window in self.windows], index)),
                    limit.eq(select([window.limit for window in self.windows], index)),
                ]
        ok = (end <= limit) & ~misplaced(self._cfg, base, limit, asked.offset)
        self._decide(m, advance & valid, asked, base, ok)
        return m

    def _decide(self, m: Module, decide: Value, asked: data.View, base: Signal, ok: Value) -> None:
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(decide):
            m.d.sync += [
                self.o.valid.eq(ok),
                self.o.payload.address.eq(base + asked.offset),
                self.o.payload.bytes.eq(asked.bytes),
                self.o.payload.last.eq(asked.last),
                self.violation.valid.eq(~ok),
                self.violation.window.eq(asked.window),
                self.violation.offset.eq(asked.offset),
            ]
