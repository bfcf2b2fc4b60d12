"""The load engine: DRAM to scratchpads, row statistics and parameter memories."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from transept.golden.config import Config
from transept.golden.isa import Memory, Opcode
from transept.golden.layouts import BLOCK_WORDS
from transept.golden.registers import Stall
from transept.rtl.gemm.table import table_write
from transept.rtl.interfaces import (
    act_write,
    engine_members,
    instruction_layout,
    rowstat_write,
    stat_beside,
    stat_write,
)
from transept.rtl.memory.bank import any_of
from transept.rtl.memory.expander import Expander
from transept.rtl.memory.magnitude import RowMagnitude
from transept.rtl.memory.queue import Queue
from transept.rtl.memory.reader import beat_layout
from transept.rtl.memory.skid import Slot
from transept.rtl.memory.unpacker import Unpacker, placement_layout
from transept.rtl.memory.walker import RowWalker, same_fields
from transept.rtl.memory.windows import (
    WindowCheck,
    request_layout,
    violation_layout,
    windows_layout,
)
from transept.rtl.vector.parameters import vparam_write

__all__ = ["LoadEngine"]

#: Instructions whose requests may run ahead of the data.
_AHEAD = 4


class LoadEngine(wiring.Component):
    """Runs LOAD: golden semantics in ``isa``; one beat a cycle, across rows and instructions.

    Requests of the next instructions run ahead of the data of the current one. Rows without gaps
    in DRAM make one request. An instruction retires log2(tile) + 4 cycles after its last
    beat unless a port is refused; one without rows or words moves nothing and retires in its turn.

    Members
    -------
    engine_members
    windows : In(windows_layout)
    request : Out(stream of request_layout)
    beats : In(stream of beat_layout)
    act_write, stat_write, rowstat_write : Out, ports of the on-chip memories
    stat_beside : Out(stat_beside), if there are packed weights
    vparam : Out(vparam_write), table : Out(table_write), if those memories are built
    violation : Out(violation_layout), sticky; the engine stops until reset
    illegal_operand : Out(1), high for one cycle when an int8 element for ACT was -128
    """

    instr: stream.Interface
    request: stream.Interface
    beats: stream.Interface

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        vparam = {"vparam": Out(vparam_write(cfg))} if cfg.blocks.norm else {}
        table = {"table": Out(table_write(cfg))} if cfg.blocks.activation else {}
        beside = {"stat_beside": Out(stat_beside(cfg))} if cfg.blocks.packed else {}
        super().__init__(
            engine_members()
            | vparam
            | table
            | beside
            | {
                "windows": In(windows_layout()),
                "request": Out(stream.Signature(request_layout())),
                "beats": In(stream.Signature(beat_layout(cfg))),
                "act_write": Out(act_write(cfg)),
                "stat_write": Out(stat_write(cfg)),
                "rowstat_write": Out(rowstat_write(cfg)),
                "violation": Out(violation_layout()),
                "illegal_operand": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self._cfg
        m.submodules.walker = walker = RowWalker(cfg)
        m.submodules.check = check = WindowCheck(cfg)
        m.submodules.placements = placements = Queue(placement_layout(), _AHEAD)
        m.submodules.place = place = Slot(placement_layout())
        m.submodules.unpacker = unpacker = Unpacker(cfg)
        m.submodules.magnitude = magnitude = RowMagnitude(cfg)
        self._accept(m, walker, placements)
        connect(m, walker.o, check.i)
        connect(m, check.o, flipped(self.request))
        connect(m, placements.o, place.i)
        connect(m, place.o, unpacker.i)
        connect(m, magnitude.write, flipped(self.rowstat_write))
        m.d.comb += [
            check.windows.eq(self.windows),
            self.violation.eq(check.violation),
            unpacker.beats.payload.eq(self.beats.payload.data),
            unpacker.beats.valid.eq(self.beats.valid),
            self.beats.ready.eq(unpacker.beats.ready),
            self.retire.eq(magnitude.retire),
        ]
        words, passes = unpacker.o, Const(1)
        if cfg.blocks.packed:
            m.submodules.expander = expander = Expander(cfg)
            connect(m, unpacker.o, expander.i)
            connect(m, expander.beside, flipped(self.stat_beside))
            m.d.comb += expander.takes.eq(self.stat_write.ready & magnitude.i.ready)
            words, passes = expander.o, expander.passes
        self._write(m, unpacker.o, words, passes, magnitude.i)
        self._report(m, unpacker)
        return m

    def _accept(self, m: Module, walker: RowWalker, placements: Queue) -> None:
        """Give the instruction to both sides; DRAM is not asked for nothing."""
        instr = instruction_layout(Opcode.LOAD)(self.instr.payload)
        empty = (instr.rows == 0) | (instr.words == 0)
        wide = instr.wide & (instr.memory == Memory.ACT)
        stats = instr.stats & (instr.memory == Memory.ACT)
        unpacks = ~empty & (instr.memory == Memory.STAT) & int(self._cfg.blocks.packed)
        packed = instr.packed & unpacks
        blocks = instr.words >> (BLOCK_WORDS.bit_length() - 1)
        saved = (blocks << 3) + (blocks << 2) + blocks  # BLOCK_WORDS - PACKED_BLOCK each
        words = Mux(packed, instr.words - saved, instr.words)
        accept = Signal()
        m.d.comb += [
            same_fields(walker.i.payload, instr),
            same_fields(placements.i.payload, instr),
            walker.i.payload.words.eq(words),
            placements.i.payload.words.eq(words),
            placements.i.payload.blocks.eq(Mux(packed, blocks, 0)),
            walker.i.payload.wide.eq(wide),
            placements.i.payload.wide.eq(wide),
            placements.i.payload.stats.eq(stats),
            self.instr.ready.eq(walker.i.ready & placements.i.ready),
            accept.eq(self.instr.valid & self.instr.ready),
            walker.i.valid.eq(accept & ~empty),
            placements.i.valid.eq(accept),
        ]

    def _write(
        self,
        m: Module,
        plain: stream.Interface,
        o: stream.Interface,
        passes: Value,
        measured: stream.Interface,
    ) -> None:
        """The word to its memory and, in the same cycle, to the statistics.

        plain: words as they come; o: those that leave the expander, which ``passes`` words or has
        some of its own. A plain word that has to wait for these is written in every cycle until
        then, so that the other memories need not know.
        """
        word, item = plain.payload, o.payload
        low = Cat(element[:8] for element in word.word)
        ports = {Memory.ACT: (self.act_write, word.word)}
        if self._cfg.blocks.norm:
            ports[Memory.VPARAM] = (self.vparam, low)
        if self._cfg.blocks.activation:
            ports[Memory.TABLE] = (self.table, low)
        offered = plain.valid & ~word.coded & ~word.empty & measured.ready
        for kind, (port, value) in ports.items():
            m.d.comb += [
                port.en.eq(offered & (word.memory == kind)),
                port.addr.eq(word.addr),
                Value.cast(port.data).eq(value),
            ]
        act, stat = self.act_write, self.stat_write
        # of a plain word; what memories say comes late, so nothing else is asked behind it
        to_act, to_stat = (word.memory == kind for kind in (Memory.ACT, Memory.STAT))
        accepted = word.empty | Mux(to_act, act.ready, ~to_stat | stat.ready)
        m.d.comb += [
            stat.en.eq(o.valid & ~item.empty & measured.ready & (item.memory == Memory.STAT)),
            stat.addr.eq(item.addr),
            Value.cast(stat.data).eq(Cat(element[:8] for element in item.word)),
            stat.observe.eq(item.observe),
            stat.summary.eq(item.summary),
            stat.first.eq(item.first),
            same_fields(measured.payload, item),
            measured.payload.word.eq(word.word),
            measured.payload.measure.eq(item.stats & ~item.empty),
            measured.payload.entry.eq(item.rowstat),
            measured.valid.eq(o.valid & Mux(passes, accepted, stat.ready)),
            o.ready.eq(measured.ready & accepted),
        ]
        checked = act.en & act.ready & ~word.wide
        illegal = any_of([element == -128 for element in word.word])
        m.d.sync += self.illegal_operand.eq(checked & illegal)

    def _report(self, m: Module, unpacker: Unpacker) -> None:
        running = Signal(5)
        accepted = self.instr.valid & self.instr.ready
        m.d.sync += running.eq(running + accepted - self.retire)
        m.d.comb += self.busy.eq(running != 0)
        blocked: Value = unpacker.o.valid & ~unpacker.o.ready
        starved: Value = unpacker.beats.ready & ~unpacker.beats.valid
        m.d.comb += self.stall.eq(
            Mux(blocked, Stall.SCRATCHPAD, Mux(starved, Stall.MEMORY, Stall.NONE))
        )
