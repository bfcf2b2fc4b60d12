"""A stand-in for the accelerator with its ports: it copies memory, and misbehaves on request."""

from __future__ import annotations

import enum

from amaranth import Assert, Cat, Const, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from transept.golden.config import Config
from transept.golden.isa import Engine
from transept.golden.registers import Stall
from transept.rtl.interfaces import axi4, axi_lite

__all__ = ["BURST_BEATS", "Fault", "MockAccelerator", "Register"]

BURST_BEATS = 16


class Register(enum.IntEnum):
    """Byte addresses of the mock's registers."""

    CONTROL = 0x00  # write 1: start copying; write 0: clear irq
    SOURCE = 0x04
    DESTINATION = 0x08
    BURSTS = 0x0C  # copied one after the other, BURST_BEATS beats each
    FAULT = 0x10
    PEEK = 0x14  # write: word of the copy buffer to look at; read: its low 32 bits
    CYCLES = 0x18  # free-running counter


class Fault(enum.IntFlag):
    """Ways to misbehave."""

    LONG_BURST = 1
    DROP_VALID = 2
    EARLY_LAST = 4
    ASSERTION = 8


class MockAccelerator(wiring.Component):
    """Copy ``BURSTS * BURST_BEATS`` beats from SOURCE to DESTINATION, then raise ``irq``."""

    def __init__(self, config: Config) -> None:
        self._cfg = config
        super().__init__(
            {
                "s_axil": In(axi_lite(12)),
                "m_axi": Out(axi4(config)),
                "irq": Out(1),
                "activity": Out(4 * len(Engine) + 1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg, axi = self._cfg, self.m_axi
        m.submodules.buffer = buffer = memory.Memory(
            shape=cfg.memories.axi_data_bits, depth=BURST_BEATS, init=[]
        )
        regs = {register: Signal(32, name=register.name.lower()) for register in Register}
        store, fetch = buffer.write_port(), buffer.read_port(domain="comb")
        start = self._registers(m, regs, fetch.data)

        beat = Signal(range(BURST_BEATS + 1))
        left = Signal(32)
        offset = Signal(32)
        fault = regs[Register.FAULT]
        reading, writing = Signal(), Signal()
        m.d.sync += Assert(~fault[3])
        m.d.comb += [
            self._address(axi, "ar", regs[Register.SOURCE] + offset, fault[0]),
            self._address(axi, "aw", regs[Register.DESTINATION] + offset, fault[0]),
            axi.wstrb.eq(~0),
            axi.wdata.eq(fetch.data),
            axi.wlast.eq(beat == Mux(fault[2], BURST_BEATS - 2, BURST_BEATS - 1)),
            fetch.addr.eq(Mux(writing, beat, regs[Register.PEEK])),
            store.addr.eq(beat),
            store.data.eq(axi.rdata),
            store.en.eq(axi.rvalid & axi.rready),
            self._activity(reading, writing),
        ]
        with m.FSM():
            with m.State("Idle"), m.If(start):
                m.d.sync += [left.eq(regs[Register.BURSTS]), offset.eq(0)]
                m.next = "Ask"
            with m.State("Ask"):
                m.d.comb += [reading.eq(1), axi.arvalid.eq(1)]
                m.d.sync += beat.eq(0)
                with m.If(axi.arready):
                    m.next = "Read"
                with m.Elif(fault[1]):
                    m.next = "Pause"
            with m.State("Pause"):
                m.next = "Ask"
            with m.State("Read"):
                m.d.comb += [reading.eq(1), axi.rready.eq(1)]
                with m.If(axi.rvalid):
                    m.d.sync += beat.eq(beat + 1)
                    with m.If(axi.rlast):
                        m.next = "Offer"
            with m.State("Offer"):
                m.d.comb += [writing.eq(1), axi.awvalid.eq(1)]
                m.d.sync += beat.eq(0)
                with m.If(axi.awready):
                    m.next = "Write"
            with m.State("Write"):
                m.d.comb += [writing.eq(1), axi.wvalid.eq(1)]
                with m.If(axi.wready):
                    m.d.sync += beat.eq(beat + 1)
                    with m.If(beat == BURST_BEATS - 1):
                        m.next = "Confirm"
            with m.State("Confirm"):
                m.d.comb += [writing.eq(1), axi.bready.eq(1)]
                with m.If(axi.bvalid):
                    m.d.sync += [left.eq(left - 1), offset.eq(offset + BURST_BEATS * cfg.axi_bytes)]
                    m.next = "Ask"
                    with m.If(left == 1):
                        m.d.sync += self.irq.eq(1)
                        m.next = "Idle"
        return m

    def _address(self, axi, letter: str, address, long):
        """Fields of an address channel."""
        size = (self._cfg.axi_bytes - 1).bit_length()
        return [
            getattr(axi, f"{letter}addr").eq(address),
            getattr(axi, f"{letter}len").eq(BURST_BEATS - 1 + long),
            getattr(axi, f"{letter}size").eq(size),
            getattr(axi, f"{letter}burst").eq(1),
        ]

    def _activity(self, reading, writing):
        """LOAD waits for memory while reading, STORE computes while writing."""
        waiting = Mux(reading & ~self.m_axi.rvalid, Stall.MEMORY, Stall.NONE)
        engines = {
            Engine.LOAD: Cat(reading, waiting[:3]),
            Engine.STORE: Cat(writing, Const(Stall.NONE.value, 3)),
        }
        fields = [engines.get(engine, Const(0, 4)) for engine in Engine]
        return self.activity.eq(Cat(*fields, self.m_axi.rvalid))

    def _registers(self, m: Module, regs: dict, peeked):
        """AXI-Lite slave without outstanding transactions; returns the start pulse."""
        axil = self.s_axil
        start = Signal()
        write = axil.awvalid & axil.wvalid & ~axil.bvalid
        read = axil.arvalid & ~axil.rvalid
        m.d.comb += [axil.awready.eq(write), axil.wready.eq(write), axil.arready.eq(read)]
        m.d.sync += regs[Register.CYCLES].eq(regs[Register.CYCLES] + 1)
        with m.If(axil.bvalid & axil.bready):
            m.d.sync += axil.bvalid.eq(0)
        with m.If(axil.rvalid & axil.rready):
            m.d.sync += axil.rvalid.eq(0)
        with m.If(write):
            m.d.sync += axil.bvalid.eq(1)
            with m.Switch(axil.awaddr):
                for register in Register:
                    with m.Case(register):
                        m.d.sync += regs[register].eq(axil.wdata)
                with m.Default():
                    m.d.sync += axil.bresp.eq(2)
            with m.If(axil.awaddr == Register.CONTROL):
                m.d.comb += start.eq(axil.wdata[0])
                m.d.sync += self.irq.eq(0)
        with m.If(read):
            m.d.sync += [axil.rvalid.eq(1), axil.rresp.eq(0)]
            with m.Switch(axil.araddr):
                for register in Register:
                    with m.Case(register):
                        value = peeked if register is Register.PEEK else regs[register]
                        m.d.sync += axil.rdata.eq(value)
                with m.Default():
                    m.d.sync += axil.rresp.eq(2)
        return start
