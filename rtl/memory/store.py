"""The store engine: scratchpads to DRAM."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from transept.golden.config import Config
from transept.golden.isa import Memory, Opcode
from transept.golden.registers import Stall
from transept.rtl.interfaces import act_read, engine_members, instruction_layout, stat_read
from transept.rtl.memory.bank import any_of
from transept.rtl.memory.packer import Packer, source_layout
from transept.rtl.memory.queue import Queue
from transept.rtl.memory.walker import RowWalker, same_fields
from transept.rtl.memory.windows import (
    WindowCheck,
    request_layout,
    violation_layout,
    windows_layout,
)

__all__ = ["StoreEngine"]

#: Instructions between acceptance and retirement.
_AHEAD = 4


class StoreEngine(wiring.Component):
    """Runs STORE: golden semantics in ``isa``; one beat a cycle, across rows and instructions.

    Addresses and reads run ahead of the data that leaves. Rows without gaps in DRAM make one
    request. An instruction retires when the response to its last burst has come; one without rows
    or words moves nothing and retires in its turn.

    Members
    -------
    engine_members
    windows : In(windows_layout)
    act_read : Out(act_read), stat_read : Out(stat_read)
    request : Out(stream of request_layout)
    beats : Out(stream of axi_data_bits)
    done : In(1), from the write master
    violation : Out(violation_layout), sticky; the engine stops until reset
    """

    instr: stream.Interface
    request: stream.Interface
    beats: stream.Interface

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            engine_members()
            | {
                "windows": In(windows_layout()),
                "act_read": Out(act_read(cfg)),
                "stat_read": Out(stat_read(cfg)),
                "request": Out(stream.Signature(request_layout())),
                "beats": Out(stream.Signature(cfg.memories.axi_data_bits)),
                "done": In(1),
                "violation": Out(violation_layout()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self._cfg
        m.submodules.walker = walker = RowWalker(cfg)
        m.submodules.check = check = WindowCheck(cfg)
        m.submodules.sources = sources = Queue(source_layout(), _AHEAD)
        m.submodules.packer = packer = Packer(cfg)
        m.submodules.running = running = Queue(1, _AHEAD)
        self._accept(m, walker, sources, running)
        connect(m, walker.o, check.i)
        connect(m, check.o, flipped(self.request))
        connect(m, sources.o, packer.i)
        connect(m, packer.o, flipped(self.beats))
        connect(m, packer.act_read, flipped(self.act_read))
        connect(m, packer.stat_read, flipped(self.stat_read))
        m.d.comb += [check.windows.eq(self.windows), self.violation.eq(check.violation)]
        self._retire(m, running.o)

        ports = (self.act_read, self.stat_read)
        refused: Value = any_of([port.en & ~port.ready for port in ports]) & ~packer.o.valid
        m.d.comb += self.stall.eq(
            Mux(
                packer.o.valid & packer.o.ready,
                Stall.NONE,
                Mux(refused, Stall.SCRATCHPAD, Stall.MEMORY),
            )
        )
        return m

    def _accept(self, m: Module, walker: RowWalker, sources: Queue, running: Queue) -> None:
        """Give the instruction to both sides, and to neither if it moves nothing."""
        instr = instruction_layout(Opcode.STORE)(self.instr.payload)
        empty = (instr.rows == 0) | (instr.words == 0)
        wide = instr.wide & (instr.memory == Memory.ACT)
        accept = Signal()
        m.d.comb += [
            same_fields(walker.i.payload, instr),
            same_fields(sources.i.payload, instr),
            walker.i.payload.wide.eq(wide),
            sources.i.payload.wide.eq(wide),
            running.i.payload.eq(empty),
            self.instr.ready.eq(walker.i.ready & sources.i.ready & running.i.ready),
            accept.eq(self.instr.valid & self.instr.ready),
            walker.i.valid.eq(accept & ~empty),
            sources.i.valid.eq(accept & ~empty),
            running.i.valid.eq(accept),
        ]

    def _retire(self, m: Module, oldest: stream.Interface) -> None:
        """Responses of later instructions wait until the empty ones before them have retired."""
        finished = Signal(range(_AHEAD + 1))
        takes = oldest.valid & ~oldest.payload & ((finished != 0) | self.done)
        m.d.comb += [
            self.retire.eq(takes | (oldest.valid & oldest.payload)),
            oldest.ready.eq(self.retire),
            self.busy.eq(oldest.valid),
        ]
        m.d.sync += finished.eq(finished + self.done - takes)
