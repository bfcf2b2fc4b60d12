"""The AXI4 write master of the store engine."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect

from transept.golden.config import Config
from transept.rtl.memory.bursts import BurstSplitter, address_channel, axi_write
from transept.rtl.memory.queue import Queue
from transept.rtl.memory.skid import Skid
from transept.rtl.memory.windows import request_layout

__all__ = ["WriteMaster"]


class WriteMaster(wiring.Component):
    """Writes the beats of each request as bursts; up to ``outstanding`` without a response.

    Addresses run ahead of data; one beat a cycle. ``done`` is high for one cycle after the last
    response of each request that was marked ``last``, in order.

    While ``abort`` is high no burst is added, neither requests nor data are accepted, and bursts
    under way are completed by beats without write strobes; once ``idle``, the client may be reset
    and ``abort`` released.

    Members
    -------
    request : In(stream of request_layout)
    data : In(stream of axi_data_bits), the beats of all requests
    axi : Out(axi_write)
    done : Out(1)
    abort : In(1)
    clear : In(1), zero ``bytes_written`` and ``error``
    idle : Out(1), no burst under way
    error : Out(1), sticky: a response was not OKAY
    bytes_written : Out(64)
    """

    def __init__(self, cfg: Config, *, outstanding: int = 8) -> None:
        self._cfg, self._outstanding = cfg, outstanding
        super().__init__(
            {
                "request": In(stream.Signature(request_layout())),
                "data": In(stream.Signature(cfg.memories.axi_data_bits)),
                "axi": Out(axi_write(cfg)),
                "done": Out(1),
                "abort": In(1),
                "clear": In(1),
                "idle": Out(1),
                "error": Out(1),
                "bytes_written": Out(64),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        splitter = BurstSplitter(self._cfg)
        m.submodules.bursts = ResetInserter(self.abort)(splitter)
        asked = Skid(request_layout())
        m.submodules.asked = ResetInserter(self.abort)(asked)
        connect(m, asked.o, splitter.i)
        m.d.comb += [
            asked.i.payload.eq(self.request.payload),
            asked.i.valid.eq(self.request.valid),
            self.request.ready.eq(asked.i.ready & ~self.abort),
        ]
        m.submodules.unwritten = unwritten = Queue(len(splitter.o.payload.count), self._outstanding)
        m.submodules.unanswered = unanswered = Queue(1, self._outstanding)
        self._issue(m, splitter, unwritten, unanswered)
        self._write(m, unwritten)
        self._answer(m, unanswered)
        # a burst is unanswered from the cycle in which its address is registered
        m.d.comb += self.idle.eq(~unanswered.o.valid)
        return m

    def _issue(
        self, m: Module, splitter: BurstSplitter, unwritten: Queue, unanswered: Queue
    ) -> None:
        axi, burst, issue = self.axi, splitter.o, Signal()
        address_channel(m, self._cfg, axi, "aw")
        m.d.comb += [
            # what comes in the first cycle of ``abort`` is dropped with the splitter's reset
            burst.ready.eq((~axi.awvalid | axi.awready) & unanswered.i.ready),
            issue.eq(burst.valid & burst.ready & ~self.abort),
            unwritten.i.payload.eq(burst.payload.count),
            unwritten.i.valid.eq(issue),
            unanswered.i.payload.eq(burst.payload.final),
            unanswered.i.valid.eq(issue),
        ]
        with m.If(axi.awready):
            m.d.sync += axi.awvalid.eq(0)
        with m.If(issue):
            m.d.sync += [
                axi.awvalid.eq(1),
                axi.awaddr.eq(burst.payload.address),
                axi.awlen.eq(burst.payload.count),
            ]

    def _write(self, m: Module, unwritten: Queue) -> None:
        axi, free, fill = self.axi, Signal(), Signal()
        beat = Signal.like(unwritten.o.payload)
        last = beat == unwritten.o.payload
        m.d.comb += [
            free.eq((~axi.wvalid | axi.wready) & unwritten.o.valid),
            self.data.ready.eq(free & ~self.abort),
            fill.eq(free & (self.data.valid | self.abort)),
            unwritten.o.ready.eq(fill & last),
        ]
        with m.If(axi.wready):
            m.d.sync += axi.wvalid.eq(0)
        with m.If(fill):
            m.d.sync += [
                axi.wvalid.eq(1),
                axi.wdata.eq(self.data.payload),
                axi.wstrb.eq(Mux(self.abort, 0, -1)),
                axi.wlast.eq(last),
                beat.eq(Mux(last, 0, beat + 1)),
            ]

    def _answer(self, m: Module, unanswered: Queue) -> None:
        axi = self.axi
        m.d.comb += [axi.bready.eq(1), unanswered.o.ready.eq(axi.bvalid)]
        m.d.sync += self.done.eq(axi.bvalid & unanswered.o.payload & ~self.abort)
        with m.If(axi.bvalid & (axi.bresp != 0)):
            m.d.sync += self.error.eq(1)
        with m.If(axi.wvalid & axi.wready & axi.wstrb[0]):
            m.d.sync += self.bytes_written.eq(self.bytes_written + self._cfg.axi_bytes)
        with m.If(self.clear):
            m.d.sync += [self.bytes_written.eq(0), self.error.eq(0)]
