"""The stationary scratchpad: int8 words for the array's weights, K, V and channel parameters."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from transept.golden.config import Config
from transept.rtl.interfaces import observation_layout, stat_read, stat_word, stat_write
from transept.rtl.memory.arbiter import PortArbiter
from transept.rtl.memory.bank import Bank, Span, read_word

__all__ = ["StationaryScratchpad"]


class StationaryScratchpad(wiring.Component):
    """``cfg.memories.stat_words`` words of ``tile`` int8; one read and one write a cycle.

    Read data comes STAT_READ_LATENCY cycles after the request is accepted. The store engine waits
    for the tiles and parameters that GEMM reads, the load engine for the epilogue's writes.

    Members
    -------
    gemm_read : In(stat_read), always ready; store_read : In(stat_read)
    gemm_write : In(stat_write), always ready; load_write : In(stat_write)
    observed : Out(always-ready stream of observation_layout), words written with ``observe``
    """

    observed: stream.Interface

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            {
                "gemm_read": In(stat_read(cfg)),
                "store_read": In(stat_read(cfg)),
                "gemm_write": In(stat_write(cfg)),
                "load_write": In(stat_write(cfg)),
                "observed": Out(stream.Signature(observation_layout(cfg), always_ready=True)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self._cfg
        m.submodules.reads = reads = PortArbiter(stat_read(cfg), 2, urgent=True)
        m.submodules.writes = writes = PortArbiter(stat_write(cfg), 2, urgent=True)
        read, write = reads.port, writes.port
        for number, name in enumerate(("gemm", "store")):
            connect(m, flipped(getattr(self, f"{name}_read")), reads.clients[number])
        for number, name in enumerate(("gemm", "load")):
            connect(m, flipped(getattr(self, f"{name}_write")), writes.clients[number])

        m.submodules.bank = bank = Bank(
            stat_word(cfg), Span(0, cfg.memories.stat_words), addr_bits=len(read.addr)
        )
        m.d.comb += [
            read.ready.eq(1),
            write.ready.eq(1),
            bank.read_en.eq(read.en),
            bank.read_addr.eq(read.addr),
            bank.write_en.eq(write.en),
            bank.write_addr.eq(write.addr),
            bank.write_data.eq(write.data),
        ]
        read_word(m, read, stat_word(cfg), [bank])
        seen = self.observed.payload
        m.d.comb += [
            self.observed.valid.eq(write.en & write.observe),
            seen.summary.eq(write.summary),
            seen.first.eq(write.first),
            seen.word.eq(write.data),
        ]
        return m
