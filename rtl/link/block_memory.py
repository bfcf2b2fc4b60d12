"""Block RAM in place of DRAM: an AXI4 slave, and single words for the link."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In

from transept.golden.config import Config
from transept.rtl.interfaces import axi4
from transept.rtl.link.bridge import word_port

__all__ = ["BlockMemory"]

DECERR = 3


class BlockMemory(wiring.Component):
    """``nbytes`` bytes at address 0. Bursts are incrementing and of whole beats, one at a time each
    way, a beat a cycle; the link's words wait for the end of a burst. What lies beyond the end
    answers DECERR and does nothing.

    Members
    -------
    axi : In(axi4)
    words : In(word_port)

    Raises
    ------
    ValueError
        If the size is not a power of two of whole beats.
    """

    axi: Any
    words: Any

    def __init__(self, cfg: Config, nbytes: int) -> None:
        self._cfg, self._beats = cfg, nbytes // cfg.axi_bytes
        if nbytes % cfg.axi_bytes or self._beats < 2 or self._beats & (self._beats - 1):
            raise ValueError(
                f"block memory of {nbytes} bytes must be a power of two of beats of "
                f"{cfg.axi_bytes} bytes"
            )
        super().__init__({"axi": In(axi4(cfg)), "words": In(word_port())})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = self._cfg.memories.axi_data_bits
        m.submodules.memory = ram = memory.Memory(shape=width, depth=self._beats, init=[])
        read = ram.read_port()
        m.d.comb += read.en.eq(0)  # what was read stays
        write = ram.write_port(granularity=8)
        lanes = width // 32
        words = self.words
        lane, beat = words.addr[: lanes.bit_length() - 1], words.addr[lanes.bit_length() - 1 :]
        beyond = beat[len(read.addr) :] != 0
        reading = self._reads(m, read)
        writing = self._writes(m, write)
        free = ~Mux(words.write, writing, reading)
        m.d.comb += words.ready.eq(free)
        kept = Signal(range(lanes))
        m.d.sync += words.answer.eq(words.valid & free)
        m.d.comb += words.value.eq(read.data.word_select(kept, 32))
        with m.If(words.valid & free):
            m.d.sync += [kept.eq(lane), words.error.eq(beyond)]
            with m.If(~words.write):
                m.d.comb += [read.en.eq(1), read.addr.eq(beat)]
            with m.Elif(~beyond):
                m.d.comb += [
                    write.en.eq(Value.cast(0xF) << (lane * 4)),
                    write.addr.eq(beat),
                    write.data.eq(Cat([words.data] * lanes)),
                ]
        return m

    def _place(self, address: Value) -> tuple[Value, Value]:
        """The beat of an address, and whether it is beyond the end."""
        low = (self._cfg.axi_bytes - 1).bit_length()
        bits = (self._beats - 1).bit_length()
        return address[low : low + bits], address[low + bits :] != 0

    def _reads(self, m: Module, port: memory.ReadPort) -> Value:
        """Bursts of the read channel; returns whether one is under way."""
        axi, busy, left = self.axi, Signal(), Signal(8)
        beat = Signal(len(port.addr))
        advance = ~axi.rvalid | axi.rready
        address, beyond = self._place(axi.araddr)
        outside = Signal()
        m.d.comb += [axi.arready.eq(~busy & ~axi.rvalid), axi.rdata.eq(port.data)]
        with m.If(axi.rready):
            m.d.sync += axi.rvalid.eq(0)
        with m.If(axi.arvalid & axi.arready):
            m.d.sync += [busy.eq(1), left.eq(axi.arlen), beat.eq(address), outside.eq(beyond)]
            m.d.sync += axi.rid.eq(axi.arid)
        with m.If(busy & advance):
            m.d.comb += [port.en.eq(1), port.addr.eq(beat)]
            m.d.sync += [
                axi.rvalid.eq(1),
                axi.rlast.eq(left == 0),
                axi.rresp.eq(Mux(outside, DECERR, 0)),
                left.eq(left - 1),
                beat.eq(beat + 1),
                busy.eq(left != 0),
            ]
        return busy | axi.rvalid

    def _writes(self, m: Module, port: memory.WritePort) -> Value:
        """Bursts of the write channels; returns whether one is under way."""
        axi, busy = self.axi, Signal()
        beat, outside = Signal(len(port.addr)), Signal()
        address, beyond = self._place(axi.awaddr)
        m.d.comb += [axi.awready.eq(~busy & ~axi.bvalid), axi.wready.eq(busy)]
        with m.If(axi.bready):
            m.d.sync += axi.bvalid.eq(0)
        with m.If(axi.awvalid & axi.awready):
            m.d.sync += [busy.eq(1), beat.eq(address), outside.eq(beyond), axi.bid.eq(axi.awid)]
        with m.If(busy & axi.wvalid):
            m.d.comb += [
                port.en.eq(Mux(outside, 0, axi.wstrb)),
                port.addr.eq(beat),
                port.data.eq(axi.wdata),
            ]
            m.d.sync += beat.eq(beat + 1)
            with m.If(axi.wlast):
                m.d.sync += [busy.eq(0), axi.bvalid.eq(1), axi.bresp.eq(Mux(outside, DECERR, 0))]
        return busy | axi.bvalid
