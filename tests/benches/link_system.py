"""What the bench of the serial link simulates: the link, registers, and memory."""

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from transept.golden.config import Config
from transept.rtl.control.registers import RegisterFile
from transept.rtl.link.block_memory import BlockMemory
from transept.rtl.link.serial import SerialLink

MEMORY_BYTES = 1024
CYCLES, PAUSE_BITS = 4, 30


class LinkSystem(wiring.Component):
    """The link with the registers of the accelerator, of which one may be written, and memory."""

    rx: In(1)
    tx: Out(1)

    def __init__(self, cfg: Config):
        self._cfg = cfg
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.link = link = SerialLink(CYCLES, PAUSE_BITS)
        m.submodules.registers = file = RegisterFile(self._cfg)
        m.submodules.memory = memory = BlockMemory(self._cfg, MEMORY_BYTES)
        connect(m, link.axil, file.bus)
        connect(m, link.memory, memory.words)
        m.d.comb += [link.rx.eq(self.rx), self.tx.eq(link.tx)]
        return m
