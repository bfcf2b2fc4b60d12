"""The AXI4 read master, shared by instruction fetch and the load engine."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, ResetInserter, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect

from transept.golden.config import Config
from transept.rtl.memory.bursts import (
    BURST_BEATS,
    BurstSplitter,
    address_channel,
    axi_read,
    burst_layout,
)
from transept.rtl.memory.queue import Queue
from transept.rtl.memory.skid import Skid
from transept.rtl.memory.windows import request_layout

__all__ = ["ReadMaster", "beat_layout"]


def beat_layout(cfg: Config) -> data.StructLayout:
    """One beat of read data; ``last`` ends its request."""
    return data.StructLayout({"data": cfg.memories.axi_data_bits, "last": 1})


class ReadMaster(wiring.Component):
    """Turns requests of two clients into bursts and gives each its beats, in order.

    Up to ``outstanding`` bursts are under way, one beat a cycle; a burst of ``fetch`` goes first.
    Beats of both clients share one queue, so a client must be able to take what it asked for
    without waiting for the other one.

    While ``abort`` is high no burst is added, requests are not accepted, and beats under way are
    dropped; once ``idle``, the clients may be reset and ``abort`` released.

    Members
    -------
    fetch_request, load_request : In(stream of request_layout), ``last`` is ignored
    fetch_data, load_data : Out(stream of beat_layout)
    axi : Out(axi_read)
    abort : In(1)
    clear : In(1), zero ``bytes_read`` and ``error``
    idle : Out(1), no burst and no beat under way
    error : Out(1), sticky: a response was not OKAY
    bytes_read : Out(64)
    """

    def __init__(self, cfg: Config, *, outstanding: int = 8) -> None:
        self._cfg, self._outstanding = cfg, outstanding
        super().__init__(
            {
                "fetch_request": In(stream.Signature(request_layout())),
                "fetch_data": Out(stream.Signature(beat_layout(cfg))),
                "load_request": In(stream.Signature(request_layout())),
                "load_data": Out(stream.Signature(beat_layout(cfg))),
                "axi": Out(axi_read(cfg)),
                "abort": In(1),
                "clear": In(1),
                "idle": Out(1),
                "error": Out(1),
                "bytes_read": Out(64),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.under_way = under_way = Queue(
            data.StructLayout({"load": 1, "last": 1}), self._outstanding
        )
        m.submodules.beats = beats = Queue(
            data.StructLayout({"data": self._cfg.memories.axi_data_bits, "last": 1, "load": 1}),
            BURST_BEATS,
        )
        self._issue(m, under_way)
        self._receive(m, under_way, beats)
        self._deliver(m, beats)
        m.d.comb += self.idle.eq(~(self.axi.arvalid | under_way.o.valid | beats.o.valid))
        return m

    def _issue(self, m: Module, under_way: Queue) -> None:
        """The next burst of fetch, else of load, into the registers of AR."""
        splitters = {}
        for name, request in (("fetch", self.fetch_request), ("load", self.load_request)):
            splitter = splitters[name] = BurstSplitter(self._cfg)
            asked = Skid(request_layout())
            m.submodules[f"{name}_bursts"] = ResetInserter(self.abort)(splitter)
            m.submodules[f"{name}_asked"] = ResetInserter(self.abort)(asked)
            connect(m, asked.o, splitter.i)
            m.d.comb += [
                asked.i.payload.eq(request.payload),
                asked.i.valid.eq(request.valid),
                request.ready.eq(asked.i.ready & ~self.abort),
            ]
        fetch, load = splitters["fetch"].o, splitters["load"].o

        axi, free = self.axi, Signal()
        burst = Signal(burst_layout())
        address_channel(m, self._cfg, axi, "ar")
        m.d.comb += [
            # what comes in the first cycle of ``abort`` is dropped with the splitter's reset
            free.eq((~axi.arvalid | axi.arready) & under_way.i.ready),
            fetch.ready.eq(free),
            load.ready.eq(free & ~fetch.valid),
            burst.eq(Mux(fetch.valid, fetch.payload, load.payload)),
            under_way.i.valid.eq(free & (fetch.valid | load.valid) & ~self.abort),
            under_way.i.payload.load.eq(~fetch.valid),
            under_way.i.payload.last.eq(burst.last),
        ]
        with m.If(axi.arready):
            m.d.sync += axi.arvalid.eq(0)
        with m.If(under_way.i.valid):
            m.d.sync += [
                axi.arvalid.eq(1),
                axi.araddr.eq(burst.address),
                axi.arlen.eq(burst.count),
            ]

    def _receive(self, m: Module, under_way: Queue, beats: Queue) -> None:
        axi, head, accepted = self.axi, under_way.o, Signal()
        m.d.comb += [
            axi.rready.eq(beats.i.ready),
            accepted.eq(axi.rvalid & axi.rready),
            beats.i.valid.eq(axi.rvalid),
            beats.i.payload.data.eq(axi.rdata),
            beats.i.payload.last.eq(axi.rlast & head.payload.last),
            beats.i.payload.load.eq(head.payload.load),
            head.ready.eq(accepted & axi.rlast),
        ]
        with m.If(accepted):
            m.d.sync += self.bytes_read.eq(self.bytes_read + self._cfg.axi_bytes)
            with m.If(axi.rresp != 0):
                m.d.sync += self.error.eq(1)
        with m.If(self.clear):
            m.d.sync += [self.bytes_read.eq(0), self.error.eq(0)]

    def _deliver(self, m: Module, beats: Queue) -> None:
        beat = beats.o
        for client in (self.fetch_data, self.load_data):
            m.d.comb += [
                client.payload.data.eq(beat.payload.data),
                client.payload.last.eq(beat.payload.last),
            ]
        with m.If(self.abort):
            m.d.comb += beat.ready.eq(1)
        with m.Elif(beat.payload.load):
            m.d.comb += [self.load_data.valid.eq(beat.valid), beat.ready.eq(self.load_data.ready)]
        with m.Else():
            m.d.comb += [self.fetch_data.valid.eq(beat.valid), beat.ready.eq(self.fetch_data.ready)]
        return m
