"""The accelerator: controller, bus masters, on-chip memories and engines."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Const, Module, ResetInserter, Value
from amaranth.hdl import Elaboratable
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from transept.golden import registers
from transept.golden.config import Config
from transept.golden.isa import Engine
from transept.rtl.control.controller import COUNTING, Controller
from transept.rtl.control.idle import rest_when_idle
from transept.rtl.gemm.engine import GemmEngine
from transept.rtl.interfaces import axi4, axi_lite
from transept.rtl.memory.activation import ActivationScratchpad
from transept.rtl.memory.load import LoadEngine
from transept.rtl.memory.reader import ReadMaster
from transept.rtl.memory.rowstat import RowStatistics
from transept.rtl.memory.stationary import StationaryScratchpad
from transept.rtl.memory.store import StoreEngine
from transept.rtl.memory.writer import WriteMaster
from transept.rtl.softmax.engine import SoftmaxEngine
from transept.rtl.vector.engine import VectorEngine

__all__ = ["Accelerator"]

_ENGINES = {
    Engine.LOAD: LoadEngine,
    Engine.GEMM: GemmEngine,
    Engine.SOFTMAX: SoftmaxEngine,
    Engine.VECTOR: VectorEngine,
    Engine.STORE: StoreEngine,
}


class Accelerator(wiring.Component):
    """A transformer accelerator behind two buses; see docs/architecture.md.

    It has the engines and filters that its configuration names. Golden model: ``golden.emulator``.

    Members
    -------
    s_axil : In(axi_lite), the registers of ``golden.registers``
    m_axi : Out(axi4), DRAM
    irq : Out(1), level, see register IRQ
    activity : Out(4 bits for each of ``isa.Engine``: busy, then stall[3]; then array_active; then
        one bit for each engine that retires an instruction)
    """

    s_axil: wiring.PureInterface
    m_axi: wiring.PureInterface

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            {
                "s_axil": In(axi_lite(registers.ADDRESS_BITS)),
                "m_axi": Out(axi4(cfg)),
                "irq": Out(1),
                "activity": Out(5 * len(Engine) + 1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self._cfg
        m.submodules.control = control = Controller(cfg)
        m.submodules.reader = reader = ReadMaster(cfg)
        m.submodules.writer = writer = WriteMaster(cfg)
        engines = {name: _ENGINES[name](cfg) for name in cfg.built_engines}
        load, gemm, store = (engines[name] for name in (Engine.LOAD, Engine.GEMM, Engine.STORE))
        for name, engine in engines.items():
            resting = self._resting(m, name, engine)
            m.submodules[name.name.lower()] = ResetInserter(control.reset)(resting)
            connect(m, control.engines[name], engine.instr)
            m.d.comb += [
                control.retire[name].eq(engine.retire),
                control.states[name].busy.eq(engine.busy),
                control.states[name].stall.eq(engine.stall),
            ]
            if name in COUNTING:
                connect(m, engine.clipped, control.clipped[COUNTING.index(name)])
        self._scratchpads(m, engines)
        self._join(m, engines)
        self._bus(m, control, reader, writer, load, store)
        self._faults(m, control, reader, writer, load, store)
        connect(m, flipped(self.s_axil), control.bus)
        m.d.comb += [
            control.array_active.eq(gemm.array_active),
            self.irq.eq(control.irq),
            self.activity.eq(
                Cat(
                    Value.cast(control.activity),
                    gemm.array_active,
                    *(engines[name].retire if name in engines else Const(0) for name in Engine),
                )
            ),
        ]
        return m

    @staticmethod
    def _resting(m: Module, name: Engine, engine: Any) -> Elaboratable:
        """The engine, held while it has no work. GEMM is always at work, but for parts that rest by
        themselves; the vector unit's parameters are written while it rests."""
        if name is Engine.GEMM:
            return engine
        return rest_when_idle(m, engine, unless=engine.vparam.en if name is Engine.VECTOR else 0)

    def _join(self, m: Module, engines: dict[Engine, Any]) -> None:
        """What one engine has for another."""
        load, gemm = engines[Engine.LOAD], engines[Engine.GEMM]
        if self._cfg.blocks.activation:
            connect(m, load.table, gemm.table)
        if Engine.VECTOR in engines:
            connect(m, load.vparam, engines[Engine.VECTOR].vparam)
        if Engine.SOFTMAX in engines:
            connect(m, engines[Engine.SOFTMAX].selection, gemm.selection)

    def _scratchpads(self, m: Module, engines: dict[Engine, Any]) -> None:
        """The memories that engines share. Ports of engines that are not built stay still."""
        cfg = self._cfg
        m.submodules.act = act = ActivationScratchpad(cfg)
        m.submodules.stat = stat = StationaryScratchpad(cfg)
        m.submodules.rowstat = rowstat = RowStatistics(cfg)
        load, gemm, store = (engines[name] for name in (Engine.LOAD, Engine.GEMM, Engine.STORE))
        clients = [
            (gemm.act_read, act.gemm_read),
            (store.act_read, act.store_read),
            (gemm.act_write, act.gemm_write),
            (load.act_write, act.load_write),
            (gemm.stat_read, stat.gemm_read),
            (gemm.param_read, stat.param_read),
            (store.stat_read, stat.store_read),
            (gemm.stat_write, stat.gemm_write),
            (load.stat_write, stat.load_write),
            *([(load.stat_beside, stat.load_beside)] if cfg.blocks.packed else []),
            (gemm.rowstat_read, rowstat.gemm_read),
            (gemm.epilogue_rowstat_read, rowstat.epilogue_read),
            (gemm.rowstat_write, rowstat.epilogue_write),
            (load.rowstat_write, rowstat.load_write),
        ]
        if Engine.SOFTMAX in engines:
            softmax = engines[Engine.SOFTMAX]
            clients += [
                (softmax.act_read, act.softmax_read),
                (softmax.act_write, act.softmax_write),
                (softmax.rowstat_read, rowstat.softmax_read),
                (softmax.rowstat_write, rowstat.softmax_write),
            ]
        if Engine.VECTOR in engines:
            vector = engines[Engine.VECTOR]
            clients += [
                (vector.act_read, act.vector_read),
                (vector.act_write, act.vector_write),
                (vector.rowstat_write, rowstat.vector_write),
            ]
        for client, port in clients:
            connect(m, client, port)
        if cfg.observes:
            connect(m, stat.observed, gemm.observe)

    def _bus(
        self,
        m: Module,
        control: Controller,
        reader: ReadMaster,
        writer: WriteMaster,
        load: LoadEngine,
        store: StoreEngine,
    ) -> None:
        """The two halves of AXI4 and who uses them."""
        connect(m, control.request, reader.fetch_request)
        connect(m, reader.fetch_data, control.beats)
        connect(m, load.request, reader.load_request)
        connect(m, reader.load_data, load.beats)
        connect(m, store.request, writer.request)
        connect(m, store.beats, writer.data)
        for master in (reader, writer):
            for name, member in master.axi.signature.members.items():
                inner, outer = getattr(master.axi, name), getattr(self.m_axi, name)
                m.d.comb += outer.eq(inner) if member.flow is Out else inner.eq(outer)
            m.d.comb += [master.abort.eq(control.abort), master.clear.eq(control.clear)]
        axi = self.m_axi
        m.d.comb += [
            load.windows.eq(control.windows),
            store.windows.eq(control.windows),
            store.done.eq(writer.done),
            control.bus_idle.eq(reader.idle & writer.idle),
            control.bytes_read.eq(reader.bytes_read),
            control.bytes_written.eq(writer.bytes_written),
            control.moving.eq((axi.rvalid & axi.rready) | (axi.wvalid & axi.wready)),
        ]

    def _faults(
        self,
        m: Module,
        control: Controller,
        reader: ReadMaster,
        writer: WriteMaster,
        load: LoadEngine,
        store: StoreEngine,
    ) -> None:
        m.d.comb += [
            control.faults.load_window.eq(load.violation),
            control.faults.store_window.eq(store.violation),
            control.faults.operand.eq(load.illegal_operand),
            control.faults.read_response.eq(reader.error),
            control.faults.write_response.eq(writer.error),
        ]
