"""Frames of the serial link to accesses of registers and memory."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from transept.golden import registers
from transept.golden.link import (
    CRC_POLYNOMIAL,
    CRC_START,
    MAX_WORDS,
    REQUEST_SYNC,
    RESPONSE_SYNC,
    Kind,
    Status,
)
from transept.rtl.interfaces import axi_lite

__all__ = ["LinkBridge", "word_port"]


def word_port() -> wiring.Signature:
    """Single words of a memory, as seen by who asks: a request is taken when ``valid & ready``; its
    ``answer`` comes later, for one cycle, with the word read or an error."""
    return wiring.Signature(
        {
            "valid": Out(1),
            "write": Out(1),
            "addr": Out(30),
            "data": Out(32),
            "ready": In(1),
            "answer": In(1),
            "value": In(32),
            "error": In(1),
        }
    )


def _next_crc(crc: Value, byte: Value) -> Value:
    """CRC of one more byte, see ``golden.link.crc16``."""
    crc = crc ^ Cat(Const(0, 8), byte)
    for _ in range(8):
        crc = Cat(Const(0, 1), crc[:15]) ^ Mux(crc[15], CRC_POLYNOMIAL, 0)
    return crc


class LinkBridge(wiring.Component):
    """Carries out the requests of the link, one at a time; golden model: ``golden.link.LinkModel``.

    A frame whose bytes are further apart than ``pause`` cycles, or one that holds a damaged byte,
    is forgotten. What arrives while a request is carried out or answered is lost.

    Members
    -------
    byte, valid, error : In, of ``UartReceiver``
    o : Out(stream of 8 bits)
    axil : Out(axi_lite)
    memory : Out(word_port)
    """

    axil: Any
    memory: Any

    def __init__(self, pause: int) -> None:
        self._pause = pause
        super().__init__(
            {
                "byte": In(8),
                "valid": In(1),
                "error": In(1),
                "o": Out(stream.Signature(8)),
                "axil": Out(axi_lite(registers.ADDRESS_BITS)),
                "memory": Out(word_port()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._kind, self._sequence, self._count = Signal(8), Signal(8), Signal(8)
        self._address, self._status = Signal(32), Signal(2)
        self._crc, self._index, self._lane = Signal(16), Signal(range(MAX_WORDS + 1)), Signal(2)
        m.submodules.words = words = memory.Memory(shape=32, depth=MAX_WORDS, init=[])
        self._put, self._get = words.write_port(), words.read_port()
        self._last, self._last_known, self._last_status = Signal(8), Signal(), Signal(2)
        m.d.comb += [self._get.addr.eq(self._index), self._put.addr.eq(self._index)]
        # a byte enters the check a cycle after it was sent: a word is slow to come out of memory
        self._sent, self._counting = Signal(8), Signal()
        m.d.sync += self._counting.eq(0)
        with m.If(self._counting):
            m.d.sync += self._crc.eq(_next_crc(self._crc, self._sent))
        broken = self._broken(m)
        self._drive_buses(m)
        with m.FSM():
            self._receive(m, broken)
            self._carry_out(m)
            self._respond(m)
        return m

    # --- requests
    def _broken(self, m: Module) -> Value:
        """Whether a frame under way is to be forgotten: a damaged byte, or too long a pause."""
        timer = Signal(range(self._pause + 1))
        with m.If(self.valid):
            m.d.sync += timer.eq(self._pause)
        with m.Elif(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        return self.error | ((timer == 0) & ~self.valid)

    def _receive(self, m: Module, broken: Value) -> None:
        """From the sync byte to the check."""
        with m.State("hunt"):
            m.d.sync += [self._crc.eq(CRC_START), self._index.eq(0), self._lane.eq(0)]
            with m.If(self.valid & (self.byte == REQUEST_SYNC)):
                m.next = "header"
        with m.State("header"):
            self._take_header(m)
            with m.If(broken):
                m.next = "hunt"
        with m.State("words"):
            self._take_words(m)
            with m.If(broken):
                m.next = "hunt"
        low = Signal(8)
        with m.State("check low"):
            with m.If(self.valid):
                m.d.sync += low.eq(self.byte)
                m.next = "check high"
            with m.If(broken):
                m.next = "hunt"
        with m.State("check high"):
            with m.If(self.valid):
                m.next = "hunt"
                with m.If(Cat(low, self.byte) == self._crc):
                    m.next = "judge"
            with m.If(broken):
                m.next = "hunt"

    def _take_header(self, m: Module) -> None:
        header = Cat(self._kind, self._sequence, self._count, self._address)
        with m.If(self.valid):
            m.d.sync += [
                self._crc.eq(_next_crc(self._crc, self.byte)),
                header.eq(Cat(header[8:], self.byte)),
                self._index.eq(self._index + 1),
            ]
            with m.If(self._index == len(header) // 8 - 1):
                m.d.sync += self._index.eq(0)
                m.next = "check low"
                # the header moves down by a byte at a time: with the last one it is in its place
                count, kind = header[24:32], header[8:16]
                with m.If(kind[0] & (count != 0) & (count <= MAX_WORDS)):
                    m.next = "words"

    def _take_words(self, m: Module) -> None:
        early = Signal(24)
        m.d.comb += self._put.data.eq(Cat(early, self.byte))
        with m.If(self.valid):
            m.d.sync += [
                self._crc.eq(_next_crc(self._crc, self.byte)),
                early.eq(Cat(early[8:], self.byte)),
                self._lane.eq(self._lane + 1),
            ]
            with m.If(self._lane == 3):
                m.d.comb += self._put.en.eq(1)
                m.d.sync += self._index.eq(self._index + 1)
                with m.If(self._index + 1 == self._count):
                    m.d.sync += self._index.eq(0)
                    m.next = "check low"

    # --- accesses
    def _drive_buses(self, m: Module) -> None:
        """Address and data are there as long as an access is under way; no answer waits."""
        m.d.comb += [
            self.axil.awaddr.eq(self._address),
            self.axil.araddr.eq(self._address),
            self.axil.wdata.eq(self._get.data),
            self.axil.wstrb.eq(-1),
            self.axil.bready.eq(1),
            self.axil.rready.eq(1),
            self.memory.addr.eq(self._address[2:]),
            self.memory.write.eq(self._kind[0]),
            self.memory.data.eq(self._get.data),
        ]
        for channel in ("aw", "w", "ar"):
            with m.If(getattr(self.axil, f"{channel}ready")):
                m.d.sync += getattr(self.axil, f"{channel}valid").eq(0)

    def _carry_out(self, m: Module) -> None:
        known, writes = self._kind <= max(Kind), self._kind[0]
        with m.State("judge"):
            m.d.sync += self._status.eq(Status.OKAY)
            m.next = "fetch"
            with m.If(self._sequence == 0):
                m.d.sync += self._last_known.eq(0)
            with m.If(~known | (self._count == 0) | (self._count > MAX_WORDS)):
                m.d.sync += self._status.eq(Status.BAD_REQUEST)
                m.next = "begin"
            with m.Elif(~writes):
                m.d.sync += self._last_known.eq(0)
            with m.Elif(self._last_known & (self._sequence == self._last)):
                m.d.sync += self._status.eq(self._last_status)
                m.next = "begin"
        with m.State("fetch"):  # the word to write is read
            m.next = "memory"
            with m.If(~self._kind[1]):
                m.next = "register"
                with m.If(self._address[registers.ADDRESS_BITS :] != 0):
                    m.next = "beyond"
                with m.Else():
                    m.d.sync += [
                        self.axil.awvalid.eq(writes),
                        self.axil.wvalid.eq(writes),
                        self.axil.arvalid.eq(~writes),
                    ]
        with m.State("beyond"):
            self._answer(m, Const(0, 32), Const(1))
        with m.State("register"):
            with m.If(self.axil.bvalid):
                self._answer(m, self.axil.wdata, self.axil.bresp != 0)
            with m.If(self.axil.rvalid):
                self._answer(m, self.axil.rdata, self.axil.rresp != 0)
        with m.State("memory"):
            m.d.comb += self.memory.valid.eq(1)
            with m.If(self.memory.ready):
                m.next = "answer"
        with m.State("answer"), m.If(self.memory.answer):
            self._answer(m, self.memory.value, self.memory.error)

    def _answer(self, m: Module, value: Value, error: Value) -> None:
        """One word is read or written: go on with the next, or remember and respond."""
        m.d.comb += [self._put.data.eq(value), self._put.en.eq(~self._kind[0])]
        m.d.sync += [self._address.eq(self._address + 4), self._index.eq(self._index + 1)]
        with m.If(error):
            m.d.sync += self._status.eq(Status.BUS_ERROR)
        m.next = "gap"
        with m.If(self._index + 1 == self._count):
            m.d.sync += self._index.eq(0)
            m.next = "begin"
            with m.If(self._kind[0]):
                status = Mux(error, Status.BUS_ERROR, self._status)
                m.d.sync += [
                    self._last.eq(self._sequence),
                    self._last_known.eq(self._sequence != 0),
                    self._last_status.eq(status),
                ]

    # --- responses
    def _respond(self, m: Module) -> None:
        with m.State("gap"):  # the index has moved: the word after it is read in "fetch"
            m.next = "fetch"
        count = Signal(8)
        good = ~self._kind[0] & (self._status == Status.OKAY)
        head = Signal(range(4))
        with m.State("begin"):
            m.d.sync += [self._crc.eq(CRC_START), head.eq(0), self._lane.eq(0), self._index.eq(0)]
            m.d.sync += count.eq(Mux(good, self._count, 0))
            m.next = "head"
        with m.State("head"):
            choices = (RESPONSE_SYNC, self._status, self._sequence, count)
            for number, byte in enumerate(choices):
                with m.If(head == number):
                    m.d.comb += self.o.payload.eq(byte)
            m.d.comb += self.o.valid.eq(1)
            with m.If(self.o.ready):
                m.d.sync += [head.eq(head + 1), self._sent.eq(self.o.payload)]
                m.d.sync += self._counting.eq(head != 0)
                with m.If(head == 3):
                    m.next = "next word"
        with m.State("send words"):
            m.d.comb += [
                self.o.payload.eq(self._get.data.word_select(self._lane, 8)),
                self.o.valid.eq(1),
            ]
            with m.If(self.o.ready):
                m.d.sync += [
                    self._sent.eq(self.o.payload),
                    self._counting.eq(1),
                    self._lane.eq(self._lane + 1),
                ]
                with m.If(self._lane == 3):
                    m.d.sync += self._index.eq(self._index + 1)
                    m.next = "next word"
        with m.State("next word"):  # the check has the last byte after it
            m.next = "send words"
            with m.If(self._index == count):
                m.next = "send low"
        with m.State("send low"):
            m.d.comb += [self.o.payload.eq(self._crc[:8]), self.o.valid.eq(1)]
            with m.If(self.o.ready):
                m.next = "send high"
        with m.State("send high"):
            m.d.comb += [self.o.payload.eq(self._crc[8:]), self.o.valid.eq(1)]
            with m.If(self.o.ready):
                m.next = "hunt"
