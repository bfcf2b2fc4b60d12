"""The serial link as one block: a line each way, registers and memory behind it."""

from __future__ import annotations

from typing import Any

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from transept.golden import registers
from transept.rtl.interfaces import axi_lite
from transept.rtl.link.bridge import LinkBridge, word_port
from transept.rtl.link.uart import UartReceiver, UartTransmitter

__all__ = ["PAUSE_BITS", "SerialLink"]

#: The longest pause between two bytes of a frame, in bits: USB bridges hold bytes back for some
#: milliseconds only between frames.
PAUSE_BITS = 40
#: Of a byte, with its start and stop bit.
BYTE_BITS = 10


class SerialLink(wiring.Component):
    """Requests on ``rx``, responses on ``tx``; golden model: ``golden.link.LinkModel``.

    Members
    -------
    rx : In(1), tx : Out(1)
    axil : Out(axi_lite)
    memory : Out(word_port)
    """

    axil: Any
    memory: Any

    def __init__(self, cycles: int, pause_bits: int = PAUSE_BITS) -> None:
        """cycles: of a bit; pause_bits: the longest pause between two bytes of a frame."""
        self._cycles, self._pause = cycles, cycles * (pause_bits + BYTE_BITS)
        super().__init__(
            {
                "rx": In(1),
                "tx": Out(1, init=1),
                "axil": Out(axi_lite(registers.ADDRESS_BITS)),
                "memory": Out(word_port()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.receiver = receiver = UartReceiver(self._cycles)
        m.submodules.transmitter = transmitter = UartTransmitter(self._cycles)
        m.submodules.bridge = bridge = LinkBridge(self._pause)
        m.d.comb += [
            receiver.rx.eq(self.rx),
            self.tx.eq(transmitter.tx),
            bridge.byte.eq(receiver.byte),
            bridge.valid.eq(receiver.valid),
            bridge.error.eq(receiver.error),
        ]
        connect(m, bridge.o, transmitter.i)
        connect(m, bridge.axil, flipped(self.axil))
        connect(m, bridge.memory, flipped(self.memory))
        return m
