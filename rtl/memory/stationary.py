"""The stationary scratchpad: int8 words for the array's weights, K, V and channel parameters."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from transept.golden.config import Config
from transept.rtl.interfaces import stat_read, stat_word, stat_write
from transept.rtl.memory.bank import Bank, Span, read_word

__all__ = ["StationaryScratchpad"]


class StationaryScratchpad(wiring.Component):
    """``cfg.memories.stat_words`` words of ``tile`` int8; one read and one write a cycle.

    Read data comes STAT_READ_LATENCY cycles after the request. The load engine waits for
    the epilogue's writes.

    Members
    -------
    gemm_read : In(stat_read), always ready
    gemm_write : In(stat_write), always ready
    load_write : In(stat_write)
    """

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        super().__init__(
            {
                "gemm_read": In(stat_read(cfg)),
                "gemm_write": In(stat_write(cfg)),
                "load_write": In(stat_write(cfg)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg, read, gemm, load = self._cfg, self.gemm_read, self.gemm_write, self.load_write
        m.submodules.bank = bank = Bank(
            stat_word(cfg), Span(0, cfg.memories.stat_words), addr_bits=len(read.addr)
        )
        m.d.comb += [
            gemm.ready.eq(1),
            load.ready.eq(~gemm.en),
            bank.write_en.eq(gemm.en | load.en),
            bank.write_addr.eq(load.addr),
            bank.write_data.eq(load.data),
            read.ready.eq(1),
            bank.read_en.eq(read.en),
            bank.read_addr.eq(read.addr),
        ]
        with m.If(gemm.en):
            m.d.comb += [bank.write_addr.eq(gemm.addr), bank.write_data.eq(gemm.data)]
        read_word(m, read, stat_word(cfg), [bank])
        return m
