"""An accelerator that needs a clock and a serial line, and nothing else."""

from __future__ import annotations

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from transept.golden.config import Config
from transept.rtl.link.axi_slice import AxiSlice
from transept.rtl.link.block_memory import BlockMemory
from transept.rtl.link.serial import SerialLink
from transept.rtl.top import Top

__all__ = ["LinkedTop"]


class LinkedTop(wiring.Component):
    """``rtl.top.Top`` between a serial link and ``memory_bytes`` of block RAM at address 0.

    Members
    -------
    rx : In(1), tx : Out(1)
    irq : Out(1), as of the accelerator; the link polls
    """

    def __init__(self, cfg: Config, memory_bytes: int, cycles: int) -> None:
        """cycles: of a bit of the serial line."""
        self._cfg, self._core = cfg, Top(cfg)
        self._memory = BlockMemory(cfg, memory_bytes)
        self._link = SerialLink(cycles)
        super().__init__({"rx": In(1), "tx": Out(1, init=1), "irq": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.core = core = self._core
        m.submodules.memory = memory = self._memory
        m.submodules.link = link = self._link
        connect(m, link.axil, core.s_axil)
        connect(m, link.memory, memory.words)
        m.submodules.slice = slice = AxiSlice(self._cfg)
        connect(m, core.m_axi, slice.i)
        connect(m, slice.o, memory.axi)
        m.d.comb += [link.rx.eq(self.rx), self.tx.eq(link.tx), self.irq.eq(core.irq)]
        return m
