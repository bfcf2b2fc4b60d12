"""The accelerator: controller, bus masters, on-chip memories and engines."""

from __future__ import annotations

from amaranth import Cat, Module, ResetInserter, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from transept.golden import registers
from transept.golden.config import Config
from transept.golden.isa import Engine
from transept.rtl.control.controller import Controller
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


class Accelerator(wiring.Component):
    """A transformer accelerator behind two buses; see docs/architecture.md.

    Golden model: ``golden.emulator``.

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
        engines = {
            Engine.LOAD: LoadEngine(cfg),
            Engine.GEMM: GemmEngine(cfg),
            Engine.SOFTMAX: SoftmaxEngine(cfg),
            Engine.VECTOR: VectorEngine(cfg),
            Engine.STORE: StoreEngine(cfg),
        }
        load, gemm, softmax, vector, store = (engines[name] for name in Engine)
        resting = {
            Engine.LOAD: rest_when_idle(m, load),
            Engine.GEMM: gemm,  # always at work, but for parts that rest by themselves
            Engine.SOFTMAX: rest_when_idle(m, softmax),
            Engine.VECTOR: rest_when_idle(m, vector, unless=vector.vparam.en),
            Engine.STORE: rest_when_idle(m, store),
        }
        for name, engine in engines.items():
            m.submodules[name.name.lower()] = ResetInserter(control.reset)(resting[name])
            connect(m, control.engines[name], engine.instr)
            m.d.comb += [
                control.retire[name].eq(engine.retire),
                control.states[name].busy.eq(engine.busy),
                control.states[name].stall.eq(engine.stall),
            ]
        self._scratchpads(m, load, gemm, softmax, vector, store)
        connect(m, load.vparam, vector.vparam)
        connect(m, load.table, gemm.table)
        connect(m, softmax.selection, gemm.selection)
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
                    *(engine.retire for engine in engines.values()),
                )
            ),
        ]
        return m

    def _scratchpads(
        self,
        m: Module,
        load: LoadEngine,
        gemm: GemmEngine,
        softmax: SoftmaxEngine,
        vector: VectorEngine,
        store: StoreEngine,
    ) -> None:
        cfg = self._cfg
        m.submodules.act = act = ActivationScratchpad(cfg)
        m.submodules.stat = stat = StationaryScratchpad(cfg)
        m.submodules.rowstat = rowstat = RowStatistics(cfg)
        for client, port in (
            (gemm.act_read, act.gemm_read),
            (softmax.act_read, act.softmax_read),
            (vector.act_read, act.vector_read),
            (store.act_read, act.store_read),
            (gemm.act_write, act.gemm_write),
            (softmax.act_write, act.softmax_write),
            (vector.act_write, act.vector_write),
            (load.act_write, act.load_write),
            (gemm.stat_read, stat.gemm_read),
            (gemm.stat_write, stat.gemm_write),
            (load.stat_write, stat.load_write),
            (gemm.rowstat_read, rowstat.gemm_read),
            (gemm.epilogue_rowstat_read, rowstat.epilogue_read),
            (softmax.rowstat_read, rowstat.softmax_read),
            (gemm.rowstat_write, rowstat.epilogue_write),
            (softmax.rowstat_write, rowstat.softmax_write),
            (vector.rowstat_write, rowstat.vector_write),
            (load.rowstat_write, rowstat.load_write),
        ):
            connect(m, client, port)

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
