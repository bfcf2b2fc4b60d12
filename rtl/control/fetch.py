"""Instruction fetch: a program in DRAM becomes a stream of instructions."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from transept.golden import isa
from transept.golden.config import Config
from transept.rtl.memory.queue import Queue
from transept.rtl.memory.reader import beat_layout
from transept.rtl.memory.skid import Slot
from transept.rtl.memory.windows import (
    misplaced,
    request_layout,
    violation_layout,
    windows_layout,
)

__all__ = ["BURST", "DEPTH", "Fetch"]

#: Instructions asked for at once, and kept ahead of dispatch.
BURST, DEPTH = 4, 16
_BITS = 8 * isa.INSTRUCTION_BYTES
_BYTES_LOG2 = isa.INSTRUCTION_BYTES.bit_length() - 1


class Fetch(wiring.Component):
    """Reads instructions from ``offset`` of the PROGRAM window up to END.

    Up to DEPTH instructions are asked for ahead, BURST at a time, fewer where the window ends;
    what was read beyond END is dropped. Every beat that was asked for has room, so ``beats`` is
    always ready. A window that ends before END is a violation, told when the last instruction
    before it has come; one that is ``misplaced`` is a violation at once.

    Members
    -------
    start : In(1), while not busy
    offset : In(32), of the first instruction
    windows : In(windows_layout)
    request : Out(stream of request_layout)
    beats : In(stream of beat_layout)
    instr : Out(stream of 256 bits), END the last
    busy : Out(1), from start until END has come and no beat is under way
    violation : Out(violation_layout), sticky until reset

    Raises
    ------
    ValueError
        If an instruction is not a whole number of beats.
    """

    instr: stream.Interface
    request: stream.Interface
    beats: stream.Interface

    def __init__(self, cfg: Config) -> None:
        if _BITS % cfg.memories.axi_data_bits:
            raise ValueError(f"axi_data_bits={cfg.memories.axi_data_bits} must divide {_BITS}")
        self._cfg = cfg
        super().__init__(
            {
                "start": In(1),
                "offset": In(32),
                "windows": In(windows_layout()),
                "request": Out(stream.Signature(request_layout())),
                "beats": In(stream.Signature(beat_layout(cfg))),
                "instr": Out(stream.Signature(_BITS)),
                "busy": Out(1),
                "violation": Out(violation_layout()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.ahead = ahead = Queue(_BITS, DEPTH)
        m.submodules.head = head = Slot(_BITS)
        connect(m, ahead.o, head.i)
        connect(m, head.o, flipped(self.instr))
        ended, arrived = Signal(), Signal()
        self._assemble(m, ahead, ended, arrived)
        under_way = self._ask(m, ahead, ended, arrived)
        with m.If(ended & (under_way == 0)):
            m.d.sync += self.busy.eq(0)
        with m.If(self.start):
            m.d.sync += [self.busy.eq(1), ended.eq(0)]
        return m

    def _assemble(self, m: Module, ahead: Queue, ended: Signal, arrived: Signal) -> None:
        """Collect the beats of an instruction; END and what follows it end the program."""
        beats = _BITS // self._cfg.memories.axi_data_bits
        word, number = Signal(_BITS), Signal(range(beats))
        whole = Signal()
        accepted = self.beats.valid & self.beats.ready
        m.d.comb += [
            self.beats.ready.eq(1),
            ahead.i.payload.eq(word),
            ahead.i.valid.eq(whole & ~ended),
            arrived.eq(whole),
        ]
        m.d.sync += whole.eq(accepted & (number == beats - 1))
        with m.If(accepted):
            m.d.sync += [
                word.eq(Cat(word, self.beats.payload.data)[-_BITS:]),
                number.eq(Mux(number == beats - 1, 0, number + 1)),
            ]
        with m.If(whole & (word[:8] == isa.Opcode.END)):
            m.d.sync += ended.eq(1)

    def _ask(self, m: Module, ahead: Queue, ended: Signal, arrived: Signal) -> Value:
        """Request the next instructions when the queue has room for all; those under way."""
        window = self.windows[isa.Window.PROGRAM]
        first, left = Signal(), Signal(32 - _BYTES_LOG2)
        room, under_way = Signal(range(DEPTH + 1), init=DEPTH), Signal(range(DEPTH + 1))
        position, request = Signal(32), self.request
        count = Signal(range(BURST + 1))
        fits, ask = Signal(), Signal()
        sent = request.valid & request.ready
        m.d.comb += [
            count.eq(Mux(left < BURST, left, BURST)),
            fits.eq((room >= BURST) & (left != 0)),
            ask.eq(self.busy & ~first & fits & ~ended & (~request.valid | request.ready)),
        ]
        m.d.sync += first.eq(self.start)
        with m.If(self.start):
            m.d.sync += position.eq(self.offset)
        with m.If(first):
            wrong = misplaced(self._cfg, window.base, window.limit, self.offset)
            inside = (self.offset <= window.limit) & ~wrong
            m.d.sync += left.eq(Mux(inside, (window.limit - self.offset) >> _BYTES_LOG2, 0))
        with m.If(sent):
            m.d.sync += request.valid.eq(0)
        with m.If(ask):
            m.d.sync += [
                request.valid.eq(1),
                request.payload.address.eq(window.base + position),
                request.payload.bytes.eq(count << _BYTES_LOG2),
                position.eq(position + (count << _BYTES_LOG2)),
                left.eq(left - count),
            ]
        taken, dropped = ahead.o.valid & ahead.o.ready, arrived & ended
        m.d.sync += [
            room.eq(room - Mux(ask, count, 0) + taken + dropped),
            under_way.eq(under_way + Mux(ask, count, 0) - arrived),
        ]
        with m.If(self.busy & ~first & ~ended & (left == 0) & (under_way == 0) & ~request.valid):
            m.d.sync += [
                self.violation.valid.eq(1),
                self.violation.window.eq(isa.Window.PROGRAM),
                self.violation.offset.eq(position),
            ]
        return under_way
